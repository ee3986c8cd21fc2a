"""An LSTP end: keeps meeting others at the middle and keeps a tunnel up (rows L5, L11, L13, L15).

A client end has one tunnel at a time. An end that serves (``server-end``, or
``both`` whose partner is a plain client end) goes back to the middle to wait
as soon as somebody has come, so that every client end finds it there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tunnelkit.core.lstp_mux import LstpMux, MuxConfig
from tunnelkit.core.types import ChannelEnded, ChannelOpened, ConnectionRequested
from tunnelkit.errors import Code, TunnelkitError
from tunnelkit.net.backoff import Backoff
from tunnelkit.net.channel import ChannelRecord
from tunnelkit.net.lstp_meeting import LstpMeeting, LstpRendezvous
from tunnelkit.net.securing import secure
from tunnelkit.net.session import Request, Session
from tunnelkit.net.shared import Shared
from tunnelkit.net.tls_context import TlsContext
from tunnelkit.net.tunnel import Tunnel
from tunnelkit.wire.lstp import BOTH, CLIENT_END, SERVER_END

_log = Logger()

MAX_FURTHER = 15
"""Further connections that an end accepts for one tunnel."""
_SETTLED = 5.0
"""An attempt that lasted so many seconds did not fail at once: the next wait is a short one."""
_JOIN_TIMEOUT = 20.0
"""Seconds for the two ends of a further connection to find each other."""


@attrs.frozen
class EndSettings:
    """How an LSTP end behaves, beyond who it is."""

    peers: frozenset[str]
    """Names that the other end's certificate may have."""
    mux: MuxConfig = attrs.field(factory=MuxConfig)
    connections: int = 1
    """Tunnel connections that a client end keeps to its peer."""


class LstpEnd:
    """Runs one end; `start` and `stop` it.

    ``on_state(text)`` is told, in words, what the end is doing; ``on_ready()``
    once it can first be used: the tunnel is up (client end), or it waits at
    the middle (an end that serves).
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
        self.tunnel = tunnel
        self.context = context
        self.settings = settings
        self._shared = shared
        self._rendezvous = rendezvous
        self._on_ready = on_ready
        self._ready_told = False
        self._running = False
        self._backoff = Backoff()
        self._distrust = Backoff()
        self._penalty = 0.0
        self._loop: Deferred[None] | None = None
        self._groups: set[_Group] = set()
        self._tasks: set[Deferred[Any]] = set()
        self._drained: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin to dial, and go on until `stop`."""
        self._running = True
        self._loop = Deferred.fromCoroutine(self._keep_up())
        self._loop.addErrback(_quiet)

    def stop(self, grace: float) -> Deferred[None]:
        """Drain: take no more channels, end when the open ones are over or after ``grace``."""
        self._running = False
        if self._loop is not None:
            self._loop.cancel()
        for task in list(self._tasks):
            task.cancel()
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        for group in list(self._groups):
            group.shutdown(grace, "this end is stopping")
        self._check_drained()
        return done

    # -- meeting ----------------------------------------------------------

    async def _keep_up(self) -> None:
        role = self._rendezvous.party.role
        while self._running:
            if self._penalty:
                penalty, self._penalty = self._penalty, 0.0
                await self._sleep(penalty)
            began = self._shared.reactor.seconds()
            try:
                meeting = await self._rendezvous.meet(self._waits)
                serving = Deferred.fromCoroutine(self._serve(meeting))
                if role == SERVER_END or (role == BOTH and meeting.announced_role == CLIENT_END):
                    # Somebody has come: wait for the next one already.
                    self._in_background(serving)
                    continue
                await serving
                reason = "The tunnel is down"
            except TunnelkitError as error:
                reason = str(error)
            if self._shared.reactor.seconds() - began >= _SETTLED:
                self._backoff.reset()
            delay = self._backoff.next_delay()
            _log.warn("{reason}; trying again in {delay:.1f} s", reason=reason, delay=delay)
            await self._sleep(delay)

    async def _serve(self, meeting: LstpMeeting) -> None:
        """From a meeting to the end of its tunnel."""
        group = _Group(self, meeting)
        try:
            await secure(
                self._shared,
                meeting,
                self.context,
                self.settings.peers,
                self._make_mux,
                group,
            )
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
        await group.over

    def _make_mux(self, master: bool, now: float) -> LstpMux:
        return LstpMux(master, self.settings.mux, now, budget=self._shared.budget)

    def _sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self._shared.reactor, seconds, lambda: None)

    def _waits(self) -> None:
        role = self._rendezvous.party.role
        _log.info("Waiting at the middle for tunnel {tunnel}", tunnel=self.tunnel.name)
        if role != CLIENT_END:
            self.told_ready()

    def told_ready(self) -> None:
        """The end can be used."""
        if not self._ready_told:
            self._ready_told = True
            self._on_ready()

    def _in_background(self, task: Deferred[Any]) -> None:
        self._tasks.add(task)

        def done(result: Any) -> None:
            self._tasks.discard(task)
            if not _is_quiet(result):
                _log.failure("A tunnel ended in an unexpected way", failure=result)

        task.addBoth(done)

    # -- groups -----------------------------------------------------------

    def group_began(self, group: _Group) -> None:
        """A tunnel connection is up."""
        self._groups.add(group)
        self._distrust.reset()

    def group_over(self, group: _Group) -> None:
        """A tunnel connection and its further ones are over."""
        self._groups.discard(group)
        self._check_drained()

    def join(self, group: _Group, common: str, peer: str) -> None:
        """Meet the other end of ``group`` for a further connection, under ``common``."""
        self._in_background(Deferred.fromCoroutine(self._join(group, common, peer)))

    async def _join(self, group: _Group, common: str, peer: str) -> None:
        meet = Deferred.fromCoroutine(self._rendezvous.at(common).meet())
        meet.addTimeout(_JOIN_TIMEOUT, self._shared.reactor)
        member = _Further(group)
        try:
            meeting = await meet
            await secure(
                self._shared, meeting, self.context, {peer}, group.make_further_mux, member
            )
        except (TunnelkitError, CancelledError, TimeoutError) as error:
            _log.warn("No further tunnel connection: {reason}", reason=str(error) or "too slow")

    def _check_drained(self) -> None:
        if not self._running and not self._groups:
            drained, self._drained = self._drained, []
            for done in drained:
                done.callback(None)


class _Group:
    """One tunnel connection with its further ones: the owner of its sessions (`SessionOwner`)."""

    def __init__(self, end: LstpEnd, meeting: LstpMeeting) -> None:
        self._end = end
        self._tunnel = end.tunnel
        self._topology = tuple(hop.name for hop in meeting.hops)
        self._main: Session | None = None
        self._further: set[Session] = set()
        self._accepted = 0
        self._joins: dict[int, str] = {}
        self.over: Deferred[None] = Deferred()

    # -- SessionOwner -----------------------------------------------------

    def session_up(self, session: Session) -> None:
        """The first connection is up."""
        self._main = session
        session.handle(ConnectionRequested, self._on_connection_requested)
        session.handle(ChannelOpened, self._on_opened)
        session.handle(ChannelEnded, self._on_ended)
        self._end.group_began(self)
        _log.info(
            "Tunnel {tunnel} with {peer} is up: {path}",
            tunnel=self._tunnel.name,
            peer=session.peer,
            path=" - ".join(self._topology),
        )
        self._tunnel.add(session, self._topology)
        self._end.told_ready()
        if self._end.settings.connections > 1:
            self._ask_for_more(session)

    def session_ended(self, session: Session, code: Code | None, reason: str) -> None:
        """The first connection is over, and the further ones with it."""
        self._tunnel.remove(session)
        if session is self._main:
            how = f"{code}: {reason}" if code is not None else "it was closed"
            _log.info(
                "Tunnel {tunnel} with {peer} has ended: {how}",
                tunnel=self._tunnel.name,
                peer=session.peer,
                how=how,
            )
        for further in list(self._further):
            further.end(Code.RESET, "the tunnel's first connection has ended")
        self._end.group_over(self)
        if not self.over.called:
            self.over.callback(None)

    def channel_requested(self, request: Request) -> None:
        """See `SessionOwner`."""
        self._tunnel.channel_requested(request)

    def channel_ended(self, record: ChannelRecord) -> None:
        """See `SessionOwner`."""
        self._tunnel.channel_ended(record)

    # -- further connections ----------------------------------------------

    def _mux(self) -> LstpMux:
        assert self._main is not None
        mux = self._main.mux
        assert isinstance(mux, LstpMux)
        return mux

    def make_further_mux(self, master: bool, now: float) -> LstpMux:
        """A mux that takes its limits from the first connection's."""
        shared_budget = self._mux().budget
        return LstpMux(
            master, self._end.settings.mux, now, budget=shared_budget, parent=self._mux()
        )

    def _ask_for_more(self, session: Session) -> None:
        for _ in range(self._end.settings.connections - 1):
            common = secrets.token_urlsafe(32)
            number = self._mux().request_connection(common, session.clock())
            self._joins[number] = common
        session.pump()

    def _on_connection_requested(self, event: ConnectionRequested) -> None:
        assert self._main is not None
        if self._accepted >= MAX_FURTHER:
            self._mux().refuse_connection(
                event.channel, Code.LIMIT, f"at most {MAX_FURTHER} further connections"
            )
            return
        self._accepted += 1
        self._mux().accept_connection(event.channel)
        self._end.join(self, event.join, self._main.peer)

    def _on_opened(self, event: ChannelOpened) -> None:
        assert self._main is not None
        common = self._joins.pop(event.channel, None)
        if common is None:
            self._main.channel_opened(event)
        else:
            self._end.join(self, common, self._main.peer)

    def _on_ended(self, event: ChannelEnded) -> None:
        assert self._main is not None
        if self._joins.pop(event.channel, None) is None:
            self._main.channel_ended(event)
        else:
            _log.info("The other end refuses a further connection: {why}", why=event.reason)

    def further_up(self, session: Session) -> None:
        """A further connection is up; too late if the first has ended."""
        if self.over.called:
            session.end(Code.RESET, "the tunnel's first connection has ended")
            return
        self._further.add(session)
        self._tunnel.add(session)
        _log.info(
            "Tunnel {tunnel} with {peer} has {number} connections",
            tunnel=self._tunnel.name,
            peer=session.peer,
            number=1 + len(self._further),
        )

    def further_ended(self, session: Session) -> None:
        """A further connection is over."""
        self._further.discard(session)
        self._tunnel.remove(session)

    def shutdown(self, grace: float, reason: str) -> None:
        """Drain all connections of the group."""
        for session in (self._main, *self._further):
            if session is not None:
                self._tunnel.remove(session)
                session.shutdown(grace, reason)


class _Further:
    """The owner of one further connection's session (`SessionOwner`)."""

    def __init__(self, group: _Group) -> None:
        self._group = group

    def session_up(self, session: Session) -> None:
        self._group.further_up(session)

    def session_ended(self, session: Session, code: Code | None, reason: str) -> None:
        self._group.further_ended(session)

    def channel_requested(self, request: Request) -> None:
        self._group.channel_requested(request)

    def channel_ended(self, record: ChannelRecord) -> None:
        self._group.channel_ended(record)


def _is_quiet(result: Any) -> bool:
    return result is None or bool(
        getattr(result, "check", None) and result.check(CancelledError, TunnelkitError)
    )


def _quiet(failure: Any) -> None:
    failure.trap(CancelledError)
