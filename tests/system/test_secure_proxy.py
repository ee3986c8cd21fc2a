"""Two companies that get out by CONNECT to port 443 only, and find each other by name (S1, S2, S6,
S10): programs over it are in test_programs.py and test_x11.py."""

from __future__ import annotations

import base64
import hashlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.acceptance.communication import HttpsSite
from tests.acceptance.processes import Role
from tests.acceptance.test_lstp_what_the_middle_sees import record_types
from tests.system.capture import streams
from tests.system.crossings import (
    Running,
    client_options,
    communication_server,
    start_secure_proxy,
)
from tests.system.laboratory import MIDDLE_PORT, MIDDLES, RESOLVER, WIKI, WIKI_NAME, Laboratory
from tests.system.places import Place
from tests.system.seen import SECRETS, packets_of_a_fetch
from tests.system.services import EVERYTHING, HEADING, HTTP, MIB, Services

ADDRESS = MIDDLES[0]
SITE, APP = "site.example", "app.example"


def authority_of(identity: Path) -> str:
    """The CA in an identity file."""
    begin = "-----BEGIN CERTIFICATE-----"
    return begin + identity.read_text().split(begin)[2].partition("-----BEGIN TUNNELKIT")[0]


def pin_of(file: Path) -> str:
    """What tells its key from another one's."""
    key = x509.load_pem_x509_certificate(file.read_bytes()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


@attrs.frozen
class Published:
    """A site of company A by pass-through, and its wiki as a vhost."""

    server: Role
    publisher: Role
    site: HttpsSite
    app: Path
    """The server's certificate for the wiki, with key and CA."""


@pytest.fixture
def published(
    lab: Laboratory, running: Running, services: Services, tmp_path: Path
) -> Iterator[Published]:
    app = running.identities(APP)
    server = communication_server(running, "--certificate", app)
    site = lab.company_a.call(lambda: HttpsSite(tmp_path, SITE))
    publisher = running.at(lab.company_a).role(
        "secure-proxy-client",
        *client_options(running, lab.company_a, "office"),
        *("--publish", f"pass:{SITE}=tcp:127.0.0.1:{site.port}"),
        *("--allow", f"tcp:127.0.0.1:{site.port}"),
        *("--publish", f"web:{APP}=http://{WIKI}:80", "--allow", HTTP),
    )
    server.wait_for(f"action=publish what=web:{APP} allowed=True")
    yield Published(server, publisher, site, app)
    site.close()


def chromium(place: Place, home: Path, host: str, pin: str, path: str) -> str:
    """What a visitor in the internet is shown, if the key that is shown is the one with ``pin``."""
    home.mkdir()
    shown = place.run(
        [
            *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-breakpad"),
            *("--disable-background-networking", "--no-first-run", f"--user-data-dir={home}"),
            *("--no-proxy-server", f"--ignore-certificate-errors-spki-list={pin}"),
            f"--host-resolver-rules=MAP {host} {ADDRESS}",
            *("--dump-dom", f"https://{host}/{path}"),
        ]
    )
    return shown.stdout


def firefox(place: Place, home: Path, host: str, authority: str, path: str, picture: Path) -> None:
    """Take a picture of a page; only the CA that is given can have issued the certificate."""
    home.mkdir()
    (home / "ca.pem").write_text(authority)
    keys = ["certutil", "-d", f"sql:{home}"]
    add = ["-A", "-n", "site", "-t", "C,,", "-i", str(home / "ca.pem")]
    for command in (["-N", "--empty-password"], add):
        subprocess.run([*keys, *command], check=True, timeout=20)
    settings = {
        "network.dns.forceResolve": f'"{ADDRESS}"',
        "network.proxy.type": "0",
        "browser.shell.checkDefaultBrowser": "false",
        "datareporting.policy.dataSubmissionEnabled": "false",
        "app.update.enabled": "false",
    }
    lines = [f'user_pref("{name}", {value});\n' for name, value in settings.items()]
    (home / "user.js").write_text("".join(lines))
    picture.unlink(missing_ok=True)
    place.run(
        [
            *("firefox-esr", "--headless", "--no-remote", "--profile", home),
            *("--screenshot", picture, f"https://{host}/{path}"),
        ],
        env={"HOME": str(home), "MOZ_HEADLESS_WIDTH": "600"},
    )
    assert picture.stat().st_size > 1000


def test_browsers_open_a_site_inside_with_the_sites_own_certificate(
    lab: Laboratory, published: Published, tmp_path: Path, output: Path
) -> None:
    site = published.site
    dropped = lab.counters()
    shown = chromium(lab.internet, tmp_path / "chromium", SITE, site.pin, "")
    assert f"this is {SITE}" in shown
    before = site.asked
    picture = output / "firefox-pass-through.png"
    firefox(lab.internet, tmp_path / "firefox", SITE, site.authority.read_text(), "", picture)
    assert site.asked > before, "Firefox asks only who shows a certificate of that CA"
    assert lab.counters() == dropped
    other = pin_of(published.app)
    assert f"this is {SITE}" not in chromium(lab.internet, tmp_path / "other", SITE, other, "")


def test_browsers_open_a_service_inside_under_the_servers_certificate(
    lab: Laboratory, published: Published, services: Services, tmp_path: Path, output: Path
) -> None:
    pin = pin_of(published.app)
    shown = chromium(lab.internet, tmp_path / "chromium", APP, pin, "page.html")
    assert f"<h1>{HEADING}</h1>" in shown
    served = '"GET /page.html HTTP/1.1" 200'
    before = services.processes.logs().count(served)
    picture = output / "firefox-vhost.png"
    authority = authority_of(published.app)
    firefox(lab.internet, tmp_path / "firefox", APP, authority, "page.html", picture)
    assert services.processes.logs().count(served) > before


def open_ports(address: str, ports: Sequence[int]) -> list[int]:
    """Those that take a connection."""
    found = []
    for port in ports:
        with socket.socket() as probe:
            # Another address: a socket that met its own port would be connected to itself.
            probe.bind((MIDDLES[1], 0))
            probe.settimeout(5)
            if probe.connect_ex((address, port)) == 0:
                found.append(port)
    return found


def test_a_scan_of_all_ports_shows_one(lab: Laboratory, published: Published) -> None:
    found = lab.internet.call(lambda: open_ports(ADDRESS, range(1, 65536)))
    assert found == [MIDDLE_PORT]


def test_the_internet_sees_nothing_but_tls(
    lab: Laboratory, running: Running, services: Services
) -> None:
    size = 2 * MIB
    packets = packets_of_a_fetch(lab, running, services, start_secure_proxy, size)
    assert {packet.protocol for packet in packets} == {6}
    one_port = (ADDRESS, MIDDLE_PORT)
    parties = {packet.source for packet in packets} | {packet.destination for packet in packets}
    assert {address for address, _ in parties - {one_port}} == {"198.51.100.2", lab.leg.far_address}
    found = streams(packets)
    assert max(map(len, found.values())) > size
    for stream in found.values():
        assert record_types(stream)
        for secret in SECRETS:
            assert secret not in stream


def test_datagrams_go_by_name_through_the_one_port(
    lab: Laboratory, running: Running, services: Services
) -> None:
    crossing = start_secure_proxy(
        running, [*EVERYTHING, f"udp:{RESOLVER}:53"], [f"udp:{RESOLVER}:53"]
    )
    host, port = crossing.forward()
    dig = ["dig", "+short", "+tries=1", "+time=5", "+notcp", f"@{host}", "-p", port, WIKI_NAME]
    assert lab.company_b.run(dig).stdout.split() == [WIKI]
    assert {name for name, _ in _peers(crossing.between[0])} == {"laptop", "office"}


def _peers(server: Role) -> list[tuple[str, str]]:
    """Who asked for whom."""
    found = server.wait_for(r"session-open .*who=(\S+) target=(\S+)")
    return [(found[1], "initiator"), (found[2], "target")]
