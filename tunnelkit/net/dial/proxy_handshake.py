"""A connection through one proxy: the handshake with it, and then its protocol (N1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer, error, tcp
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from tunnelkit.core.proxies.proxy_client import (
    HANDSHAKE_LIMIT,
    Established,
    ProxyClient,
    ProxyEvent,
    Refused,
    TimedOut,
)
from tunnelkit.errors import (
    AuthError,
    Code,
    DialError,
    DialTimeout,
    LocalProtocolError,
    ProxyAuthRequired,
    ProxyRefused,
    RemoteProtocolError,
)
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.server_trust import explain_loss


def _target_address(host: str, port: int) -> IAddress:
    if isIPAddress(host):
        return IPv4Address("TCP", host, port)
    if isIPv6Address(host):
        return IPv6Address("TCP", host, port)
    return HostnameAddress(host.encode("ascii", "backslashreplace"), port)


class ProxyHandshake(Protocol):
    """Speaks with the proxy, then steps aside for the protocol that the connection is for."""

    def __init__(
        self,
        core: ProxyClient,
        clock: IReactorTime,
        done: Callable[[ProxyHandshake, bytes], None],
        failed: Callable[[DialError], None],
        describe: Callable[[ProxyEvent | Exception], DialError],
    ) -> None:
        self._core = core
        self._clock = clock
        self._done = done
        self._failed = failed
        self._describe = describe
        self._timer = Timer(clock, self._time_is_over)
        self._inner: IProtocol | None = None
        self._over = False

    def connectionMade(self) -> None:
        deadline = self._core.next_deadline()
        if deadline is not None:
            self._timer.start_at(deadline)
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
        elif not self._over:
            try:
                events = self._core.receive(data, self._clock.seconds())
            except RemoteProtocolError as problem:
                self._fail(problem)
                return
            self._flush()
            for event in events:
                self._happened(event)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._over:
            in_tls = explain_loss(reason.value)
            if in_tls:
                self._fail(AuthError(in_tls))
            else:
                self._fail(error.ConnectionLost("closed the connection before it answered"))

    def readConnectionLost(self) -> None:
        """Called only once the inner protocol is known to want it, see `hand_over`."""
        IHalfCloseableProtocol(self._inner).readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Called only once the inner protocol is known to want it, see `hand_over`."""
        IHalfCloseableProtocol(self._inner).writeConnectionLost()

    def hand_over(self, inner: IProtocol) -> None:
        """From now on the transport is ``inner``'s."""
        self._inner = inner
        transport: Any = self.transport
        if isinstance(transport, tcp.Connection):
            # Sockets call their protocol directly, which also gives it half-close.
            transport.protocol = inner
        elif IHalfCloseableProtocol.providedBy(inner):
            alsoProvides(self, IHalfCloseableProtocol)
        inner.makeConnection(transport)

    def abort(self) -> None:
        """Give up: the connection is of no use to anybody."""
        self._stop()
        transport = self.transport
        if transport is not None:
            abort = getattr(transport, "abortConnection", transport.loseConnection)
            abort()

    def _flush(self) -> None:
        data = self._core.data_to_send()
        if data and self.transport is not None:
            self.transport.write(data)

    def _time_is_over(self) -> None:
        for event in self._core.deadline_passed(self._clock.seconds()):
            self._happened(event)

    def _happened(self, event: ProxyEvent) -> None:
        if isinstance(event, Established):
            self._stop()
            self._done(self, self._core.leftover)
        else:
            self._fail(event)

    def _fail(self, why: ProxyEvent | Exception) -> None:
        self.abort()
        self._failed(self._describe(why))

    def _stop(self) -> None:
        self._over = True
        self._timer.stop()


class HandshakeFactory(Factory):
    """Builds the handshake on the connection to the proxy, and then the user's protocol on it."""

    noisy = False

    def __init__(self, endpoint: ProxyEndpoint, factory: IProtocolFactory) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._handshake: ProxyHandshake | None = None
        self._dialling: defer.Deferred[IProtocol] | None = None
        self.connected: defer.Deferred[IProtocol] = defer.Deferred(self._cancel)

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def dial(self) -> defer.Deferred[IProtocol]:
        """Connect; the Deferred of the user's protocol."""
        self._dialling = self._endpoint.proxy_endpoint.connect(self)
        self._dialling.addErrback(self._unreachable)
        return self.connected

    def buildProtocol(self, addr: IAddress | None) -> ProxyHandshake | None:
        clock = self._endpoint.get_clock()
        try:
            core = self._endpoint.make_core(clock.seconds())
        except LocalProtocolError as problem:
            self._fail(
                DialError(
                    f"proxy {self._endpoint.name} cannot be asked to connect to"
                    f" {self._endpoint.target}: {problem}",
                    hop=self._endpoint.name,
                )
            )
            return None
        self._handshake = ProxyHandshake(
            core, clock, self._done, self._fail, self._endpoint.describe_failure
        )
        return self._handshake

    def _unreachable(self, reason: Failure) -> None:
        if not self.connected.called:
            self.connected.errback(reason)

    def _fail(self, problem: DialError) -> None:
        if not self.connected.called:
            self.connected.errback(problem)

    def _done(self, handshake: ProxyHandshake, leftover: bytes) -> None:
        endpoint = self._endpoint
        try:
            inner = self._factory.buildProtocol(_target_address(endpoint.host, endpoint.port))
            if inner is None:
                raise error.NoProtocol
        except BaseException:
            handshake.abort()
            self.connected.errback()
            return
        handshake.hand_over(inner)
        self.connected.callback(inner)
        if leftover:
            inner.dataReceived(leftover)

    def _cancel(self, connected: defer.Deferred[IProtocol]) -> None:
        # Fired here and not by Deferred.cancel: what the steps below set off must find it fired.
        connected.errback(
            error.ConnectingCancelledError(
                _target_address(self._endpoint.host, self._endpoint.port)
            )
        )
        if self._handshake is not None:
            self._handshake.abort()
        if self._dialling is not None:
            self._dialling.cancel()


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """What all endpoints that connect through one proxy share.

    ``name`` is what errors call the proxy, e.g. ``socks5://10.0.0.1:1080``; ``timeout``
    is for the handshake, seconds; ``clock`` measures it (default: the global reactor).
    """

    kind = ""

    def __init__(
        self,
        host: str,
        port: int,
        proxyEndpoint: IStreamClientEndpoint,
        *,
        name: str = "",
        timeout: float = HANDSHAKE_LIMIT,
        clock: IReactorTime | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.proxy_endpoint = proxyEndpoint
        self.name = name or f"({self.kind})"
        self.target = format_address((host, port))
        self._timeout = timeout
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """Connect to the destination through the proxy; see the module for how it fails."""
        return HandshakeFactory(self, protocolFactory).dial()

    def make_core(self, now: float) -> ProxyClient:
        """The handshake for one connection."""
        raise NotImplementedError

    def get_clock(self) -> IReactorTime:
        """What measures the time limit."""
        if self._clock is not None:
            return self._clock
        # Like txsocksx, these endpoints can be made without a reactor at hand.
        from twisted.internet import reactor

        return IReactorTime(reactor)

    def describe_failure(self, why: ProxyEvent | Exception) -> DialError:
        """The one line that says which proxy failed, at what, and what it said."""
        if isinstance(why, Refused):
            kind = ProxyAuthRequired if why.login else ProxyRefused
            return kind(
                f"proxy {self.name} refused to connect to {self.target}: {why.said}",
                hop=self.name,
                code=why.code,
            )
        if isinstance(why, AuthError):
            return DialError(
                f"proxy {self.name} cannot be used: {why}", hop=self.name, code=Code.NOT_ALLOWED
            )
        if isinstance(why, RemoteProtocolError):
            return DialError(
                f"proxy {self.name} does not answer as {self.kind}: {why}",
                hop=self.name,
                code=Code.PROTOCOL,
            )
        if isinstance(why, Exception):
            return DialError(
                f"proxy {self.name} {why.args[0]} (asked to connect to {self.target})",
                hop=self.name,
                code=Code.RESET,
            )
        if isinstance(why, TimedOut) and why.mute:
            return DialTimeout(
                f"proxy {self.name} does not answer as {self.kind}: nothing came"
                f" within {self._timeout:g} s",
                hop=self.name,
            )
        return DialTimeout(
            f"proxy {self.name} did not connect to {self.target} within {self._timeout:g} s",
            hop=self.name,
        )
