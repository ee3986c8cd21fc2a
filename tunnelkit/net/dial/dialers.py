"""Ways out of this network: directly, through proxies, through chains of them (N1, N2).

Dialers serve this end's own configuration (its middle, gate or server). What a peer
asks for is dialled with a `Decision` by `tunnelkit.net.sockets.tcp`, never through these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from tunnelkit.core.proxies.proxy_client import HANDSHAKE_LIMIT
from tunnelkit.errors import Code, DialError
from tunnelkit.interfaces import IDialer
from tunnelkit.net.dial.happy_eyeballs import CONNECT_LIMIT, HappyEyeballsEndpoint, resolve
from tunnelkit.net.dial.proxy_endpoints import (
    HTTPConnectEndpoint,
    SOCKS4AClientEndpoint,
    SOCKS4ClientEndpoint,
    SOCKS5ClientEndpoint,
)
from tunnelkit.net.dial.via import Hop, ascii_host
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.tls.server_trust import ServerTrust


@attrs.frozen
class Limits:
    """Time limits of one hop, in seconds."""

    connect: float = CONNECT_LIMIT
    """To resolve the name and connect, where this machine does it."""
    handshake: float = HANDSHAKE_LIMIT
    """For each proxy to log us in and to connect onwards."""


USUAL = Limits()


@implementer(IDialer)
class DirectDialer:
    """Connects without a proxy."""

    def __init__(self, reactor: Any, limits: Limits = USUAL) -> None:
        self._reactor = reactor
        self._limits = limits

    def endpoint_for(self, host: str, port: int) -> IStreamClientEndpoint:
        """An endpoint that connects to ``host:port``; raises `ConfigError` for a bad host."""
        host = ascii_host(host)
        name = format_address((host, port))
        return HappyEyeballsEndpoint(
            self._reactor, host, port, name=name, limit=self._limits.connect
        )

    def describe(self) -> str:
        """``directly``."""
        return "directly"


@implementer(IDialer)
class ProxyDialer:
    """Connects through one proxy or a chain; ``hops[0]`` is the one that this machine dials."""

    def __init__(
        self,
        reactor: Any,
        hops: Sequence[Hop],
        limits: Limits = USUAL,
    ) -> None:
        self._reactor = reactor
        self._hops = tuple(hops)
        self._limits = limits

    def endpoint_for(self, host: str, port: int) -> IStreamClientEndpoint:
        """An endpoint that connects to ``host:port``; raises `ConfigError` for a bad host."""
        first = self._hops[0]
        endpoint: IStreamClientEndpoint = HappyEyeballsEndpoint(
            self._reactor,
            first.host,
            first.port,
            name=f"proxy {first}",
            limit=self._limits.connect,
        )
        targets = [(hop.host, hop.port) for hop in self._hops[1:]] + [(ascii_host(host), port)]
        for hop, (target_host, target_port) in zip(self._hops, targets, strict=True):
            endpoint = self._through(hop, target_host, target_port, endpoint)
        return endpoint

    def describe(self) -> str:
        """For example ``via socks5://proxy:1080, then http://inner:3128``."""
        return "via " + ", then ".join(map(str, self._hops))

    def _through(
        self, hop: Hop, host: str, port: int, proxy: IStreamClientEndpoint
    ) -> IStreamClientEndpoint:
        name, timeout, clock = str(hop), self._limits.handshake, self._reactor
        if hop.scheme == "socks5":
            methods: dict[str, tuple[str, ...]] = {"anonymous": ()}
            if hop.user is not None:
                methods["login"] = (hop.user, hop.password or "")
            return SOCKS5ClientEndpoint(
                host, port, proxy, methods, name=name, timeout=timeout, clock=clock
            )
        if hop.scheme in ("http", "https"):
            if hop.scheme == "https":
                proxy = wrapClientTLS(ServerTrust(hop.host), proxy)
            login = None if hop.user is None else (hop.user, hop.password or "")
            return HTTPConnectEndpoint(
                host, port, proxy, login, name=name, timeout=timeout, clock=clock
            )
        if hop.scheme == "socks4a":
            return SOCKS4AClientEndpoint(
                host, port, proxy, hop.user or "", name=name, timeout=timeout, clock=clock
            )
        return _Socks4WithNames(self._reactor, hop, host, port, proxy, self._limits)


@implementer(IStreamClientEndpoint)
class _Socks4WithNames:
    """SOCKS 4 with the name resolved here, because the proxy takes addresses only."""

    def __init__(
        self,
        reactor: Any,
        hop: Hop,
        host: str,
        port: int,
        proxy: IStreamClientEndpoint,
        limits: Limits,
    ) -> None:
        self._reactor = reactor
        self._hop = hop
        self._host = host
        self._port = port
        self._proxy = proxy
        self._limits = limits

    def connect(self, protocolFactory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """Resolve, then connect through the proxy."""
        return defer.Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        hop, target = self._hop, format_address((self._host, self._port))
        resolving = resolve(self._reactor, self._host, self._port)
        resolving.addTimeout(self._limits.connect, self._reactor)
        try:
            found = await resolving
        except defer.TimeoutError:
            found = []
        addresses = [address.host for address in found if isinstance(address, IPv4Address)]
        if not addresses:
            raise DialError(
                f"proxy {hop} cannot be asked to connect to {target}: SOCKS 4 needs an IPv4"
                " address, and none was found; socks4a:// or socks5:// leave that to the proxy",
                hop=str(hop),
                code=Code.NO_SUCH_HOST,
            )
        endpoint = SOCKS4ClientEndpoint(
            addresses[0],
            self._port,
            self._proxy,
            hop.user or "",
            name=str(hop),
            timeout=self._limits.handshake,
            clock=self._reactor,
        )
        return await endpoint.connect(factory)


# -- dialling for a carrier -----------------------------------------------


@attrs.frozen
class Dialled:
    """A connection that is ready to be taken over; nothing reads from it meanwhile."""

    transport: ITransport
    leftover: bytes
    """What the far side sent behind a proxy's answer: the first bytes of the connection."""


class _Taken(Protocol):
    """Holds a connection until somebody takes it over."""

    def __init__(self) -> None:
        self.early = bytearray()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self.early += data


def dial(reactor: Any, dialer: IDialer, host: str, port: int) -> defer.Deferred[Dialled]:
    """Connect to ``host:port`` for a carrier (`tunnelkit.net.sockets.socket_carrier.take_over`).

    Fails with a `DialError`, or `ConfigError` if host cannot be one.
    """
    return defer.Deferred.fromCoroutine(_dial(reactor, dialer, host, port))


async def _dial(reactor: Any, dialer: IDialer, host: str, port: int) -> Dialled:
    endpoint = IStreamClientEndpoint(dialer.endpoint_for(host, port))
    taken: Any = await endpoint.connect(Factory.forProtocol(_Taken))
    try:
        # The leftover is given to the protocol after connect has fired, within the same turn.
        await deferLater(reactor, 0)
    except defer.CancelledError:
        taken.transport.abortConnection()
        raise
    return Dialled(taken.transport, bytes(taken.early))
