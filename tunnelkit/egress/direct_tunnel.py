"""A tunnel that goes nowhere else: front ends alone, which connect from this machine by rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from tunnelkit.core.dns_exchange import Server
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.direct import DirectWay
from tunnelkit.egress.dns import DnsEgress
from tunnelkit.egress.joined_sides import JoinedSides
from tunnelkit.egress.udp import UdpEgress
from tunnelkit.errors import ChannelRefused, Code, ConfigError, LocalProtocolError
from tunnelkit.interfaces import ITunnel
from tunnelkit.net.channels.contracts import (
    Connection,
    DatagramSink,
    LocalSide,
    Remote,
    TunnelStatus,
)
from tunnelkit.net.channels.protocol_side import ChannelEndpoint
from tunnelkit.net.channels.udp_flow import UdpFlow
from tunnelkit.net.sockets.context import BATCH_SIZE, Shared
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.destination import UDP
from tunnelkit.policy.rules import parse_network, parse_rule

NAME = "direct"
"""What logs and rules call it, and the party that asks."""


@implementer(ITunnel)
class DirectTunnel(MultiService):
    """Connects from this machine to what ``allow`` names, by the rules of ``--allow``.

    ``sources`` are the networks whose programs may enter the ports of front ends; none: all. It
    opens no ports for others (SOCKS BIND is refused) and accepts no services. Once stopped,
    what it has open is reset. Raises `ConfigError` for a mistake in a rule.
    """

    name = NAME
    last_error = ""
    peer = NAME
    topology: tuple[str, ...] = (NAME,)
    connections: tuple[Connection, ...] = ()

    def __init__(
        self,
        reactor: Any,
        allow: Iterable[str],
        *,
        sources: Iterable[str] = (),
        dns_servers: tuple[Server, ...] = (),
    ) -> None:
        MultiService.__init__(self)
        self.shared = Shared.of(reactor)
        self.policy = PolicyHolder(
            Policy(
                tuple(parse_rule(rule) for rule in allow),
                tuple(parse_network(network) for network in sources),
            )
        )
        self._egress = Egress(reactor, self.shared.poller, self.policy)
        DnsEgress(self._egress, dns_servers)
        IService(UdpEgress(self._egress)).setServiceParent(self)
        self._way = DirectWay(self._egress)
        self._buffer = memoryview(bytearray(BATCH_SIZE))
        self._open: set[JoinedSides] = set()

    def stopService(self) -> Deferred[Any]:
        """Refuse what has not been answered, and reset what is open."""
        stopped: Deferred[Any] = MultiService.stopService(self)
        self._egress.close()
        for joined in list(self._open):
            joined.abort(Code.SHUTDOWN, "this program is stopping")
        return stopped

    # -- ITunnel ----------------------------------------------------------

    def to(self, *peers: str) -> DirectTunnel:
        """See `ITunnel`: raises `ConfigError`, there is nobody to choose."""
        raise ConfigError("a direct tunnel has no peers: expected nothing behind an '@'")

    def channel_to(self, destination: str) -> ChannelEndpoint:
        """See `ITunnel`."""
        return ChannelEndpoint(self, destination)

    def accept(self, service: str) -> IStreamServerEndpoint:
        """See `ITunnel`: listening on it fails, since nobody calls."""
        return _NobodyCalls()

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        """See `ITunnel`."""
        request = _Request(self, destination, side)
        if destination.startswith(f"{UDP}:"):
            request.refuse(Code.PROTOCOL, "datagrams do not fit into a stream")
        else:
            self._egress(request)
        return request.done

    def open_flow(self, destination: str, near: Remote, sink: DatagramSink) -> UdpFlow | None:
        """See `ITunnel`."""
        return self._way.open_flow(destination, near, sink, NAME)

    def watch(self, came: Callable[[Connection], object]) -> None:
        """See `ITunnel`: there are no connections to come."""

    def unwatch(self, came: Callable[[Connection], object]) -> None:
        """See `ITunnel`."""

    def when_up(self) -> Deferred[ITunnel]:
        """See `ITunnel`: it is up already."""
        return succeed(self)

    def status(self) -> TunnelStatus:
        """See `ITunnel`; bytes are not counted here."""
        return TunnelStatus(NAME, True, (NAME,), self.topology, 0, len(self._open), 0, 0)

    def joined(self, near: LocalSide, far: LocalSide) -> None:
        """Carry bytes between the two until both have ended."""
        pair = JoinedSides(near, far, self.shared.poller, self._buffer, self._open.discard)
        self._open.add(pair)
        pair.start()


class _Request:
    """An `EgressRequest` of this process itself."""

    def __init__(self, tunnel: DirectTunnel, destination: str, side: LocalSide) -> None:
        self.destination = destination
        self.peer = NAME
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self.done: Deferred[str] = Deferred(self._cancelled)
        self._tunnel = tunnel
        self._side = side

    def attach(self, side: LocalSide, bound: str, rule: str = "") -> object:
        """See `EgressRequest`."""
        if self.gone:
            side.reset(Code.RESET, "nobody waits for it any more")
            return None
        self.gone = True
        self._tunnel.joined(self._side, side)
        self.done.callback(bound)
        return None

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        """See `EgressRequest`: never asked of a stream, see `DirectTunnel.open`."""
        raise NotImplementedError

    def refuse(self, code: Code, reason: str) -> object:
        """See `EgressRequest`."""
        if not self.gone:
            self.gone = True
            self._side.reset(code, reason)
            self.done.errback(ChannelRefused(code, reason))
        return None

    def _cancelled(self, done: Deferred[str]) -> None:
        self.gone = True
        self._side.reset(Code.RESET, "nobody waits for it any more")
        if self.on_gone is not None:
            self.on_gone()


@implementer(IStreamServerEndpoint)
class _NobodyCalls:
    """Where a far side would call."""

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Fails with `LocalProtocolError`."""
        return fail(LocalProtocolError("nobody calls a direct tunnel: there is no far side"))
