"""An LSTP end: keeps meeting others at the middle and keeps a tunnel up (rows L5, L11, L13, L15).

A client end has one tunnel at a time. An end that serves (``server-end``, or
``both`` whose partner is a plain client end) goes back to the middle to wait
as soon as somebody has come, so that every client end finds it there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from tunnelkit.core.lstp.mux import LstpChannels, LstpMux, MuxConfig
from tunnelkit.core.lstp.socket_table import TrustedSocket
from tunnelkit.core.mux.contract import (
    ChannelEnded,
    ChannelOpened,
    ConnectionRequested,
    ServicesChanged,
)
from tunnelkit.errors import Code, TunnelkitError
from tunnelkit.net.channels.channel import ChannelRecord
from tunnelkit.net.channels.connection import ChannelRequest, TunnelConnection
from tunnelkit.net.channels.end import DiallingEnd, TunnelMember
from tunnelkit.net.channels.establish import secure
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.dial.backoff import Backoff
from tunnelkit.net.lstp.meeting import LstpMeeting, LstpRendezvous
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.wire.lstp import BOTH, CLIENT_END, SERVER_END

_log = Logger()

MAX_FURTHER = 15
"""Further connections that an end accepts for one tunnel."""
_MOST_DISTRUST = 2.0
"""Longest wait after strangers: who keeps sending them must not keep the others waiting long."""
_JOIN_TIMEOUT = 20.0
"""Seconds for the two ends of a further connection to find each other."""


@attrs.frozen
class EndSettings:
    """How an LSTP end behaves, upstream who it is."""

    peers: frozenset[str]
    """Names that the other end's certificate may have."""
    mux: MuxConfig = attrs.field(factory=MuxConfig)
    connections: int = 1
    """Tunnel connections that a client end keeps to its peer."""


class LstpEnd(DiallingEnd):
    """Runs one end; `start` and `stop` it.

    It is ready when the tunnel is up (client end), or when it waits at the
    middle (an end that serves).
    """

    def __init__(
        self,
        shared: Shared,
        rendezvous: LstpRendezvous,
        context: TlsContext,
        settings: EndSettings,
        tunnel: Tunnel,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(shared, context, tunnel, on_ready)
        self.settings = settings
        self.on_services: Callable[[TunnelConnection, Sequence[TrustedSocket]], object] = (
            _nobody_listens
        )
        """Told of what the far side of a connection publishes, whenever that changes; nothing any
        more when the connection has ended (rows T1, T3)."""
        tunnel.on_published = self._announce
        self._rendezvous = rendezvous
        self._distrust = Backoff(most=_MOST_DISTRUST)
        self._penalty = 0.0
        self._meeting: Deferred[LstpMeeting] | None = None
        self._meets_anew = False

    async def attempt(self) -> bool:
        """Meet somebody at the middle; an end that serves waits there again at once."""
        if self._penalty:
            penalty, self._penalty = self._penalty, 0.0
            await self.sleep(penalty)
        role = self._rendezvous.party.role
        self._meeting = Deferred.fromCoroutine(self._rendezvous.meet(self._waits))
        try:
            meeting = await self._meeting
        except CancelledError:
            if not self._meets_anew:
                raise
            return True
        finally:
            self._meeting, self._meets_anew = None, False
        serving = Deferred.fromCoroutine(self._serve(meeting))
        if role == SERVER_END or (role == BOTH and meeting.announced_role == CLIENT_END):
            self.in_background(serving)
            return True
        await serving
        return False

    def meet_anew(self) -> None:
        """The rendezvous' ``party`` is another one: who waits at the middle goes by it at once."""
        if self._meeting is not None:
            self._meets_anew = True
            self._meeting.cancel()

    async def _serve(self, meeting: LstpMeeting) -> None:
        """From a meeting to the end of its tunnel."""
        group = _Group(self, tuple(hop.name for hop in meeting.hops))
        peers = self.settings.peers
        try:
            await secure(self.shared, meeting, self.context, peers, self._make_mux, group)
        except TunnelkitError as error:
            _log.warn(
                "No tunnel {tunnel} with who calls itself {announced}: {reason}",
                tunnel=self.tunnel.name,
                announced=meeting.announced,
                reason=str(error),
            )
            # Whoever sends us strangers must not make us dial as fast as we can.
            self._penalty = self._distrust.next_delay()
            return
        self._distrust.reset()
        await group.over

    def _make_mux(self, master: bool, alpn: bytes, now: float) -> LstpMux:
        channels = LstpChannels(self.settings.mux, self.shared.budget, self.tunnel.published)
        return channels.make_mux(master, now)

    def _announce(self) -> None:
        for member in list(self._members):
            assert isinstance(member, _Group)
            member.announce()

    def _waits(self) -> None:
        _log.info("Waiting at the middle for tunnel {tunnel}", tunnel=self.tunnel.name)
        if self._rendezvous.party.role != CLIENT_END:
            self.told_ready()

    def join(self, group: _Group, common: str, peer: str) -> None:
        """Meet the other end of ``group`` for a further connection, under ``common``."""
        self.in_background(Deferred.fromCoroutine(self._join(group, common, peer)))

    async def _join(self, group: _Group, common: str, peer: str) -> None:
        meet = Deferred.fromCoroutine(self._rendezvous.at(common).meet())
        meet.addTimeout(_JOIN_TIMEOUT, self.shared.reactor)
        member = _Further(group)
        try:
            meeting = await meet
            await secure(self.shared, meeting, self.context, {peer}, group.further_mux, member)
        except (TunnelkitError, CancelledError, TimeoutError) as error:
            _log.warn("No further tunnel connection: {reason}", reason=str(error) or "too slow")


class _Group(TunnelMember):
    """One tunnel connection with its further ones."""

    def __init__(self, end: LstpEnd, topology: tuple[str, ...]) -> None:
        super().__init__(end, topology)
        self._lstp = end
        self._further: set[TunnelConnection] = set()
        self._accepted = 0
        self._joins: dict[int, str] = {}

    def connection_up(self, connection: TunnelConnection) -> None:
        """The first connection is up."""
        connection.handle(ConnectionRequested, self._on_connection_requested)
        connection.handle(ChannelOpened, self._on_opened)
        connection.handle(ChannelEnded, self._on_ended)
        connection.handle(ServicesChanged, self._on_services_changed)
        super().connection_up(connection)
        # What has been published since the handshake.
        self.announce()
        if self._lstp.settings.connections > 1:
            self._ask_for_more(connection)

    def connection_ended(
        self, connection: TunnelConnection, code: Code | None, reason: str
    ) -> None:
        """The first connection is over, and the further ones with it."""
        for further in list(self._further):
            further.end(Code.RESET, "the tunnel's first connection has ended")
        self._lstp.on_services(connection, ())
        super().connection_ended(connection, code, reason)

    def shutdown(self, grace: float, reason: str) -> None:
        """Drain all connections of the group."""
        super().shutdown(grace, reason)
        for further in list(self._further):
            self._lstp.tunnel.remove(further)
            further.shutdown(grace, reason)

    # -- trusted sockets --------------------------------------------------

    def announce(self) -> None:
        """Tell the far side what is published here now."""
        connection, mux = self._first()
        mux.trusted.announce(connection.clock())
        connection.pump()

    def _on_services_changed(self, event: ServicesChanged) -> None:
        connection, _ = self._first()
        self._lstp.on_services(connection, event.services)

    # -- further connections ----------------------------------------------

    def _first(self) -> tuple[TunnelConnection, LstpMux]:
        assert self.connection is not None
        assert isinstance(self.connection.mux, LstpMux)
        return self.connection, self.connection.mux

    def further_mux(self, master: bool, alpn: bytes, now: float) -> LstpMux:
        """A mux that takes its limits from the first connection's."""
        _, mux = self._first()
        return LstpMux(master, self._lstp.settings.mux, now, budget=mux.budget, parent=mux)

    def _ask_for_more(self, connection: TunnelConnection) -> None:
        _, mux = self._first()
        for _ in range(self._lstp.settings.connections - 1):
            common = secrets.token_urlsafe(32)
            self._joins[mux.further.request(common, connection.clock())] = common
        connection.pump()

    def _on_connection_requested(self, event: ConnectionRequested) -> None:
        connection, mux = self._first()
        if self._accepted >= MAX_FURTHER:
            reason = f"at most {MAX_FURTHER} further connections"
            mux.further.refuse(event.channel, Code.LIMIT, reason)
            return
        self._accepted += 1
        mux.further.accept(event.channel)
        self._lstp.join(self, event.join, connection.peer)

    def _on_opened(self, event: ChannelOpened) -> None:
        connection, _ = self._first()
        common = self._joins.pop(event.channel, None)
        if common is None:
            connection.channel_opened(event)
        else:
            self._lstp.join(self, common, connection.peer)

    def _on_ended(self, event: ChannelEnded) -> None:
        connection, _ = self._first()
        if self._joins.pop(event.channel, None) is None:
            connection.channel_ended(event)
        else:
            _log.info("The other end refuses a further connection: {why}", why=event.reason)

    def further_up(self, connection: TunnelConnection) -> None:
        """A further connection is up; too late if the first has ended."""
        if self.over.called:
            connection.end(Code.RESET, "the tunnel's first connection has ended")
            return
        self._further.add(connection)
        self._lstp.tunnel.add(connection)
        _log.info(
            "Tunnel {tunnel} with {peer} has {number} connections",
            tunnel=self._lstp.tunnel.name,
            peer=connection.peer,
            number=1 + len(self._further),
        )

    def further_ended(self, connection: TunnelConnection) -> None:
        """A further connection is over."""
        self._further.discard(connection)
        self._lstp.tunnel.remove(connection)


class _Further:
    """The owner of one further connection (`ConnectionOwner`)."""

    def __init__(self, group: _Group) -> None:
        self._group = group

    def connection_up(self, connection: TunnelConnection) -> None:
        self._group.further_up(connection)

    def connection_ended(
        self, connection: TunnelConnection, code: Code | None, reason: str
    ) -> None:
        self._group.further_ended(connection)

    def channel_requested(self, request: ChannelRequest) -> None:
        self._group.channel_requested(request)

    def channel_ended(self, record: ChannelRecord) -> None:
        self._group.channel_ended(record)


def _nobody_listens(connection: TunnelConnection, services: Sequence[TrustedSocket]) -> None:
    """What `LstpEnd.on_services` is where no ports are opened."""
