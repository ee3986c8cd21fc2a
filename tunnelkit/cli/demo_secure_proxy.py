"""``tunnelkit demo secure-proxy``: one port through which clients and browsers get in by name."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import attrs

from tunnelkit.cli.demo_output import say_command, title
from tunnelkit.cli.demo_parties import Parties, Party, fetch, fetch_command, free_ports, run_command
from tunnelkit.errors import TunnelkitError

PAGE = "Hello from inside, by name.\n"
SITE_PAGE = "Hello from a site inside, with its own certificate.\n"
SERVER = "relay.example"
SITE = "site.example"
POLICY = f"""\
[clients.office]
publish = ["tunnel", "pass:{SITE}"]

[clients.laptop]
connect = ["office/tunnel"]
"""

PICTURE = """\
   here                       one port, outside               there

   laptop  ==============>                      <===========  office
   forward {forward:<16}    Communication Server           may reach {web}
                              {server:<18}
   a browser  ===========>    has no key        <===========  https://{site}
                                                              {inside}"""


@attrs.frozen
class _Places:
    web: str
    inside: str
    server: str
    forward: str

    @staticmethod
    def choose() -> _Places:
        return _Places(*(f"127.0.0.1:{port}" for port in free_ports(4)))


class SecureProxyDemo:
    """What is shown, in order."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties
        self._directory = parties.directory
        self._keys = self._directory / "keys"
        self._places = _Places.choose()

    def show(self, stay: bool) -> None:
        """Everything, from keys to the end."""
        print(PICTURE.format(site=SITE, **attrs.asdict(self._places)))
        self._make_keys()
        server = self._start()
        self._fetch_by_name()
        self._browse()
        self._say_what_the_server_saw(server)
        if stay:
            title("It is still up: try it yourself, Ctrl-C ends it")
            say_command(fetch_command(f"http://{self._places.forward}/hello.txt", Path("-")))
            while True:
                signal.pause()

    # -- steps ------------------------------------------------------------

    def _make_keys(self) -> None:
        title("Keys: a CA for the server and its clients, another one for the web site")
        keys, others = str(self._keys), str(self._directory / "site-keys")
        for words in (
            ["init", "--dir", keys],
            *(["issue", name, "--dir", keys] for name in (SERVER, "office", "laptop")),
            ["init", "--dir", others],
            ["issue", SITE, "--dir", others],
        ):
            command = ["tunnelkit", "keys", *words]
            say_command(command)
            run_command(command)
        title("The policy: what it does not allow is refused")
        (self._directory / "policy.toml").write_text(POLICY)
        print("    " + POLICY.rstrip().replace("\n", "\n    "))

    def _start(self) -> Party:
        places, directory = self._places, self._directory
        title("Inside: a web server, and a site that speaks HTTPS")
        for name, text in (("www", PAGE), ("site", SITE_PAGE)):
            (directory / name).mkdir()
            (directory / name / "hello.txt").write_text(text)
        host, _, port = places.web.partition(":")
        self._begin("web server", ["python3", "-m", "http.server", port, "--bind", host,
            "--directory", str(directory / "www")], "Serving HTTP")  # fmt: skip
        self._begin("site", ["python3", "-m", "tunnelkit.cli.demo_site", places.inside,
            str(directory / "site-keys" / f"{SITE}.pem"), str(directory / "site")],
            "Serving HTTPS")  # fmt: skip
        title("The Communication Server")
        server = self._begin("server", [
            "tunnelkit", "secure-proxy-server", "--listen", places.server,
            "--identity", str(self._keys / f"{SERVER}.pem"),
            "--policy", str(directory / "policy.toml")])  # fmt: skip
        client = ["tunnelkit", "secure-proxy-client", "--server", places.server,
            "--server-name", SERVER]  # fmt: skip
        title("The office: dials out, and lets others reach two things, by name")
        self._begin("office", [*client, "--identity", str(self._keys / "office.pem"),
            "--publish", "tunnel", "--publish", f"pass:{SITE}=tcp:{places.inside}",
            "--allow", f"tcp:{places.web}", "--allow", f"tcp:{places.inside}"])  # fmt: skip
        server.wait_for(f"publish what=pass:{SITE} allowed=True")
        title("The laptop: asks for the office")
        self._begin("laptop", [*client, "--identity", str(self._keys / "laptop.pem"),
            "--target", "office", "--forward", f"{places.forward}=tcp:{places.web}"])  # fmt: skip
        return server

    def _fetch_by_name(self) -> None:
        title("The laptop fetches a page from the office")
        url, file = f"http://{self._places.forward}/hello.txt", self._directory / "page"
        say_command(fetch_command(url, Path("-")))
        fetch(url, file)
        self._expect(file.read_text(), PAGE)

    def _browse(self) -> None:
        title(
            "A browser, here curl, opens the site: nothing is installed, the site's own CA counts"
        )
        authority = self._directory / "site-ca.pem"
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        identity = (self._directory / "site-keys" / f"{SITE}.pem").read_text()
        authority.write_text(f"{begin}{identity.split(begin)[2].split(end)[0]}{end}\n")
        host, _, port = self._places.server.partition(":")
        url = f"https://{SITE}:{port}/hello.txt"
        command = ["curl", "--silent", "--show-error", "--cacert", str(authority),
            "--resolve", f"{SITE}:{port}:{host}", url]  # fmt: skip
        say_command(command)
        if shutil.which("curl") is not None:
            self._expect(run_command(command), SITE_PAGE)
        else:
            self._expect(_fetch_https((host, int(port)), authority), SITE_PAGE)

    def _say_what_the_server_saw(self, server: Party) -> None:
        passed = server.wait_for(
            rf"session-end .*resource=pass:{re.escape(SITE)} .*sent=(\d+) received=(\d+)"
        )
        title("What the Communication Server could see of all this")
        print(
            "    laptop asked for office, and a browser for "
            f"{SITE}; who, when, from where, how much:\n"
            f"    the browser's TLS was {passed[1]} bytes one way and {passed[2]} the other, "
            "whose keys it has not"
        )

    # -- helpers ----------------------------------------------------------

    def _expect(self, said: str, expected: str) -> None:
        if said.strip() != expected.strip():
            raise TunnelkitError(f"the answer was {said[:200]!a}, not {expected!a}")
        print(f"    {expected.strip()}")

    def _begin(self, name: str, command: Sequence[str], ready: str = "READY .*") -> Party:
        say_command(command)
        party = self._parties.start(name, command)
        said = party.wait_for(ready)
        if "READY" in said[0]:
            print(f"    {said[0]}")
        return party


def _fetch_https(address: tuple[str, int], authority: Path) -> str:
    """The page of the site, as curl would fetch it."""
    context = ssl.create_default_context(cafile=str(authority))
    with (
        socket.create_connection(address, timeout=20) as sock,
        context.wrap_socket(sock, server_hostname=SITE) as tls,
    ):
        tls.sendall(f"GET /hello.txt HTTP/1.0\r\nHost: {SITE}\r\n\r\n".encode())
        answer = b""
        while data := tls.recv(65536):
            answer += data
    return answer.partition(b"\r\n\r\n")[2].decode()
