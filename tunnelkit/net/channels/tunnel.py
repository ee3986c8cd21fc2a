"""A tunnel as front ends see it: open channels, accept channels, whatever carries them.

A `Tunnel` outlives its connections. While it is down, `Tunnel.open` waits a
moment for it to come back; further connections to the same peer share its
channels among them (row L5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from tunnelkit.core.barred import Barred
from tunnelkit.errors import ChannelRefused, Code, LocalProtocolError
from tunnelkit.interfaces import ITunnel
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import (
    ChannelEvent,
    Connection,
    DatagramSink,
    HopStatus,
    LocalSide,
    Remote,
    ServiceBook,
    TunnelStatus,
)
from tunnelkit.net.channels.narrowed import NarrowedTunnel, Peers, is_of
from tunnelkit.net.channels.protocol_side import ChannelEndpoint, ChannelTransport, TunnelAddress
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.totals import Totals
from tunnelkit.net.channels.udp_flow import UdpFlow
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.traffic import Traffic

OPEN_PATIENCE = 5.0
"""Seconds that an open waits for a tunnel that is down."""
_MOST_WAITING = 1000
MOST_PATHS = 64
"""Tunnels whose paths a status has."""


@implementer(ITunnel)
class Tunnel:
    """``acceptor`` is given each `ChannelRequest` that is not for a service accepted here."""

    def __init__(
        self,
        shared: Shared,
        name: str,
        acceptor: Callable[[ChannelRequest], None],
        on_record: Callable[[ChannelEvent], None],
    ) -> None:
        self.name = name
        self.topology: tuple[str, ...] = ()
        self.shared = shared
        self._acceptor = acceptor
        self.on_record = on_record
        """The access log."""
        self.totals = Totals()
        """What there has been since the start."""
        self._connections: list[TunnelConnection] = []
        self._alive: list[TunnelConnection] = []
        """Those that take channels, and those that drain."""
        self._barred = Barred()
        self.up_since: float | None = None
        self.last_error = ""
        """Why the tunnel is down, in words; empty while it is up."""
        self.books: list[ServiceBook] = []
        """Channel protocols that tell the far side which services are accepted here."""
        self.services: dict[str, tuple[IProtocolFactory, Peers]] = {}
        """Who answers channels to a service here, and whose; `ServiceEndpoint` puts them in."""
        self._waiting: list[_Waiting] = []
        self._up: list[tuple[Peers, Deferred[None]]] = []
        self._watching: list[Callable[[Connection], object]] = []

    # -- ITunnel ----------------------------------------------------------

    @property
    def peer(self) -> str:
        """Verified name of the other end; empty while the tunnel is down."""
        return self._connections[-1].peer if self._connections else ""

    def to(self, *peers: str) -> NarrowedTunnel:
        """The same as if nobody but ``peers`` ever came (rule X29)."""
        return NarrowedTunnel(self, frozenset(peers))

    def channel_to(self, destination: str) -> ChannelEndpoint:
        """A client endpoint; each connect opens one channel to ``destination``."""
        return ChannelEndpoint(self, destination)

    def accept(self, service: str, peers: Peers = None) -> ServiceEndpoint:
        """A server endpoint for channels that the far side opens to ``service:NAME``.

        While somebody listens on it the service is published, where the channel protocol has that.
        With ``peers`` nobody else is let in.
        """
        return ServiceEndpoint(self, service, peers)

    def when_up(self) -> Deferred[ITunnel]:
        """Fires once channels can be opened."""
        up: Deferred[ITunnel] = self.until_up(None).addCallback(lambda _: self)
        return up

    def until_up(self, peers: Peers) -> Deferred[None]:
        """Fires once channels to ``peers`` can be opened."""
        done: Deferred[None] = Deferred()
        if any(is_of(connection, peers) for connection in self._connections):
            done.callback(None)
        else:
            self._up.append((peers, done))
        return done

    def why_down(self, peers: Peers) -> str:
        """Why channels to ``peers`` cannot be opened; empty while they can."""
        if any(is_of(connection, peers) for connection in self._connections):
            return ""
        if peers is None or self.last_error:
            return self.last_error
        return f"{' or '.join(sorted(peers)) or 'nobody'} is not connected"

    def status(self) -> TunnelStatus:
        """A snapshot of now."""
        connections = self._connections
        return TunnelStatus(
            self.name,
            bool(connections),
            tuple(dict.fromkeys(connection.peer for connection in connections)),
            self.topology,
            len(connections),
            sum(connection.channel_count for connection in connections),
            self.totals.bytes_sent,
            self.totals.bytes_received,
            "" if connections else self.last_error,
            self.totals.connects,
            self.totals.opened,
            self.totals.refused,
            self.totals.broken,
            self.totals.failed,
            dict(self.totals.rejected),
            self.totals.open_times.snapshot(),
            self.totals.by_peer(connections),
            tuple(_hops([one for one in connections if one.hops][:MOST_PATHS])),
        )

    # -- opening ----------------------------------------------------------

    def open(
        self,
        destination: str,
        side: LocalSide,
        via: tuple[str, ...] = (),
        peers: Peers = None,
    ) -> Deferred[str]:
        """Open a channel to ``destination`` for ``side``, see `TunnelConnection.open`.

        Waits up to `OPEN_PATIENCE` seconds for a tunnel that is down.
        """
        connection = self._pick(peers)
        if connection is not None:
            return connection.open(destination, side, via)
        waiting = _Waiting(self, destination, side, via, peers)
        if len(self._waiting) >= _MOST_WAITING:
            waiting.give_up()
        else:
            self._waiting.append(waiting)
            waiting.timer.start(OPEN_PATIENCE)
        return waiting.done

    def open_flow(
        self, destination: str, near: Remote, sink: DatagramSink, peers: Peers = None
    ) -> UdpFlow | None:
        """A flow of datagrams of the local peer at ``near``, see `UdpFlows.open`; None while
        the tunnel is down."""
        connection = self._pick(peers)
        return None if connection is None else connection.datagrams.open(destination, near, sink)

    def _pick(self, peers: Peers) -> TunnelConnection | None:
        """The connection to open the next channel on: of ``peers`` the newest's least busy one."""
        connections = self._connections
        if len(connections) == 1 and peers is None:
            return connections[0] if connections[0].up else None
        # One that is over stays here until the end of the reactor's turn.
        connections = [one for one in connections if one.up and is_of(one, peers)]
        if len(connections) < 2:
            return connections[0] if connections else None
        peer = connections[-1].peer
        return min(
            (connection for connection in connections if connection.peer == peer),
            key=lambda connection: connection.channel_count,
        )

    def forget(self, waiting: _Waiting) -> None:
        """``waiting`` waits no more."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    # -- for the end that runs it -----------------------------------------

    def add(self, connection: TunnelConnection, topology: tuple[str, ...] = ()) -> None:
        """A connection is up."""
        if not self._connections:
            self.up_since = self.shared.reactor.seconds()
        self._connections.append(connection)
        self._alive.append(connection)
        self.totals.connection_began(connection)
        self.last_error = ""
        if topology:
            self.topology = topology
        for one in [one for one in self._waiting if is_of(connection, one.peers)]:
            self._waiting.remove(one)
            one.go(connection)
        up = [entry for entry in self._up if is_of(connection, entry[0])]
        self._up = [entry for entry in self._up if entry not in up]
        for _, done in up:
            done.callback(None)
        for came in list(self._watching):
            came(connection)

    def is_down(self, why: str) -> None:
        """An attempt has failed, or a connection has ended: ``why``, for who asks."""
        if not self._connections:
            self.last_error = why

    def refuse_waiting(self, why: str) -> None:
        """There will be no connection for those who wait for one: ``why``."""
        self.is_down(why)
        for one in list(self._waiting):
            one.timer.stop()
            one.give_up()

    def watch(self, came: Callable[[Connection], object]) -> None:
        """Call ``came`` with each connection, those that are up and each one to come."""
        self._watching.append(came)
        for connection in self.connections:
            came(connection)

    def unwatch(self, came: Callable[[Connection], object]) -> None:
        """Call it no more."""
        if came in self._watching:
            self._watching.remove(came)

    def remove(self, connection: TunnelConnection) -> None:
        """A connection takes no more channels: it drains, or is over."""
        if connection in self._connections:
            self._connections.remove(connection)
            if not self._connections:
                self.up_since = None

    def ended(self, connection: TunnelConnection) -> None:
        """A connection is over."""
        self.remove(connection)
        if connection in self._alive:
            self._alive.remove(connection)
        self.totals.connection_ended(connection)

    def record(self, event: ChannelEvent) -> None:
        """A channel has begun, or has ended."""
        self.totals.channel(event)
        self.on_record(event)

    @property
    def connections(self) -> tuple[TunnelConnection, ...]:
        """Those that take channels."""
        return tuple(self._connections)

    # -- by hand (row O6) -------------------------------------------------

    def traffic(self) -> Iterator[Traffic]:
        """A row for each channel."""
        for connection in tuple(self._alive):
            yield from connection.traffic()

    def end_channel(self, serial: int) -> bool:
        """Reset a channel; False: there is none with that number."""
        return any(connection.end_channel(serial) for connection in tuple(self._alive))

    def throw_out(self, peer: str, seconds: float) -> int:
        """End all connections with ``peer`` and refuse it for so long; how many there were."""
        self._barred.bar(peer, self.shared.reactor.seconds() + seconds)
        theirs = [connection for connection in self._alive if connection.peer == peer]
        for connection in theirs:
            self.remove(connection)
            connection.shutdown(0.0, "thrown out by hand")
        return len(theirs)

    def refusal(self, peer: str) -> str:
        """Why there is no tunnel with ``peer`` for now; empty: there may be."""
        seconds = self._barred.seconds(peer, self.shared.reactor.seconds())
        return f"{peer} is kept out by hand for {seconds:.0f} s more" if seconds else ""

    def channel_requested(self, request: ChannelRequest) -> None:
        """The far side wants a channel: to a service accepted here, or through the acceptor."""
        kind, _, service = request.destination.partition(":")
        factory, peers = self.services.get(service, (None, None))
        if kind != "service" or factory is None:
            self._acceptor(request)
            return
        if not is_of(request, peers):
            request.refuse(Code.NOT_ALLOWED, "the service is for somebody else")
            return
        near = TunnelAddress("", request.destination)
        far = TunnelAddress(request.peer, "")
        protocol = factory.buildProtocol(far)
        if protocol is None:
            request.refuse(Code.REFUSED, "the service takes no more connections")
            return
        transport = ChannelTransport(protocol, near, far)
        # The protocol first: what the far side has sent already is pushed by attaching.
        transport.begin()
        request.attach(transport, "")

    def accept_service(self, name: str, factory: IProtocolFactory, peers: Peers) -> None:
        """Let ``factory`` answer channels of ``peers`` to ``service:NAME``; raises as
        `ServiceEndpoint.listen` fails."""
        if name in self.services:
            raise ValueError(f"service:{name} is accepted already")
        told: list[ServiceBook] = []
        try:
            for book in self.books:
                book.service_accepted(name)
                told.append(book)
        except (ValueError, LocalProtocolError):
            for book in told:
                book.service_withdrawn(name)
            raise
        self.services[name] = (factory, peers)


def _hops(connections: Iterable[TunnelConnection]) -> Iterator[HopStatus]:
    for number, connection in enumerate(connections, 1):
        for hop in connection.hops:
            yield HopStatus(
                hop.name, hop.role, hop.address, hop.seen, proved=hop.proved, tunnel=number
            )


class _Waiting:
    """An open that waits for the tunnel."""

    def __init__(
        self,
        tunnel: Tunnel,
        destination: str,
        side: LocalSide,
        via: tuple[str, ...],
        peers: Peers,
    ) -> None:
        self.peers = peers
        self._tunnel = tunnel
        self._destination = destination
        self._side = side
        self._via = via
        self.timer = Timer(tunnel.shared.reactor, self.give_up)
        self.done: Deferred[str] = Deferred()

    def go(self, connection: TunnelConnection) -> None:
        """The tunnel is up."""
        self.timer.stop()
        connection.open(self._destination, self._side, self._via).chainDeferred(self.done)

    def give_up(self) -> None:
        """It did not come up in time."""
        self._tunnel.forget(self)
        why = self._tunnel.why_down(self.peers)
        reason = f"the tunnel is down: {why}" if why else "the tunnel is down"
        self._side.reset(Code.UNREACHABLE, reason)
        self.done.errback(ChannelRefused(Code.UNREACHABLE, reason))


@implementer(IStreamServerEndpoint)
class ServiceEndpoint:
    """Listening on it accepts channels that the far side opens to ``service:NAME``."""

    def __init__(self, tunnel: Tunnel, name: str, peers: Peers) -> None:
        self._tunnel = tunnel
        self._name = name
        self._peers = peers

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Fails with ValueError if the service is accepted or published already, and with
        `LocalProtocolError` if too much is published."""
        tunnel, name = self._tunnel, self._name
        try:
            tunnel.accept_service(name, protocolFactory, self._peers)
        except (ValueError, LocalProtocolError) as error:
            return fail(error)
        return succeed(_ServicePort(tunnel, name, protocolFactory))


@implementer(IListeningPort)
class _ServicePort:
    """What stops a `ServiceEndpoint` from listening."""

    def __init__(self, tunnel: Tunnel, name: str, factory: Any) -> None:
        self._tunnel = tunnel
        self._name = name
        self._factory = factory
        factory.doStart()

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> None:
        """Refuse the service from now on; open channels stay."""
        if self._tunnel.services.pop(self._name, None) is not None:
            for book in self._tunnel.books:
                book.service_withdrawn(self._name)
            self._factory.doStop()

    def getHost(self) -> IAddress:
        """The service's name as an address."""
        return TunnelAddress("", f"service:{self._name}")
