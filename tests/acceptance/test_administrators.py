"""What administrators see at a Communication Server's one port, and who does not (S8, X15)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.acceptance.browser import Browser
from tests.acceptance.communication import POLICY, SERVER, Communication, Names, start_server
from tests.acceptance.processes import Identities, Processes
from tests.acceptance.wtls import private_file

ADMINISTRATORS = """
[clients.boss]
admin = true

[clients.other]
admin = true
"""
SECRET = "correct horse"


@attrs.frozen
class Port:
    """The one port, asked with curl."""

    server: Communication

    def ask(self, path: str, *options: object, host: str = SERVER) -> tuple[int, str]:
        """Status and body; 0: there was no answer."""
        where = host or "127.0.0.1"
        done = subprocess.run(
            ["curl", "--silent", "--insecure", "--max-time", "20", "-w", "%{http_code}",
             *(Names(self.server.port)(host) if host else ()), *map(str, options),
             f"https://{where}:{self.server.port}{path}"],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        return int(done.stdout[-3:]), done.stdout[:-3]

    def log_in(self, name: str, secret: str) -> tuple[int, str]:
        return self.ask("/metrics", "--user", f"{name}:{secret}")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, identities: Identities) -> Iterator[Port]:
    """One server for all: nothing that is asked changes it."""
    with Processes(tmp_path_factory.mktemp("administrators")) as processes:
        secrets = f"boss:{SECRET}\nclient:another one\nguest:a third one\n"
        logins = private_file(processes.directory, "logins", secrets)
        policy = POLICY + ADMINISTRATORS
        yield Port(start_server(processes, identities, "--login-file", logins, policy=policy))


def test_an_administrator_comes_by_certificate_login_or_secret(
    port: Port, identities: Identities
) -> None:
    shown = ("--cert", identities("other"))
    status, metrics = port.ask("/metrics", *shown)
    assert status == 200
    assert 'tunnelkit_clients_present{role="secure-proxy-server"} 0\n' in metrics
    accept = ("-H", "Accept: application/openmetrics-text; version=1.0.0")
    assert port.ask("/metrics", *shown, *accept)[1].endswith("# EOF\n")
    status, state = port.ask("/status.json", *shown)
    assert (status, json.loads(state)["role"]) == (200, "secure-proxy-server")
    assert port.ask("/nothing", *shown)[0] == 404
    assert "<html" in port.ask("/", *shown)[1]
    assert port.log_in("boss", SECRET)[0] == 200
    assert port.ask("/metrics", "-H", f"Authorization: Bearer {SECRET}")[0] == 200


def test_everybody_else_gets_health_and_nothing_more(port: Port, identities: Identities) -> None:
    assert port.ask("/healthz") == (200, "ok\n")
    status, said = port.ask("/metrics", "-i")
    assert status == 401
    assert "www-authenticate: basic realm=" in said.lower()
    assert "tunnelkit_" not in said
    # Known, and no administrator.
    assert port.ask("/metrics", "--cert", identities("client"))[0] == 403
    port.server.role.wait_for("decision who=client action=administrate .*allowed=False")
    assert port.log_in("client", "another one")[0] == 403
    for words in (
        ("--user", f"other:{SECRET}"),
        ("--user", "boss:wrong"),
        ("-H", "Authorization: Basic !"),
        ("-H", "Authorization: Bearer wrong"),
        ("-H", f"Authorization: Digest {SECRET}"),
        ("-H", f"Cookie: token={SECRET}"),
        (
            "--user",
            f"boss:{SECRET}",
            "-H",
            f"Authorization: Bearer {SECRET}",
            "-H",
            "Authorization: x",
        ),
    ):
        status, said = port.ask("/status.json", *words)
        assert status in (401, 403), words
        assert "secure-proxy-server" not in said
    # Who says no name gets health alone; another page's requests are refused, known or not.
    assert port.ask("/metrics", "--user", f"boss:{SECRET}", host="")[0] == 404
    for field in ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site"):
        assert port.ask("/metrics", "--user", f"boss:{SECRET}", "-H", field)[0] == 403
    body = ("--data-binary", "x" * 5000)
    assert port.ask("/metrics", "--user", f"boss:{SECRET}", *body)[0] in (0, 413)


def test_the_page_lives_on_the_login_that_it_was_opened_with(port: Port, tmp_path: Path) -> None:
    where = f"{SERVER}:{port.server.port}"
    browser = Browser(
        tmp_path, f"--host-resolver-rules=MAP {SERVER} 127.0.0.1", "--ignore-certificate-errors"
    )
    try:
        page = browser.page()
        page.open(f"https://boss:{SECRET.replace(' ', '%20')}@{where}/")
        page.wait_for("document.body && document.body.dataset.first")
        page.wait_for_text("secure-proxy-server")
    finally:
        browser.close()


def test_a_certificate_of_somebody_else_ends_the_handshake(port: Port, tmp_path: Path) -> None:
    strangers = Identities.create(tmp_path / "others")
    assert port.ask("/metrics", "--cert", strangers("boss"))[0] == 0


def test_passwords_cannot_be_tried_for_long(port: Port) -> None:
    answers = [port.log_in("guest", f"wrong {number}")[0] for number in range(12)]
    assert answers[0] == 401
    assert answers[-1] == 429
    assert answers == sorted(answers)
    # The right one cannot be told from the others then.
    assert port.log_in("guest", "a third one")[0] == 429
    assert port.log_in("boss", SECRET)[0] == 200


def test_an_administrator_who_is_revoked_is_one_no_more(
    processes: Processes, tmp_path: Path
) -> None:
    identities = Identities.create(tmp_path / "keys")
    boss = identities("boss")
    server = start_server(
        processes, identities, "--crl", identities.revoked, policy=POLICY + ADMINISTRATORS
    )
    port = Port(server)
    assert port.ask("/metrics", "--cert", boss)[0] == 200
    identities.revoke("boss")
    port.server.role.wait_for("read again")
    assert port.ask("/metrics", "--cert", boss)[0] == 0
