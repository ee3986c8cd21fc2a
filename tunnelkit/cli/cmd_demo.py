"""``tunnelkit demo``: a whole tunnel on this machine, and what each party of it sees."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from tunnelkit.cli.demo_output import say_command, title
from tunnelkit.cli.demo_parties import (
    CHUNK,
    Parties,
    Party,
    fetch,
    fetch_command,
    free_ports,
    round_trip,
    run_command,
)
from tunnelkit.cli.demo_secure_proxy import SecureProxyDemo
from tunnelkit.cli.demo_wtls import WtlsDemo
from tunnelkit.errors import ConfigError, TunnelkitError
from tunnelkit.policy.identity import load_identity
from tunnelkit.wire.lstp import derive_common

LARGEST = 65_536
TUNNEL = "demo"
_DIRECTORY = "tunnelkit-demo"
_MOST_DEMOS = 99
PAGE = "Hello from the other side of two firewalls.\n"

PICTURE = """\
   here                             outside                    there

   curl                                                        web server {web}
     |                                                           ^
     v                                                           |
   client end  =================>   middle   <===============  server end
   named laptop                     {middle:<24}   named office
   SOCKS    {socks:<21}   has no key                 may reach {web}
   forward  {forward:<21}                              and nothing else

        |<------------- TLS 1.3, both ends authenticated ------------->|"""


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help="a whole tunnel on this machine, and what each party of it sees",
        description="Starts a web server, a middle and two ends with throw-away keys, fetches a "
        "page and a file through the tunnel, and shows each command. In a terminal it stays up "
        "until Ctrl-C.",
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=["tunnel", "secure-proxy", "wtls"],
        default="tunnel",
        help="secure-proxy: clients and a browser through one port; wtls: a CoAP device, an "
        "operator's proxy and a domain proxy (default: tunnel)",
    )
    parser.add_argument(
        "--size", metavar="MIB", default="32", help="size of the file (default: 32)"
    )


def run(args: argparse.Namespace) -> int:
    """Show the demo; the exit status."""
    size = str(args.size)
    if not (size.isascii() and size.isdigit() and len(size) <= 5 and 0 < int(size) <= LARGEST):
        raise ConfigError(f"--size {size!a}: expected a number of MiB from 1 to {LARGEST}")
    directory = demo_directory()
    try:
        with Parties(directory) as parties:
            demo: _Demo | SecureProxyDemo | WtlsDemo = _Demo(parties, int(size))
            if args.what == "secure-proxy":
                demo = SecureProxyDemo(parties)
            elif args.what == "wtls":
                demo = WtlsDemo(parties)
            demo.show(stay=sys.stdout.isatty())
    except KeyboardInterrupt:
        print("\nEnded; nothing is left behind.")
    except BrokenPipeError:
        raise  # whoever read along has seen enough
    except (TunnelkitError, OSError) as error:
        print(f"tunnelkit demo: {error}", file=sys.stderr)
        return 1
    return 0


def demo_directory() -> Path:
    """A new directory whose name is the same each time, unless another demo runs (row Q11)."""
    for number in range(1, _MOST_DEMOS + 1):
        path = Path(tempfile.gettempdir(), f"{_DIRECTORY}-{number}" if number > 1 else _DIRECTORY)
        # Made here or not taken: what somebody else has put there is left alone.
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            return path
    return Path(tempfile.mkdtemp(prefix=f"{_DIRECTORY}-"))


@attrs.frozen
class _Places:
    """Addresses of the parties."""

    web: str
    middle: str
    socks: str
    forward: str
    page: str

    @staticmethod
    def choose() -> _Places:
        return _Places(*(f"127.0.0.1:{port}" for port in free_ports(5)))


class _Demo:
    """What is shown, in order."""

    def __init__(self, parties: Parties, size: int) -> None:
        self._parties = parties
        self._size = size
        self._directory = parties.directory
        self._keys = self._directory / "keys"
        self._places = _Places.choose()
        self._digest = ""
        self._token_file = self._directory / "page.token"

    def show(self, stay: bool) -> None:
        """Everything, from keys to the end."""
        self._say_picture()
        self._make_keys()
        middle, client = self._start()
        self._fetch_page()
        self._fetch_file()
        client.end()
        self._say_what_the_middle_saw(middle)
        if stay:
            self._stay()

    # -- steps ------------------------------------------------------------

    def _say_picture(self) -> None:
        places = self._places
        print(f"This takes some 15 seconds; a file of {self._size} MiB goes each way.")
        print(
            PICTURE.format(
                web=places.web, middle=places.middle, socks=places.socks, forward=places.forward
            )
        )

    def _make_keys(self) -> None:
        title("Keys: a private CA, and one file for each end")
        for command in (
            ["tunnelkit", "keys", "init", "--dir", str(self._keys)],
            ["tunnelkit", "keys", "issue", "office", "--dir", str(self._keys)],
            ["tunnelkit", "keys", "issue", "laptop", "--dir", str(self._keys)],
        ):
            say_command(command)
            run_command(command)

    def _start(self) -> tuple[Party, Party]:
        places = self._places
        www = self._directory / "www"
        www.mkdir()
        (www / "hello.txt").write_text(PAGE)
        self._digest = _make_file(www / "file", self._size)

        title("The web server that is to be reached")
        host, _, port = places.web.partition(":")
        self._begin(
            "web server",
            ["python3", "-m", "http.server", port, "--bind", host, "--directory", str(www)],
            "Serving HTTP",
        )
        title("The middle, outside both firewalls: no key, no trust")
        middle = self._begin(
            "middle", ["tunnelkit", "middle", "--listen", places.middle, "--name", "middle"]
        )
        title("The server end: may reach one port, for one peer")
        common = ["--middle", places.middle, "--tunnel", TUNNEL]
        self._begin(
            "server end",
            [
                *("tunnelkit", "server", *common),
                *("--identity", str(self._keys / "office.pem")),
                *("--peer", "laptop", "--allow", f"tcp:{places.web}"),
            ],
        )
        title("The client end: SOCKS, and a port that leads straight there")
        return middle, self._begin("client end", self._client_command())

    def _client_command(self) -> list[str]:
        places = self._places
        return [
            *("tunnelkit", "client", "--middle", places.middle),
            *("--tunnel", TUNNEL, "--identity", str(self._keys / "laptop.pem")),
            *("--peer", "office", "--socks", places.socks),
            *("--forward", f"{places.forward}=tcp:{places.web}"),
            *("--status", places.page, "--status-token-file", str(self._token_file)),
        ]

    def _begin(self, name: str, command: Sequence[str], ready: str = "READY .*") -> Party:
        say_command(command)
        party = self._parties.start(name, command)
        said = party.wait_for(ready)
        if "READY" in said[0]:
            print(f"    {said[0]}")
        return party

    def _fetch_page(self) -> None:
        title("A page, both ways")
        file = self._directory / "page"
        places = self._places
        for url, socks in (
            (f"http://{places.forward}/hello.txt", ""),
            (f"http://{places.web}/hello.txt", places.socks),
        ):
            say_command(fetch_command(url, file, socks))
            fetch(url, file, socks)
            text = file.read_text()
            if text != PAGE:
                raise TunnelkitError(f"{url} arrived changed: {text!a}")
            print(f"    {text.strip()}")

    def _fetch_file(self) -> None:
        title(f"A file of {self._size} MiB, both ways, and its hash")
        places = self._places
        file = self._directory / "fetched"
        rates = {}
        for way, url, socks in (
            ("forward", f"http://{places.forward}/file", ""),
            ("SOCKS", f"http://{places.web}/file", places.socks),
            ("no tunnel", f"http://{places.web}/file", ""),
        ):
            if way != "no tunnel":
                say_command(fetch_command(url, file, socks))
            seconds = fetch(url, file, socks)
            found = _hash(file)
            if found != self._digest:
                raise TunnelkitError(f"the file arrived changed: {found}, not {self._digest}")
            rates[way] = self._size / seconds
            if way != "no tunnel":
                print(
                    f"    {seconds:.2f} s, {rates[way]:,.0f} MiB/s, sha256 {found[:16]}... as sent"
                )
        file.unlink()
        direct, tunnelled = (_port(place) for place in (places.web, places.forward))
        print(
            f"    without the tunnel: {rates['no tunnel']:,.0f} MiB/s\n"
            f"    a small request on a new connection: {round_trip(tunnelled) * 1000:.1f} ms, "
            f"without the tunnel {round_trip(direct) * 1000:.1f} ms (median)"
        )

    def _say_what_the_middle_saw(self, middle: Party) -> None:
        begun = middle.wait_for(r"Pair 1 begins: (\S+)(?: \S+)? and (\S+)")
        ended = middle.wait_for(r"Pair 1 ended: .*?(\d+) and (\d+) bytes")
        identity = load_identity(self._keys / "laptop.pem")
        common = derive_common(identity.rendezvous_secret, TUNNEL)
        first, second = (int(number) for number in ended.groups())
        title("What the middle could see of all this")
        print(
            f"    names      office (server-end) and laptop (client-end)\n"
            f"    addresses  {begun[1]} and {begun[2]}\n"
            f"    meeting    {common}\n"
            f"               an HMAC of the tunnel's name: it cannot be guessed without the keys\n"
            f"    bytes      {first:,} one way and {second:,} the other, and when\n"
            f"    contents   TLS 1.3 records: not the page, not the file, not even which server"
        )

    def _stay(self) -> None:
        client = self._parties.start("client end", self._client_command())
        client.wait_for("READY")
        title("It is up again: try it yourself, Ctrl-C ends it")
        places = self._places
        print(
            f"    curl http://{places.forward}/hello.txt\n"
            f"    curl --socks5-hostname {places.socks} http://{places.web}/hello.txt\n\n"
            "  Its page, for a browser: who uses the tunnel, how much, and a way to end it\n"
            f"    http://{places.page}/#{self._token_file.read_text(encoding='ascii').strip()}",
            flush=True,
        )
        while True:
            signal.pause()


# -- files -----------------------------------------------------


def _port(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host, int(port)


def _make_file(file: Path, mib: int) -> str:
    """Write a file whose every MiB differs; its SHA-256."""
    block = hashlib.shake_128(b"tunnelkit").digest(CHUNK - 8)
    digest = hashlib.sha256()
    with file.open("wb") as out:
        for number in range(mib):
            piece = number.to_bytes(8, "big") + block
            out.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def _hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while piece := data.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
