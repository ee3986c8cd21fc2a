"""No dial without a Decision, whatever kind of channel asks for it (rule X1).

A real gate and a real portal in one process, TLS between them, every front end at the portal.
Each way to a target is tried under each state of the gate's rules; what this process dials is
seen by an audit hook, beside what `PolicyHolder.authorize` has decided.
"""

from __future__ import annotations

import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.frontends.talk import unused_port
from tunnelkit.core.types import Decision
from tunnelkit.policy.acl import PolicyHolder, parse_rule
from tunnelkit.policy.key_directory import KeyDirectory
from tunnelkit.roles.ports import descriptions
from tunnelkit.roles.usher_gate import UsherGateConfig, UsherGateService
from tunnelkit.roles.usher_portal import UsherPortalConfig, UsherPortalService
from tunnelkit.services.end_options import UsherGateOptions, UsherPortalOptions

reactor: Any = global_reactor

BANNER = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\ncanary"
PATIENCE = 8.0
NAME = b"localhost"

_dials: list[tuple[str, object]] = []
"""Every address to which a socket of this process was connected, bound or sent."""
_EVENTS = ("socket.connect", "socket.sendto", "socket.bind")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        _dials.append((event, arguments[1]))


sys.addaudithook(_audit)


class Targets:
    """What the ways lead to: each answers at once, in a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "target")
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.path)
        self.unix.listen()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.dns.bind(("127.0.0.1", 0))
        self.port: int = self.tcp.getsockname()[1]
        self.udp_port: int = self.udp.getsockname()[1]
        self.dns_port: int = self.dns.getsockname()[1]
        self._sockets = (self.tcp, self.unix, self.udp, self.dns)
        serves = (self._accept, self._accept, self._echo, self._resolve)
        self._threads = [
            threading.Thread(target=serve, args=(sock,), daemon=True)
            for serve, sock in zip(serves, self._sockets, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop."""
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def is_target(self, address: object) -> bool:
        """Whether it is one of these."""
        ports = (self.port, self.udp_port, self.dns_port)
        return address == self.path or (isinstance(address, tuple) and address[1] in ports)

    def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                with listener.accept()[0] as sock:
                    sock.sendall(BANNER)
        except OSError:
            pass

    def _echo(self, sock: socket.socket) -> None:
        try:
            while True:
                sender = sock.recvfrom(2048)[1]
                if sender is None:
                    return
                sock.sendto(BANNER, sender)
        except OSError:
            pass

    def _resolve(self, sock: socket.socket) -> None:
        """Every name is 192.0.2.1."""
        try:
            while True:
                query, sender = sock.recvfrom(2048)
                if sender is None:
                    return
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\1"
                question = query[12 : query.index(b"\0", 12) + 5]
                head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
                sock.sendto(head + question + answer, sender)
        except OSError:
            pass


def dial(port: int) -> socket.socket:
    """A connection to a front end."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def banner(sock: socket.socket) -> bool:
    """Whether the target's words come."""
    said = b""
    while data := sock.recv(2048):
        said += data
        if b"canary" in said:
            return True
    return False


def exchange(sock: socket.socket, request: bytes, size: int) -> bytes:
    """Send, and receive so many bytes, or fewer if that is the end."""
    sock.sendall(request)
    found = b""
    while len(found) < size and (data := sock.recv(size - len(found))):
        found += data
    return found


class Ways:
    """One method for each kind of channel: True if it reached its target.

    Every one may raise OSError, which means that it did not.
    """

    def __init__(self, targets: Targets, ports: dict[str, int]) -> None:
        self.targets = targets
        self.ports = ports
        self.asked = 0

    def socks4(self) -> bool:
        return self._socks4(b"\x7f\0\0\1", b"")

    def socks4a(self) -> bool:
        return self._socks4(b"\0\0\0\1", NAME + b"\0")

    def _socks4(self, address: bytes, name: bytes) -> bool:
        with dial(self.ports["socks"]) as sock:
            head = b"\4\1" + struct.pack(">H", self.targets.port) + address + b"\0" + name
            return exchange(sock, head, 8)[1:2] == b"\x5a" and banner(sock)

    def socks5(self) -> bool:
        return self._socks5(b"\1\x7f\0\0\1")

    def socks5_name(self) -> bool:
        return self._socks5(b"\3" + bytes([len(NAME)]) + NAME)

    def _socks5(self, address: bytes) -> bool:
        with dial(self.ports["socks"]) as sock:
            exchange(sock, b"\5\1\0", 2)
            head = b"\5\1\0" + address + struct.pack(">H", self.targets.port)
            return exchange(sock, head, 10)[1:2] == b"\0" and banner(sock)

    def socks5_bind(self) -> bool:
        with dial(self.ports["socks"]) as sock:
            exchange(sock, b"\5\1\0", 2)
            reply = exchange(sock, b"\5\2\0\1\x7f\0\0\1\0\0", 10)
            return reply[1:2] == b"\0"

    def socks5_udp(self) -> bool:
        with dial(self.ports["socks"]) as sock:
            exchange(sock, b"\5\1\0", 2)
            reply = exchange(sock, b"\5\3\0\1\0\0\0\0\0\0", 10)
            if reply[1:2] != b"\0":
                return False
            head = b"\0\0\0\1\x7f\0\0\1" + struct.pack(">H", self.targets.udp_port)
            return self._datagram(int.from_bytes(reply[8:10], "big"), head + b"?")

    def forward(self) -> bool:
        with dial(self.ports["forward-tcp"]) as sock:
            return banner(sock)

    def forward_to_a_unix_socket(self) -> bool:
        with dial(self.ports["forward-unix"]) as sock:
            return banner(sock)

    def forward_udp(self) -> bool:
        return self._datagram(self.ports["forward-udp"], b"?")

    def _datagram(self, port: int, data: bytes) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)
            sock.sendto(data, ("127.0.0.1", port))
            return b"canary" in sock.recv(2048)

    def http_connect(self) -> bool:
        with dial(self.ports["http-proxy"]) as sock:
            place = f"127.0.0.1:{self.targets.port}"
            sock.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
            return banner(sock)

    def http_get(self) -> bool:
        with dial(self.ports["http-proxy"]) as sock:
            place = f"127.0.0.1:{self.targets.port}"
            sock.sendall(f"GET http://{place}/ HTTP/1.0\r\nHost: {place}\r\n\r\n".encode())
            return banner(sock)

    def dns(self) -> bool:
        self.asked += 1
        name = f"n{self.asked}".encode()
        question = bytes([len(name)]) + name + b"\7example\0\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(3.0)
            sock.sendto(b"\1\2\1\0\0\1\0\0\0\0\0\0" + question, ("127.0.0.1", self.ports["dns"]))
            return b"\xc0\0\2\1" in sock.recv(2048)


WAYS: dict[str, Callable[[Ways], bool]] = {
    name: way for name, way in vars(Ways).items() if callable(way) and not name.startswith("_")
}


class AuthorizationMatrixTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        directory = Path(holder.name)
        self.targets = Targets(directory)
        self.addCleanup(self.targets.close)
        self.keys = KeyDirectory(directory / "keys")
        self.keys.create()
        for name in ("gate", "portal"):
            self.keys.issue(name)
        self.decided: list[Decision] = []
        real = PolicyHolder.authorize

        def authorize(holder: PolicyHolder, *arguments: Any) -> Decision:
            decision = real(holder, *arguments)
            self.decided.append(decision)
            return decision

        patches = pytest.MonkeyPatch()
        patches.setattr(PolicyHolder, "authorize", authorize)
        self.addCleanup(patches.undo)
        reactor.suggestThreadPoolSize(20)
        self.addCleanup(reactor.suggestThreadPoolSize, 10)

    def rules(self, peer: str = "") -> list[str]:
        """What each of the ways needs; for ``peer`` only, if it is given."""
        targets = self.targets
        allowed = (
            f"tcp:127.0.0.1:{targets.port}",
            f"tcp:localhost:{targets.port}@127.0.0.0/8",
            f"udp:127.0.0.1:{targets.udp_port}",
            f"unix:{targets.path}",
            "listen:127.0.0.1:*",
            "service:@dns",
        )
        return [f"{peer}={rule}" if peer else rule for rule in allowed]

    async def start(self) -> None:
        """A gate, and a portal with every front end, and a tunnel between them."""
        targets, keys = self.targets, self.keys
        options = UsherGateOptions()
        options.parseOptions([
            "--listen", "127.0.0.1:0", "--identity", str(keys.path / "gate.pem"),
            "--peer", "portal", "--crl", str(keys.revocation_file),
            "--dns-server", f"127.0.0.1:{targets.dns_port}", "--allow", "tcp:192.0.2.1:1",
        ])  # fmt: skip
        assert isinstance(options.config, UsherGateConfig)
        self.gate = UsherGateService(reactor, "usher-gate", options.config)
        self.run_service(self.gate)
        place = self.port_of(self.gate, "listening on")
        near = UsherPortalOptions()
        forwards = {
            "forward-tcp": f"tcp:127.0.0.1:{targets.port}",
            "forward-unix": f"unix:{targets.path}",
            "forward-udp": f"udp:127.0.0.1:{targets.udp_port}",
        }
        ports = {name: unused_port() for name in forwards}
        near.parseOptions([
            "--gate", f"127.0.0.1:{place}", "--identity", str(keys.path / "portal.pem"),
            "--peer", "gate", "--socks", "0", "--http-proxy", "0", "--dns", "0",
            *(f"--forward={ports[name]}={to}" for name, to in forwards.items()),
        ])  # fmt: skip
        assert isinstance(near.config, UsherPortalConfig)
        self.portal = UsherPortalService(reactor, "usher-portal", near.config)
        self.run_service(self.portal)
        for name in ("socks", "http-proxy", "dns"):
            ports[name] = self.port_of(self.portal, name)
        await self.portal.tunnel.when_up()
        self.ways = Ways(targets, ports)

    def run_service(self, service: UsherGateService | UsherPortalService) -> None:
        service.grace = 0.1
        service.startService()
        self.addCleanup(service.stopService)

    def port_of(self, service: Any, what: str) -> int:
        found = [text for text in descriptions(service) if text.startswith(what)]
        return int(found[0].split()[-1].rpartition(":")[2])

    def allow(self, *rules: str) -> None:
        self.gate.policy.replace(map(parse_rule, rules))

    async def attempt(self, way: str) -> bool:
        def run() -> bool:
            try:
                return WAYS[way](self.ways)
            except OSError:
                return False

        reached: bool = await deferToThread(run)
        return reached

    def dialled(self, since: int) -> list[tuple[str, object]]:
        """What was dialled or bound for the portal since then."""
        reached = [dial for dial in _dials[since:] if self.targets.is_target(dial[1])]
        bound = [
            dial
            for dial in _dials[since:]
            if dial[0] == "socket.bind" and dial[1] == ("127.0.0.1", 0)
        ]
        return reached + bound

    async def check(self, way: str, expected: bool) -> None:
        """One cell of the matrix."""
        since = len(_dials)
        self.decided.clear()
        reached = await self.attempt(way)
        assert reached is expected, f"{way}: reached is {reached}"
        if expected:
            assert self.decided, f"{way}: nobody was asked"
            assert {decision.peer for decision in self.decided} == {"portal"}, way
            for event, address in self.dialled(since):
                assert self.is_decided(way, event, address), f"{way}: {event} {address}"
        else:
            assert self.decided == [], f"{way}: {self.decided}"
            own = [("socket.bind", ("127.0.0.1", 0))] if way == "socks5_udp" else []
            dialled = [dial for dial in self.dialled(since) if dial not in own]
            assert dialled == [], f"{way}: {dialled}"

    def is_decided(self, way: str, event: str, address: object) -> bool:
        """Whether a Decision allows it, or the gate's own configuration (its DNS server)."""
        if isinstance(address, tuple) and address[1] == self.targets.dns_port:
            return any(decision.protocol == "service" for decision in self.decided)
        if event == "socket.bind":
            # The association's own socket at the portal is no business of the gate's rules.
            return way == "socks5_udp" or any(d.action == "bind" for d in self.decided)
        place = address if isinstance(address, tuple) else (address, 0)
        return any((decision.address, decision.port) == place[:2] for decision in self.decided)

    async def test_allowed_channels_reach_their_target_by_a_decision(self) -> None:
        await self.start()
        self.allow(*self.rules())
        for way in WAYS:
            await self.check(way, True)

    async def test_without_a_rule_nothing_is_dialled(self) -> None:
        await self.start()
        self.allow()
        for way in WAYS:
            await self.check(way, False)

    async def test_rules_for_another_peer_dial_nothing(self) -> None:
        await self.start()
        self.allow(*self.rules("other"))
        for way in WAYS:
            await self.check(way, False)

    async def test_rules_withdrawn_after_the_setup_dial_nothing(self) -> None:
        await self.start()
        for way in WAYS:
            self.allow(*self.rules())
            await self.check(way, True)
            self.allow()
            await self.check(way, False)

    async def test_a_revoked_identity_dials_nothing(self) -> None:
        await self.start()
        self.allow(*self.rules())
        for way in WAYS:
            assert await self.attempt(way), way
        self.keys.revoke("portal")
        while self.portal.tunnel.status().up or self.gate.tunnel.status().up:
            await deferLater(reactor, 0.05, lambda: None)
        self.decided.clear()
        since = len(_dials)
        tries: list[Deferred[object]] = [Deferred.fromCoroutine(self.attempt(way)) for way in WAYS]
        assert not any(await gatherResults(tries))
        assert self.decided == []
        assert [dial for dial in _dials[since:] if self.targets.is_target(dial[1])] == []
