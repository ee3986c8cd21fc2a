"""Ports outside for what the inside publishes (rows T3, P5): when they are open, and for whom."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.acceptance.processes import free_port
from tunnelkit.core.socket_table import TrustedSocket
from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.frontends.published_ports import PORTS_PER_SESSION, PublishedPorts
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.rules import parse_network, parse_rule


class FakeChannel:
    """What a side is attached to; notes how it is ended."""

    def __init__(self) -> None:
        self.aborted: Code | None = None

    def ready(self) -> None:
        """Nothing is pulled here."""

    def abort(self, code: Code, reason: str) -> None:
        self.aborted = code


class FakeSession:
    """A control session; ``opened`` are the channels asked for over it."""

    def __init__(self, peer: str = "inside") -> None:
        self.peer = peer
        self.up = True
        self.opened: list[tuple[str, Any, FakeChannel]] = []
        self.came: Deferred[None] = Deferred()
        self.refuses = False

    def open(self, destination: str, side: Any) -> Deferred[str]:
        opening: Deferred[str] = Deferred()
        channel = FakeChannel()
        self.opened.append((destination, side, channel))
        if self.refuses:
            side.reset(Code.NO_SUCH_SERVICE, "no")
            opening.errback(ChannelRefused(Code.NO_SUCH_SERVICE, "no"))
        else:
            side.attach(channel)
        came, self.came = self.came, Deferred()
        came.callback(None)
        return opening


def is_open(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody listens there: whether it cannot be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False


def is_reset(sock: socket.socket) -> bool:
    """Whether the connection ends by a reset."""
    try:
        sock.recv(1)
    except ConnectionResetError:
        return True
    return False


class PublishedPortsTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.port = free_port()
        self.policy = PolicyHolder()
        self.allow(f"listen:127.0.0.1:{self.port}")
        reactor: Any = global_reactor
        self.ports = PublishedPorts(reactor, self.policy)
        self.ports.startService()
        self.addCleanup(self.ports.stopService)
        self.inside: Any = FakeSession()
        self.addCleanup(self.close_sides)

    def close_sides(self) -> None:
        """What a connection does with its channels when it ends."""
        for _, side, _ in self.inside.opened:
            side.reset(Code.SHUTDOWN, "the test is over")

    def allow(self, *rules: str, sources: tuple[str, ...] = ()) -> None:
        self.policy.replace(map(parse_rule, rules), tuple(map(parse_network, sources)))

    def web(self, port: int | None = None) -> TrustedSocket:
        return TrustedSocket("web", listen=port or self.port)

    def dial(self, address: str = "127.0.0.1") -> socket.socket:
        sock = socket.create_connection((address, self.port), timeout=10)
        self.addCleanup(sock.close)
        return sock

    async def enter(self, session: Any) -> tuple[socket.socket, str, Any, FakeChannel]:
        """A client comes in at the port."""
        came = session.came
        sock = self.dial()
        await came
        destination, side, channel = session.opened[-1]
        # A side's socket is watched until its channel is over.
        self.addCleanup(side.reset, Code.RESET, "the test is over")
        return sock, destination, side, channel

    async def test_who_enters_is_led_to_the_service_of_that_session(self) -> None:
        self.ports.changed(self.inside, [self.web(), TrustedSocket("git")])
        _, destination, _, _ = await self.enter(self.inside)
        assert destination == "service:web"

    async def test_a_port_takes_with_it_what_came_in_over_it(self) -> None:
        self.ports.changed(self.inside, [self.web()])
        _, _, _, channel = await self.enter(self.inside)
        _, _, gone, earlier = await self.enter(self.inside)
        gone.reset(Code.RESET, "the application is gone")
        self.ports.changed(self.inside, [self.web()])
        assert channel.aborted is None
        self.ports.changed(self.inside, [TrustedSocket("git")])
        assert channel.aborted is Code.NO_SUCH_SERVICE
        assert earlier.aborted is None
        assert not is_open(self.port)

    async def test_a_client_is_reset_if_the_channel_is_refused(self) -> None:
        self.inside.refuses = True
        self.ports.changed(self.inside, [self.web()])
        sock, _, _, _ = await self.enter(self.inside)
        assert await deferToThread(is_reset, sock)

    def test_a_port_that_moves_is_opened_where_it_is_now(self) -> None:
        later = free_port()
        self.allow(f"listen:127.0.0.1:{self.port},{later}")
        self.ports.changed(self.inside, [self.web()])
        self.ports.changed(self.inside, [self.web(later)])
        assert not is_open(self.port)
        assert is_open(later)

    def test_a_port_that_two_want_is_the_first_ones_and_then_the_seconds(self) -> None:
        second: Any = FakeSession("other-inside")
        self.ports.changed(self.inside, [self.web()])
        self.ports.changed(second, [self.web()])
        self.inside.up = False
        self.ports.changed(self.inside, [])
        assert is_open(self.port)
        self.ports.changed(second, [])
        assert not is_open(self.port)

    def test_a_rule_opens_a_port_and_its_end_closes_it(self) -> None:
        self.allow("listen:127.0.0.1:1")
        self.ports.changed(self.inside, [self.web()])
        assert not is_open(self.port)
        self.allow(f"inside=listen:127.0.0.1:{self.port}")
        self.ports.settle()
        assert is_open(self.port)
        self.allow(f"other=listen:127.0.0.1:{self.port}")
        self.ports.settle()
        assert not is_open(self.port)

    def test_a_port_is_opened_where_the_rule_says_and_otherwise_on_loopback(self) -> None:
        self.allow("listen:127.0.0.9:1", f"listen:127.0.0.2:{self.port}")
        self.ports.changed(self.inside, [self.web()])
        assert is_open(self.port, "127.0.0.2")
        assert not is_open(self.port)
        self.allow(f"listen:127.0.0.0/8:{self.port}")
        self.ports.changed(self.inside, [])
        self.ports.changed(self.inside, [self.web()])
        assert is_open(self.port)
        assert not is_open(self.port, "127.0.0.2")

    async def test_only_those_may_enter_whom_from_admits(self) -> None:
        self.allow(f"listen:127.0.0.1:{self.port}", sources=("192.0.2.0/24",))
        self.ports.changed(self.inside, [self.web()])
        sock = self.dial()
        assert await deferToThread(is_reset, sock)
        assert self.inside.opened == []

    def test_one_session_has_a_limited_number_of_ports(self) -> None:
        self.allow("listen:127.0.0.1:*")
        entries = [TrustedSocket(f"s{n}", listen=self.port) for n in range(PORTS_PER_SESSION)]
        self.ports.changed(self.inside, [*entries[1:], TrustedSocket("one", listen=free_port())])
        assert is_open(self.port)
        beyond = free_port()
        self.ports.changed(self.inside, [*entries, TrustedSocket("beyond", listen=beyond)])
        assert not is_open(beyond)

    def test_nothing_is_open_before_the_start_and_after_the_stop(self) -> None:
        reactor: Any = global_reactor
        ports = PublishedPorts(reactor, self.policy)
        ports.changed(self.inside, [self.web()])
        assert not is_open(self.port)
        ports.startService()
        assert is_open(self.port)
        ports.stopService()
        assert not is_open(self.port)


def test_no_rule_means_loopback() -> None:
    assert Policy().listen_address("inside", 80) == "127.0.0.1"
    rules = map(
        parse_rule, ("listen:udp:10.0.0.1:80", "other=listen:10.0.0.2:80", "tcp:10.0.0.3:80")
    )
    assert Policy(rules).listen_address("inside", 80) == "127.0.0.1"
    rules = map(parse_rule, ("listen:10.0.0.1:81", "listen:tcp:[::1]:80", "listen:10.0.0.2:80"))
    assert Policy(rules).listen_address("inside", 80) == "::1"
