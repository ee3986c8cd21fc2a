"""Endpoints through proxies: what the inner protocol gets, and how they fail."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import error, reactor, tcp
from twisted.internet.address import HostnameAddress, IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.net.deferreds import problem_of
from tunnelkit.errors import Code, DialError, DialTimeout, ProxyAuthRequired, ProxyRefused
from tunnelkit.net.dial.proxy_endpoints import (
    HTTPConnectEndpoint,
    SOCKS4AClientEndpoint,
    SOCKS4ClientEndpoint,
    SOCKS5ClientEndpoint,
)

GRANTED5 = b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01"
GRANTED4 = b"\x00\x5a" + bytes(6)
OK = b"HTTP/1.1 200 OK\r\n\r\n"


@implementer(IHalfCloseableProtocol)
class Application(Protocol):
    """Notes everything that happens to it."""

    def __init__(self) -> None:
        self.happened: list[object] = []
        self.received = b""
        self.lost: Deferred[None] = Deferred()
        self.read_lost: Deferred[None] = Deferred()
        self.enough: Deferred[None] = Deferred()
        self.wanted = 0

    def connectionMade(self) -> None:
        self.happened.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.happened.append(data)
        self.received += data
        if self.wanted and len(self.received) >= self.wanted and not self.enough.called:
            self.enough.callback(None)

    def readConnectionLost(self) -> None:
        self.happened.append("read lost")
        self.read_lost.callback(None)

    def writeConnectionLost(self) -> None:
        self.happened.append("write lost")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.happened.append(reason.type)
        self.lost.callback(None)


class Recorder(Factory):
    """Builds `Application`; notes the address it is asked for."""

    noisy = False

    def __init__(self) -> None:
        self.addresses: list[IAddress | None] = []
        self.running = 0

    def startFactory(self) -> None:
        self.running += 1

    def buildProtocol(self, addr: IAddress | None) -> Application:
        self.addresses.append(addr)
        return Application()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Leads to a proxy that the test plays; ``failure`` instead of a connection."""

    def __init__(self, failure: Exception | None = None, waiting: bool = False) -> None:
        self.transport = StringTransportWithDisconnection()
        self.failure = failure
        self.waiting = waiting
        self.cancelled = False
        self.protocol: Any = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        if self.waiting:
            return Deferred(self._cancel)
        if self.failure is not None:
            failed: Deferred[IProtocol] = Deferred()
            failed.errback(self.failure)
            return failed
        self.protocol = protocolFactory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1080))
        if self.protocol is None:
            return MemoryEndpoint(NoProtocol()).connect(protocolFactory)
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)

    def _cancel(self, _connecting: Deferred[IProtocol]) -> None:
        self.cancelled = True

    def sent(self) -> bytes:
        data = self.transport.value()
        self.transport.clear()
        return bytes(data)


class InMemoryTests(SynchronousTestCase):
    """The proxy's side is played by the test."""

    def setUp(self) -> None:
        self.proxy = MemoryEndpoint()
        self.clock: Any = Clock()
        self.factory = Recorder()

    def socks5(self, host: str = "target.example", **options: Any) -> SOCKS5ClientEndpoint:
        return SOCKS5ClientEndpoint(
            host, 7000, self.proxy, name="socks5://192.0.2.1:1080", clock=self.clock, **options
        )

    def problem(self, connecting: Deferred[IProtocol], kind: type[Exception]) -> Any:
        return problem_of(connecting, kind)

    def test_the_protocol_gets_the_real_transport_after_the_handshake(self) -> None:
        connecting = self.socks5().connect(self.factory)
        assert self.proxy.sent() == b"\x05\x01\x00"
        self.proxy.protocol.dataReceived(GRANTED5[:5])
        assert self.proxy.sent() == b"\x05\x01\x00\x03\x0etarget.example\x1bX"
        assert not connecting.called
        self.proxy.protocol.dataReceived(GRANTED5[5:])
        application: Any = self.successResultOf(connecting)
        assert application.transport is self.proxy.transport
        assert self.factory.addresses == [HostnameAddress(b"target.example", 7000)]
        assert self.clock.getDelayedCalls() == []

    def test_the_first_bytes_come_after_connect_has_fired(self) -> None:
        order: list[str] = []
        connecting = self.socks5().connect(self.factory)

        def connected(application: Any) -> None:
            order.extend(application.happened)

        connecting.addCallback(connected)
        self.proxy.protocol.dataReceived(GRANTED5 + b"hello")
        assert order == ["made"]

    def test_bytes_behind_the_reply_and_later_ones_reach_the_protocol(self) -> None:
        connecting = self.socks5().connect(self.factory)
        self.proxy.protocol.dataReceived(GRANTED5 + b"early")
        self.proxy.protocol.dataReceived(b" late")
        application: Any = self.successResultOf(connecting)
        assert application.happened == ["made", b"early", b" late"]
        self.proxy.protocol.connectionLost(Failure(ConnectionDone()))
        assert application.happened[-1] == ConnectionDone

    def test_half_close_is_passed_on_where_the_transport_is_no_socket(self) -> None:
        connecting = self.socks5().connect(self.factory)
        assert not IHalfCloseableProtocol.providedBy(self.proxy.protocol)
        self.proxy.protocol.dataReceived(GRANTED5)
        application: Any = self.successResultOf(connecting)
        halves = IHalfCloseableProtocol(self.proxy.protocol)
        halves.readConnectionLost()
        halves.writeConnectionLost()
        assert application.happened == ["made", "read lost", "write lost"]

    def test_a_login_is_taken_from_methods_as_with_txsocksx(self) -> None:
        self.socks5(methods={"login": ("me", "pw"), "anonymous": ()}).connect(self.factory)
        assert self.proxy.sent() == b"\x05\x02\x00\x02"
        self.proxy.protocol.dataReceived(b"\x05\x02")
        assert self.proxy.sent() == b"\x01\x02me\x02pw"

    def test_login_alone_does_not_offer_the_anonymous_method(self) -> None:
        self.socks5(methods={"login": ("me", "pw")}).connect(self.factory)
        assert self.proxy.sent() == b"\x05\x01\x02"

    def test_unknown_methods_are_mistakes(self) -> None:
        with pytest.raises(ValueError, match="not none"):
            self.socks5(methods={})
        with pytest.raises(ValueError, match="gssapi"):
            self.socks5(methods={"gssapi": ()})

    def test_socks_4_and_4a_send_their_requests(self) -> None:
        four = SOCKS4ClientEndpoint("192.0.2.7", 80, self.proxy, user="me", clock=self.clock)
        connecting = four.connect(self.factory)
        assert self.proxy.sent() == b"\x04\x01\x00P\xc0\x00\x02\x07me\x00"
        self.proxy.protocol.dataReceived(GRANTED4)
        self.successResultOf(connecting)
        assert self.factory.addresses == [IPv4Address("TCP", "192.0.2.7", 80)]
        self.proxy = MemoryEndpoint()
        SOCKS4AClientEndpoint("a.example", 80, self.proxy, clock=self.clock).connect(self.factory)
        assert self.proxy.sent() == b"\x04\x01\x00P\x00\x00\x00\x01\x00a.example\x00"

    def test_http_connect_sends_its_request(self) -> None:
        endpoint = HTTPConnectEndpoint("::1", 22, self.proxy, ("me", "pw"), clock=self.clock)
        connecting = endpoint.connect(self.factory)
        assert (
            self.proxy.sent() == b"CONNECT [::1]:22 HTTP/1.1\r\nHost: [::1]:22\r\n"
            b"Proxy-Authorization: Basic bWU6cHc=\r\n\r\n"
        )
        self.proxy.protocol.dataReceived(OK + b"SSH-2.0")
        application: Any = self.successResultOf(connecting)
        assert application.happened == ["made", b"SSH-2.0"]

    def test_endpoints_chain(self) -> None:
        inner = HTTPConnectEndpoint("inner.example", 3128, self.socks5(), clock=self.clock)
        outer = SOCKS4AClientEndpoint("end.example", 9, inner, clock=self.clock)
        connecting = outer.connect(self.factory)
        self.proxy.sent()
        self.proxy.protocol.dataReceived(GRANTED5)
        assert b"CONNECT inner.example:3128" in self.proxy.sent()
        self.proxy.protocol.dataReceived(OK)
        assert b"end.example" in self.proxy.sent()
        self.proxy.protocol.dataReceived(GRANTED4 + b"deep")
        application: Any = self.successResultOf(connecting)
        assert application.transport is self.proxy.transport
        assert application.happened == ["made", b"deep"]

    def test_a_refusal_names_the_proxy_the_target_and_the_reason(self) -> None:
        connecting = self.socks5().connect(self.factory)
        self.proxy.protocol.dataReceived(b"\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")
        problem = self.problem(connecting, ProxyRefused)
        assert (
            str(problem)
            == "proxy socks5://192.0.2.1:1080 refused to connect to target.example:7000:"
            " not allowed by ruleset"
        )
        assert problem.hop == "socks5://192.0.2.1:1080"
        assert problem.code is Code.NOT_ALLOWED
        assert self.proxy.transport.disconnected

    def test_a_wrong_password_has_its_own_error(self) -> None:
        connecting = self.socks5(methods={"login": ("me", "hunter2")}).connect(self.factory)
        self.proxy.protocol.dataReceived(b"\x05\x02\x01\x01")
        problem = self.problem(connecting, ProxyAuthRequired)
        assert "does not accept the user name and password" in str(problem)
        assert "hunter2" not in str(problem)

    def test_407_is_about_the_login(self) -> None:
        connecting = HTTPConnectEndpoint("a", 1, self.proxy, clock=self.clock).connect(self.factory)
        self.proxy.protocol.dataReceived(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n")
        problem = self.problem(connecting, ProxyAuthRequired)
        assert "it wants a user name and password (HTTP/1.1 407 No)" in str(problem)

    def test_a_proxy_of_another_kind_is_recognized(self) -> None:
        connecting = self.socks5().connect(self.factory)
        self.proxy.protocol.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        problem = self.problem(connecting, DialError)
        assert (
            str(problem)
            == "proxy socks5://192.0.2.1:1080 does not answer as SOCKS 5: the answer to the SOCKS 5"
            " greeting begins with 72, not 5"
        )
        assert problem.code is Code.PROTOCOL

    def test_a_proxy_that_closes_is_named(self) -> None:
        connecting = self.socks5().connect(self.factory)
        self.proxy.protocol.connectionLost(Failure(ConnectionDone()))
        problem = self.problem(connecting, DialError)
        assert (
            str(problem) == "proxy socks5://192.0.2.1:1080 closed the connection before it answered"
            " (asked to connect to target.example:7000)"
        )
        assert problem.code is Code.RESET

    def test_a_slow_proxy_is_given_up_after_the_time_limit(self) -> None:
        connecting = self.socks5(timeout=5).connect(self.factory)
        self.proxy.protocol.dataReceived(b"\x05\x00")
        self.clock.advance(4.9)
        assert not connecting.called
        self.clock.advance(0.2)
        problem = self.problem(connecting, DialTimeout)
        assert str(problem) == (
            "proxy socks5://192.0.2.1:1080 did not connect to target.example:7000 within 5 s"
        )
        assert self.proxy.transport.disconnected

    def test_a_mute_proxy_may_be_another_kind_of_server(self) -> None:
        connecting = self.socks5(timeout=5).connect(self.factory)
        self.clock.advance(5)
        problem = self.problem(connecting, DialTimeout)
        assert str(problem) == (
            "proxy socks5://192.0.2.1:1080 does not answer as SOCKS 5: nothing came within 5 s"
        )

    def test_what_the_protocol_cannot_carry_is_an_error_of_the_hop(self) -> None:
        endpoint = SOCKS4ClientEndpoint("::1", 80, self.proxy, name="socks4://a:1")
        problem = self.problem(endpoint.connect(self.factory), DialError)
        assert (
            str(problem) == "proxy socks4://a:1 cannot be asked to connect to [::1]:80:"
            " SOCKS 4 carries only IPv4 addresses, not ::1"
        )

    def test_how_the_way_to_the_proxy_fails_is_passed_on(self) -> None:
        self.proxy.failure = error.ConnectionRefusedError()
        self.problem(self.socks5().connect(self.factory), error.ConnectionRefusedError)

    def test_cancelling_while_dialling_the_proxy_cancels_that(self) -> None:
        self.proxy.waiting = True
        connecting = self.socks5().connect(self.factory)
        connecting.cancel()
        assert self.proxy.cancelled
        self.problem(connecting, ConnectingCancelledError)

    def test_cancelling_during_the_handshake_closes_the_connection(self) -> None:
        connecting = self.socks5().connect(self.factory)
        connecting.cancel()
        self.problem(connecting, ConnectingCancelledError)
        assert self.proxy.transport.disconnected
        assert self.clock.getDelayedCalls() == []
        self.proxy.protocol.dataReceived(GRANTED5)
        assert self.factory.addresses == []

    def test_a_factory_that_declines_closes_the_connection(self) -> None:
        class Declines(Factory):
            def buildProtocol(self, addr: IAddress | None) -> None:
                return None

        connecting = self.socks5().connect(Declines())
        self.proxy.protocol.dataReceived(GRANTED5)
        self.problem(connecting, NoProtocol)
        assert self.proxy.transport.disconnected


class ScriptedProxy(Protocol):
    """Grants any SOCKS 5 request at once and sends more behind it; then echoes."""

    behind = b""

    def __init__(self) -> None:
        self.greeted = False
        self.asked = False
        self.lost: Deferred[None] = Deferred()
        self.heard: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if not self.greeted:
            self.greeted = True
            self.transport.write(GRANTED5[:2])
        elif not self.asked:
            self.asked = True
            self.transport.write(GRANTED5[2:] + self.behind)
        else:
            self.transport.write(data)
            self.heard.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class SocketTests(TestCase):
    """Over real sockets on loopback."""

    timeout = 10

    def setUp(self) -> None:
        self.factory = Recorder()
        self.proxies: list[ScriptedProxy] = []
        real: Any = reactor
        port = real.listenTCP(0, Factory.forProtocol(self.made), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        proxy = HostnameEndpoint(reactor, "127.0.0.1", port.getHost().port)
        self.endpoint = SOCKS5ClientEndpoint("target.example", 7000, proxy)

    def made(self) -> ScriptedProxy:
        proxy = ScriptedProxy()
        proxy.behind = b"welcome"
        self.proxies.append(proxy)
        return proxy

    async def finish(self, application: Any) -> None:
        application.transport.abortConnection()
        await application.lost
        await self.proxies[0].lost

    async def test_the_transport_is_the_socket_itself(self) -> None:
        application: Any = await self.endpoint.connect(self.factory)
        assert isinstance(application.transport, tcp.Client)
        assert application.transport.protocol is application
        await self.finish(application)

    async def test_bytes_behind_the_reply_come_first_and_the_rest_follows(self) -> None:
        application: Any = await self.endpoint.connect(self.factory)
        application.wanted = len(b"welcome, friend")
        application.transport.write(b", friend")
        await application.enough
        assert application.received == b"welcome, friend"
        await self.finish(application)

    async def test_half_close_reaches_the_protocol(self) -> None:
        application: Any = await self.endpoint.connect(self.factory)
        proxy: Any = self.proxies[0]
        proxy.transport.loseWriteConnection()
        await application.read_lost
        application.transport.write(b"still open")
        await proxy.heard
        assert application.happened == ["made", b"welcome", "read lost"]
        await self.finish(application)

    async def test_the_users_factory_is_started_and_stopped(self) -> None:
        application: Any = await self.endpoint.connect(self.factory)
        assert self.factory.running == 1
        assert self.factory.numPorts == 1
        await self.finish(application)
        assert self.factory.numPorts == 0

    async def test_cancelling_closes_the_connection_to_the_proxy(self) -> None:
        proxied: Deferred[None] = Deferred()

        class Silent(ScriptedProxy):
            def dataReceived(self, data: bytes) -> None:
                proxied.callback(None)

        silent = Silent()
        real: Any = reactor
        port = real.listenTCP(0, Factory.forProtocol(lambda: silent), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        way = HostnameEndpoint(reactor, "127.0.0.1", port.getHost().port)
        connecting = SOCKS5ClientEndpoint("a", 1, way).connect(self.factory)
        await proxied
        connecting.cancel()
        with pytest.raises((CancelledError, ConnectingCancelledError)):
            await connecting
        await silent.lost
