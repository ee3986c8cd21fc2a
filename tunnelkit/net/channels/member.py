"""The connections of an end: each is a tunnel, or carries channels of one beside the first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.core.mux.contract import TunnelMux
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.interfaces import IChannelProtocol
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord, Connection, PathHop
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.tunnel import Tunnel

_log = Logger()

MAX_TUNNELS = 64
"""Tunnels that an end keeps with one peer; further connections are not counted."""


class Member(Protocol):
    """What an end drains when it stops."""

    def shutdown(self, grace: float, reason: str) -> None:
        """Take no more channels; end when the open ones are over, or after ``grace`` seconds."""

    @property
    def draining(self) -> int:
        """Its channels that may still finish, after `shutdown`."""


class MemberEnd(Protocol):
    """The end, as its members see it."""

    @property
    def tunnel(self) -> Tunnel:
        """What front ends see."""

    @property
    def name(self) -> str:
        """This end's name."""

    @property
    def protocols(self) -> tuple[IChannelProtocol, ...]:
        """What it speaks, best first."""

    def told_ready(self) -> None:
        """The end can be used."""

    def extend(
        self, protocol: IChannelProtocol, connection: TunnelConnection
    ) -> Callable[[], object] | None:
        """Let ``protocol`` bring what it alone has, see `IChannelProtocol.extend`."""

    def tunnels_with(self, peer: str) -> int:
        """How many of its tunnels are with that peer."""

    def another(self, beside: TunnelMember) -> Deferred[Connection]:
        """See `Connection.another`, where nothing of the protocol makes it."""

    def member_began(self, member: Member) -> None:
        """It is up."""

    def member_over(self, member: Member) -> None:
        """It is over."""


class _Owner:
    """What every owner of a connection does (`ConnectionOwner`)."""

    def __init__(self, end: MemberEnd) -> None:
        self._end = end
        self.connection: TunnelConnection | None = None
        """The connection, once it is up."""
        tunnel = end.tunnel
        self.channel_requested: Callable[[ChannelRequest], None] = tunnel.channel_requested
        """See `ConnectionOwner`, as for the next two."""
        self.channel_began: Callable[[ChannelOpening], None] = tunnel.record
        self.channel_ended: Callable[[ChannelRecord], None] = tunnel.record

    def shutdown(self, grace: float, reason: str) -> None:
        """See `Member`."""
        if self.connection is not None:
            self._end.tunnel.remove(self.connection)
            self.connection.shutdown(grace, reason)

    @property
    def draining(self) -> int:
        """See `Member`."""
        connection = self.connection
        return connection.channel_count if connection and connection.draining else 0


class TunnelMember(_Owner):
    """One tunnel of ``end``, over a meeting with the parties ``hops`` on its path, as announced.

    ``over`` fires when it has ended.
    """

    def __init__(self, end: MemberEnd, hops: tuple[PathHop, ...]) -> None:
        super().__init__(end)
        self._protocol: IChannelProtocol | None = None
        self._hops = hops
        self._extension_ended: Callable[[], object] | None = None
        self.over: Deferred[None] = Deferred()

    def make_mux(self, master: bool, alpn: bytes, now: float) -> TunnelMux:
        """A mux of the protocol that was agreed on."""
        for protocol in self._end.protocols:
            if alpn in protocol.alpn:
                self._protocol = protocol
                return protocol.make_mux(master, alpn, now)
        raise RemoteProtocolError(f"TLS agreed on {alpn!r}, which no protocol here speaks")

    def connection_up(self, connection: TunnelConnection) -> None:
        """Channels can be opened, unless the peer has too many tunnels already (rule X25)."""
        reason = self._end.tunnel.refusal(connection.peer)
        if not reason and self._end.tunnels_with(connection.peer) >= MAX_TUNNELS:
            reason = f"{MAX_TUNNELS} tunnels with {connection.peer} are up already"
        if reason:
            _log.warn("Refused a tunnel: {reason}", reason=reason)
            connection.shutdown(0.0, reason)
            return
        self.connection = connection
        self._end.member_began(self)
        connection.make_another(partial(self._end.another, self))
        connection.hops = _proved(self._hops, self._end.name, connection)
        path = tuple(hop.name for hop in connection.hops)
        _log.info(
            "Tunnel {tunnel} with {peer} is up: {path}",
            event="tunnel-up",
            tunnel=self._end.tunnel.name,
            peer=connection.peer,
            path=" - ".join(path),
        )
        if self._protocol is not None:
            self._extension_ended = self._end.extend(self._protocol, connection)
        self._end.tunnel.add(connection, path)
        self._end.told_ready()

    def connection_ended(
        self, connection: TunnelConnection, code: Code | None, reason: str
    ) -> None:
        """It is over."""
        how = f"{code}: {reason}" if code is not None else "it was closed"
        if self._extension_ended is not None:
            self._extension_ended()
        tunnel = self._end.tunnel
        tunnel.ended(connection)
        tunnel.is_down(how)
        if self.connection is not None:
            _log.info(
                "Tunnel {tunnel} with {peer} has ended: {how}",
                event="tunnel-ended",
                tunnel=tunnel.name,
                peer=connection.peer,
                how=how,
            )
        self._end.member_over(self)
        if not self.over.called:
            self.over.callback(None)


def _proved(
    hops: tuple[PathHop, ...], name: str, connection: TunnelConnection
) -> tuple[PathHop, ...]:
    """The path with what this end knows by itself: both ends' names, and its own connection."""
    own, *others = hops or (PathHop(name), PathHop(connection.peer))
    others[0] = attrs.evolve(others[0], seen=connection.far_address)
    others[-1] = attrs.evolve(others[-1], name=connection.peer, proved=True)
    seen = connection.stream.carrier.near_address
    return attrs.evolve(own, name=name, seen=seen, proved=True), *others


class JoinedConnection(_Owner):
    """A further connection of a tunnel; ``ended`` is told when it is over.

    ``up`` fires with it, and fails if it ends before. One that is ``apart`` is for who has asked
    for it alone, and ends with its last channel.
    """

    def __init__(
        self, end: MemberEnd, ended: Callable[[TunnelConnection], object], apart: bool = False
    ) -> None:
        super().__init__(end)
        self._ended = ended
        self._apart = apart
        if apart:
            self.channel_ended = self._one_ended
        self.up: Deferred[TunnelConnection] = Deferred()

    def connection_up(self, connection: TunnelConnection) -> None:
        """See `ConnectionOwner`."""
        self.connection = connection
        self._end.member_began(self)
        # Who has asked for it may not want it any more.
        self.up.callback(connection)
        if connection.up and self._apart:
            self._end.tunnel.totals.connection_began(connection)
            _log.info(
                "Tunnel {tunnel} with {peer}: a connection of its own is up",
                tunnel=self._end.tunnel.name,
                peer=connection.peer,
            )
        elif connection.up:
            self._end.tunnel.add(connection)

    def _one_ended(self, record: ChannelRecord) -> None:
        self._end.tunnel.record(record)
        connection = self.connection
        if connection is not None and not connection.channel_count:
            connection.shutdown(0.0, "its channels have ended")

    def connection_ended(
        self, connection: TunnelConnection, code: Code | None, reason: str
    ) -> None:
        """See `ConnectionOwner`."""
        self._end.tunnel.ended(connection)
        self._end.member_over(self)
        if self.connection is None:
            self.up.errback(RemoteProtocolError(reason))
            return
        if self._apart:
            _log.info(
                "Tunnel {tunnel} with {peer}: the connection of its own has ended",
                tunnel=self._end.tunnel.name,
                peer=connection.peer,
            )
        self._ended(connection)
