"""DTLS devices: handshakes, memory of idle associations, datagrams a second in tunnel mode.

Many devices shake hands with an operator's proxy, each from an address and port of its own on
loopback, and stay: CPU and memory of the proxy are divided by their number. Then one device sends
datagrams through tunnel mode to a domain proxy that is an echo, beside an ordinary UDP forward
through the same kind of tunnel; so many are on the way at any time.
"""

from __future__ import annotations

import argparse
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificate

from bench.memory import settle
from bench.own import issue_identities, start_lstp_middle, start_role
from bench.parties import Parties, PartyFailed, Place, prepared
from bench.report import as_json, median, number, table, verdict
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.tls.dtls_engine import DtlsEngine
from tunnelkit.wire.dtls_records import ClientHello, Kind, classify, hello_verify_request
from tunnelkit.wire.primitives import Writer
from tunnelkit.wire.wtls_map import MapType, decode, encode, is_map

HERE = Place()
KEY = bytes(range(32))
COOKIE = bytes(16)
AT_ONCE = 50
"""Handshakes under way at the same time."""
PER_ADDRESS = 90
SIZE = 200
"""Bytes of a datagram."""
ON_THE_WAY = 32
HANDSHAKE_AIM = 20.0 / 1000
"""CPU seconds of the proxy for one device."""
MEMORY_AIM = 30.0
"""KiB for one idle association."""


class Failed(Exception):
    """Something did not answer."""


# -- many devices -----------------------------------------------------------------


class Device:
    """One device that shakes hands and then says nothing."""

    def __init__(self, context: DtlsContext, proxy: tuple[str, int], index: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        place = index // PER_ADDRESS
        self.socket.bind((f"127.{1 + place // 250}.{place % 250}.{1 + index % 250}", 0))
        self.socket.connect(proxy)
        self.socket.setblocking(False)
        self.engine = DtlsEngine(context, client=True)
        self.flush()

    def flush(self) -> None:
        for datagram in self.engine.datagrams_to_send():
            self.socket.send(datagram)

    def readable(self) -> None:
        try:
            while not self.engine.established:
                self.engine.receive(self.socket.recv(65_535))
        except BlockingIOError:
            pass
        self.flush()


def shake_hands(context: DtlsContext, proxy: tuple[str, int], devices: int) -> list[Device]:
    """So many devices with a complete association each."""
    done: list[Device] = []
    under_way: dict[int, Device] = {}
    poll = select.epoll()
    begun = 0
    quiet = time.monotonic()
    while len(done) < devices:
        while begun < devices and len(under_way) < AT_ONCE:
            device = Device(context, proxy, begun)
            begun += 1
            under_way[device.socket.fileno()] = device
            poll.register(device.socket, select.EPOLLIN)
        for number_of, _ in poll.poll(0.2):
            quiet = time.monotonic()
            device = under_way[number_of]
            device.readable()
            if device.engine.established:
                poll.unregister(device.socket)
                done.append(under_way.pop(number_of))
        for device in under_way.values():
            if device.engine.timeout() == 0:
                device.engine.timed_out()
                device.flush()
        if time.monotonic() - quiet > 20:
            raise Failed(f"only {len(done)} of {devices} devices have an association")
    poll.close()
    return done


def crowd(parties: Parties, devices: int) -> dict[str, float]:
    """CPU of a handshake and memory of an idle association at the proxy."""
    place = f"127.0.0.1:{HERE.free_port()}"
    keys = parties.directory / "keys"
    options = ["--listen", place, "--identity", f"{keys}/server.pem", "--allow", "tcp:127.0.0.1:9"]
    start_role(parties, HERE, "wtls-proxy", options)
    wait_until_ready(parties)
    authority = load_pem_x509_certificate((keys / "ca.pem").read_bytes())
    context = DtlsContext(None, [authority])
    proxy = address(place)
    first = shake_hands(context, proxy, 10)  # what is imported and made once
    settle(parties)
    before, spent = parties.running[-1].resident(), parties.cpu_seconds()
    began = time.monotonic()
    others = shake_hands(context, proxy, devices)
    seconds = time.monotonic() - began
    spent = parties.cpu_seconds() - spent
    settle(parties)
    grown = parties.running[-1].resident() - before
    for device in (*first, *others):
        device.socket.close()
    return {
        "cpu_seconds_per_handshake": spent / devices,
        "handshakes_per_second": devices / seconds,
        "kib_per_association": grown / devices / 1024,
    }


# -- datagrams ----------------------------------------------------------------------


def serve_echo(port: int) -> None:
    """A destination that sends everything back, and answers as a domain proxy where it must."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    print("ready", flush=True)
    while True:
        data, source = sock.recvfrom(65_535)
        if is_map(data):
            data = encode(decode(data, KEY).answer(MapType.MAP_OK), KEY)
        elif classify(data) is Kind.HELLO:
            data = hello_verify_request(ClientHello.read(data), COOKIE)
        sock.sendto(data, source)


def hello(cookie: bytes) -> bytes:
    """A ClientHello that names the secure server."""
    name = b"bank.example"
    names = Writer().u8(0).block16(name).done()
    extension = Writer().u16(0).block16(Writer().block16(names).done()).done()
    body = Writer().put(b"\xfe\xfd").put(bytes(32)).block8(b"").block8(cookie)
    body.block16(b"\xc0\x2b").block8(b"\0").block16(extension)
    content = body.done()
    size = len(content).to_bytes(3, "big")
    message = b"\x01" + size + bytes(5) + size + content
    return Writer().put(b"\x16\xfe\xff" + bytes(8)).block16(message).done()


RECORD = b"\x17\xfe\xfd\0\1" + bytes(6) + (SIZE - 13).to_bytes(2, "big") + bytes(SIZE - 13)
"""What a datagram of a device looks like from outside."""


def rate(where: tuple[str, int], seconds: float, tunnel_mode: bool) -> float:
    """Datagrams that came back in a second."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(where)
        sock.settimeout(0.2)
        if tunnel_mode:
            answered(sock, hello(b""))
            answered(sock, hello(COOKIE))
        answered(sock, RECORD)
        count = 0
        end = time.monotonic() + seconds
        for _ in range(ON_THE_WAY):
            sock.send(RECORD)
        while time.monotonic() < end:
            try:
                count += len(sock.recv(65_535)) == SIZE
                sock.send(RECORD)
            except TimeoutError:
                for _ in range(ON_THE_WAY):
                    sock.send(RECORD)
        return count / seconds


def answered(sock: socket.socket, data: bytes) -> None:
    """Send until something comes back."""
    for _ in range(50):
        sock.send(data)
        try:
            sock.recv(65_535)
        except (TimeoutError, ConnectionRefusedError):
            continue
        return
    raise Failed("no datagram comes back")


def wait_until_ready(parties: Parties) -> None:
    """Until the newest party says so in its log."""
    party = parties.running[-1]
    end = time.monotonic() + 20
    while "READY" not in (text := party.log.read_text(errors="replace")) and "ready" not in text:
        parties.check()
        if time.monotonic() > end:
            raise PartyFailed(f"{party.name} does not begin")
        time.sleep(0.05)


def address(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host, int(port)


def operator_options(parties: Parties, echo: str, prefix: str) -> list[str]:
    """How an operator's proxy is told of the echo."""
    keys = Path(parties.directory) / "map.keys"
    keys.touch(mode=0o600)
    keys.write_text(f"{echo} {KEY.hex()}\n")
    named = ["secure", f"bank.example={echo}", "map-key-file", str(keys)]
    return [f"--{prefix}{word}" if place % 2 == 0 else word for place, word in enumerate(named)]


@contextmanager
def ways(echo: str) -> Iterator[dict[str, tuple[tuple[str, int], bool]]]:
    """The three ways for datagrams, all of them up."""
    with Parties() as parties:
        issue_identities(parties)
        keys = parties.directory / "keys"
        port = echo.rpartition(":")[2]
        parties.start("echo", [sys.executable, "-m", "bench.wtls", "--echo", port], HERE, IN_TREE)
        wait_until_ready(parties)
        host, number_of = start_lstp_middle(parties, HERE)
        meeting = ["--middle", f"{host}:{number_of}", "--tunnel", "bench"]
        start_role(parties, HERE, "lstp-server-end", [
            *meeting, "--identity", f"{keys}/server.pem", "--peer", "client",
            "--allow", f"udp:{echo}",
        ])  # fmt: skip
        forward, through, alone = (f"127.0.0.1:{HERE.free_port()}" for _ in range(3))
        start_role(parties, HERE, "lstp-client-end", [
            *meeting, "--identity", f"{keys}/client.pem", "--peer", "server",
            "--forward", f"{forward}=udp:{echo}",
            "--wtls", through, "--wtls-identity", f"{keys}/client.pem",
            *operator_options(parties, echo, "wtls-"),
        ])  # fmt: skip
        wait_until_ready(parties)
        start_role(parties, HERE, "wtls-proxy", [
            "--listen", alone, "--identity", f"{keys}/server.pem",
            *operator_options(parties, echo, ""),
        ])  # fmt: skip
        wait_until_ready(parties)
        yield {
            "UDP forward over LSTP": (address(forward), False),
            "tunnel mode over LSTP": (address(through), True),
            "tunnel mode of wtls-proxy": (address(alone), True),
        }


IN_TREE = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def datagrams(runs: int, seconds: float) -> dict[str, list[float]]:
    """Datagrams a second each way, in turn."""
    found: dict[str, list[float]] = {}
    with ways(f"127.0.0.1:{HERE.free_port()}") as places:
        for _ in range(runs):
            for name, (where, tunnel_mode) in places.items():
                found.setdefault(name, []).append(rate(where, seconds, tunnel_mode))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.wtls", description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000, help="(default: 10000)")
    parser.add_argument("--runs", type=int, default=5, help="of the datagrams (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each (default: 2)")
    parser.add_argument("--quick", action="store_true", help="1,000 devices, 3 runs of 1 s")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo is not None:
        serve_echo(options.echo)
    if options.quick:
        options.devices, options.runs, options.seconds = 1_000, 3, 1.0
    try:
        with prepared():
            with Parties() as parties:
                issue_identities(parties)
                associations = crowd(parties, options.devices)
            rates = datagrams(options.runs, options.seconds)
    except (Failed, PartyFailed, OSError, subprocess.CalledProcessError) as error:
        print(f"bench.wtls: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(as_json({"devices": options.devices, **associations, "datagrams": rates}))
        return 0
    show(options.devices, associations, rates)
    return 0


def show(devices: int, associations: dict[str, float], rates: dict[str, list[float]]) -> None:
    """Print it all."""
    cpu, memory = (
        associations["cpu_seconds_per_handshake"],
        associations["kib_per_association"],
    )
    print(
        f"{devices:,} devices: {number(cpu * 1000)} s of CPU for 1,000 handshakes"
        f" ({verdict(cpu, HANDSHAKE_AIM, at_most=True)}),"
        f" {number(associations['handshakes_per_second'])} a second;"
        f" {number(memory)} KiB for an idle association"
        f" ({verdict(memory, MEMORY_AIM, at_most=True)})\n"
    )
    forward = median(next(iter(rates.values())))
    rows = [
        [name, number(median(values)), number(median(values) / forward)]
        for name, values in rates.items()
    ]
    print(table(["datagrams of 200 bytes, there and back", "a second", "of the forward"], rows))


if __name__ == "__main__":
    raise SystemExit(main())
