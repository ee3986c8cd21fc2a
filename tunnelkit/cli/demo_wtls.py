"""``tunnelkit demo wtls``: a device, its operator's proxy and a domain proxy, on this machine."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from tunnelkit.cli.demo_output import say_command, title
from tunnelkit.cli.demo_parties import Parties, Party, free_ports, run_command
from tunnelkit.errors import TunnelkitError

PAGE = "The weather is fine.\n"
SECRET = "The balance is 7.\n"
CLIENTS = ("coap-client-openssl", "coap-client-gnutls")
SECURE_URL = "https://bank.example/account.txt"

PICTURE = """\
   device --- DTLS, CoAP ---> operator's proxy ---------------> web server
   from port {port:<5}            {operator:<18}            {web}
                              reads this
                                    |
                                    | unopened
                                    v
                              domain proxy -------------------> secure server
                              {domain:<18}            {bank}

   |<-- second handshake: end to end with the domain proxy -->|"""


@attrs.frozen
class _Places:
    web: str
    bank: str
    operator: str
    domain: str
    device: int

    @staticmethod
    def choose() -> _Places:
        ports = free_ports(5)
        web, bank, operator, domain = (f"127.0.0.1:{port}" for port in ports[:4])
        return _Places(web, bank, operator, domain, ports[4])


class WtlsDemo:
    """What is shown, in order."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties
        self._directory = parties.directory
        self._places = _Places.choose()

    def show(self, stay: bool) -> None:
        """Everything, from keys to the end."""
        places = self._places
        print(
            PICTURE.format(
                port=places.device,
                operator=places.operator,
                web=places.web,
                domain=places.domain,
                bank=places.bank,
            )
        )
        self._make_keys()
        operator = self._start()
        self._ask(operator)
        self._say_what_the_operator_saw(operator)
        if stay:
            self._stay()

    # -- steps ------------------------------------------------------------

    def _make_keys(self) -> None:
        title("Keys: the operator and the bank have a CA each")
        for owner, name in (("operator", "proxy"), ("bank", "door")):
            keys = str(self._directory / owner)
            for words in (["init"], ["issue", name]):
                command = ["tunnelkit", "keys", *words, "--dir", keys]
                say_command(command)
                run_command(command)
        print("    and a map key, which the two proxies share")
        key = secrets.token_hex(32)
        self._private("map.key", key)
        self._private("map.keys", f"{self._places.domain} {key}")

    def _start(self) -> Party:
        places, directory = self._places, self._directory
        title("Two web servers: an ordinary one, and the bank's behind the domain proxy")
        for name, place, file, text in (
            ("web server", places.web, "weather.txt", PAGE),
            ("bank", places.bank, "account.txt", SECRET),
        ):
            www = directory / f"www-{file.removesuffix('.txt')}"
            www.mkdir()
            (www / file).write_text(text)
            host, _, port = place.partition(":")
            command = ["python3", "-m", "http.server", port, "--bind", host]
            self._begin(name, [*command, "--directory", str(www)], "Serving HTTP")
        title("The domain proxy, at the bank's door")
        self._begin("domain proxy", [
            "tunnelkit", "wtls-domain-proxy", "--listen", places.domain,
            "--identity", str(directory / "bank" / "door.pem"),
            "--origin", f"bank.example=http://{places.bank}",
            "--map-key-file", str(directory / "map.key"),
        ])  # fmt: skip
        title("The operator's proxy: may fetch from one web server, and knows who serves the bank")
        return self._begin("operator's proxy", [
            "tunnelkit", "wtls-proxy", "--listen", places.operator,
            "--identity", str(directory / "operator" / "proxy.pem"),
            "--secure", f"bank.example={places.domain}",
            "--map-key-file", str(directory / "map.keys"),
            "--allow", f"tcp:{places.web}",
        ])  # fmt: skip

    def _ask(self, operator: Party) -> None:
        title("The device asks for an ordinary page; the operator fetches it, and can read it")
        self._expect(f"http://{self._places.web}/weather.txt", "operator", PAGE)
        title("It asks for the bank, and is told to come again")
        self._expect(SECURE_URL, "operator", "5.03 ")
        title("It comes again, from the same port, and trusts only the bank's CA for this")
        self._expect(SECURE_URL, "bank", SECRET)
        operator.wait_for("the domain proxy ended it")

    def _expect(self, url: str, trusted: str, expected: str) -> None:
        command = self._device_command(url, self._directory / trusted / "ca.pem")
        say_command(command)
        words = [sys.executable, *command[1:]] if command[0] == "python3" else command
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        said = (done.stdout + done.stderr).strip()
        if not said.startswith(expected.rstrip("\n")):
            raise TunnelkitError(f"the device was answered {said[:200]!a}, not {expected!a}")
        print(f"    {said}")

    def _device_command(self, url: str, ca: Path) -> list[str]:
        places = self._places
        program = next((each for each in CLIENTS if shutil.which(each)), None)
        if program is None:
            module = ["python3", "-m", "tunnelkit.cli.demo_device"]
            return [*module, places.operator, str(ca), str(places.device), url]
        return [
            program, "-p", str(places.device), "-v", "3", "-B", "30",
            "-R", str(ca), "-P", f"coaps://{places.operator}", url,
        ]  # fmt: skip

    def _say_what_the_operator_saw(self, operator: Party) -> None:
        places = self._places
        fetched = operator.wait_for(rf"destination=tcp:{places.web} sent=(\d+)")
        passed = operator.wait_for(rf"destination=udp:{places.domain} sent=(\d+) received=(\d+)")
        title("What the operator could see of all this")
        print(
            f"    the weather   all {fetched[1]} bytes of the page\n"
            f"    the bank      the URL in the first request, and then DTLS records: "
            f"{passed[1]} bytes one way,\n"
            f"                  {passed[2]} the other; not the page, whose key only the device and "
            "the domain proxy have"
        )

    def _stay(self) -> None:
        title("It is still up: try it yourself, Ctrl-C ends it")
        url = f"http://{self._places.web}/weather.txt"
        say_command(self._device_command(url, self._directory / "operator" / "ca.pem"))
        while True:
            signal.pause()

    # -- helpers ----------------------------------------------------------

    def _begin(self, name: str, command: Sequence[str], ready: str = "READY .*") -> Party:
        say_command(command)
        party = self._parties.start(name, command)
        said = party.wait_for(ready)
        if "READY" in said[0]:
            print(f"    {said[0]}")
        return party

    def _private(self, name: str, text: str) -> None:
        file = self._directory / name
        file.touch(mode=0o600)
        file.write_text(text + "\n")
