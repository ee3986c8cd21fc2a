"""One end of tunnels: any rendezvous, any channel protocols (rows L13, N3, L15, X16).

    rendezvous.meet() -> meeting -> TLS -> the protocol that ALPN chose -> a connection of `Tunnel`

`TunnelEnd` asks its rendezvous for one meeting after the other. It keeps the tunnels that
come of them (`tunnelkit.net.channels.member`) and drains them when it stops; what does
not work it tries again, with backoff.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.errors import ChannelRefused, Code, TunnelkitError
from tunnelkit.interfaces import IChannelProtocol, IEnd, IMeeting, IRendezvous
from tunnelkit.net.channels.contracts import Connection, ExtendedConnection, ServiceBook
from tunnelkit.net.channels.establish import MakeMux, secure
from tunnelkit.net.channels.member import JoinedConnection, Member, TunnelMember
from tunnelkit.net.channels.progress import Progress, Stage
from tunnelkit.net.channels.totals import CROWDED_OUT, TOO_OFTEN
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.channels.unproved import Unproved
from tunnelkit.net.dial.backoff import Backoff
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.context import Credentials, TlsContext, certificate_name

_log = Logger()

ADVICE = "compare at both ends where they meet, and --peer with the name of the other"
_SETTLED = 5.0
"""An attempt that lasted so many seconds did not fail at once: the next wait is a short one."""
_MOST_DISTRUST = 2.0
"""Longest wait after strangers: who keeps sending them must not keep the others waiting long."""
ANOTHER_LIMIT = 20.0
"""Seconds for a further connection to come up."""


def context_for(
    credentials: Credentials, protocols: Iterable[IChannelProtocol], *, server_name: str = ""
) -> TlsContext:
    """The TLS settings of an end that speaks ``protocols``, best first; see `TlsContext`."""
    names = [name for protocol in protocols for name in protocol.alpn]
    return TlsContext(
        credentials,
        alpn=[name for name in names if name],
        alpn_optional=b"" in names,
        server_name=server_name,
    )


@implementer(IEnd)
class TunnelEnd:
    """Keeps the tunnels of one end up, from `start` to `stop`.

    ``peers`` are the names that the other end's certificate may have; none where
    ``context`` trusts pinned keys. ``context`` (`context_for`) is what later handshakes use;
    it may be replaced at any time. ``on_ready()`` is told once the end can first be used;
    ``advice`` is what to look at when nobody comes, for the log.

    With ``manual`` set before `start` it meets others only between `connect` and
    `disconnect`, which a person asks for (row L14).
    """

    manual = False

    def __init__(
        self,
        rendezvous: IRendezvous,
        protocols: Iterable[IChannelProtocol],
        *,
        tunnel: Tunnel,
        context: TlsContext,
        peers: Collection[str],
        on_ready: Callable[[], None] = lambda: None,
        advice: str = ADVICE,
    ) -> None:
        self.rendezvous = rendezvous
        self.protocols = tuple(protocols)
        self.tunnel = tunnel
        self.shared: Shared = tunnel.shared
        self.context = context
        self.peers = frozenset(peers)
        self.name = certificate_name(context.credentials.certificate)
        self._on_ready = on_ready
        self._advice = advice
        self._ready_told = False
        self._running = False
        self._members: set[Member] = set()
        self._tasks: set[Deferred[Any]] = set()
        self._drained: list[Deferred[None]] = []
        self._backoff = Backoff()
        self._distrust = Backoff(most=_MOST_DISTRUST)
        self._penalty = 0.0
        self.unproved = Unproved(self.shared.reactor.seconds)
        self._meeting_others: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self.progress = Progress(self.shared.reactor, self._nobody_comes)
        """How far it is on its way to the next tunnel."""
        self._waits_where = ""
        tunnel.books += [
            one
            for one in self.protocols
            if isinstance(one, ServiceBook) and one not in tunnel.books
        ]

    # -- life -------------------------------------------------------------

    def start(self) -> None:
        """Begin to meet others, and go on until `stop`; a manual end waits to be told."""
        self._running = True
        if self.manual:
            _log.info("Not connected: `tunnelkit connect` tells this end to")
            self.told_ready()
        else:
            self.connect()

    def stop(self, grace: float) -> Deferred[None]:
        """Drain: take no more channels, end when the open ones are over or after ``grace``."""
        self._running = False
        self.progress.settled()
        for task in list(self._tasks):
            task.cancel()
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        self._shut_down(grace, "this end is stopping")
        self.tunnel.refuse_waiting("this end is stopping")
        self._check_drained()
        return done

    @property
    def wanted(self) -> bool:
        """Whether it meets others, or is connected."""
        return self._meeting_others is not None

    def connect(self) -> None:
        """Meet others now, without waiting for the next attempt, and go on until `disconnect`."""
        if not self._running:
            return
        self._backoff.reset()
        if not self.tunnel.connections:
            self.progress.alone()
        if self._meeting_others is None:
            self._meeting_others = Deferred.fromCoroutine(self._keep_up())
            self.in_background(self._meeting_others)
        elif self._pause is not None:
            self._pause.callback(None)

    def disconnect(self, grace: float) -> None:
        """Meet nobody any more, and drain what is up."""
        meeting_others, self._meeting_others = self._meeting_others, None
        if meeting_others is not None:
            meeting_others.cancel()
        self.progress.at(Stage.DOWN)
        self.progress.settled()
        self._shut_down(grace, "disconnected by hand")
        self.tunnel.refuse_waiting("disconnected by hand")
        _log.info(
            "Disconnected by hand: {count} channels may finish, for {grace:g} s at most",
            count=self.draining,
            grace=grace,
        )

    @property
    def draining(self) -> int:
        """Channels of tunnels that end once these are over."""
        return sum(member.draining for member in self._members)

    def told_ready(self) -> None:
        """The end can be used."""
        if not self._ready_told:
            self._ready_told = True
            self._on_ready()

    def _shut_down(self, grace: float, reason: str) -> None:
        for member in list(self._members):
            member.shutdown(grace, reason)

    def _check_drained(self) -> None:
        if not self._running and not self._members:
            drained, self._drained = self._drained, []
            for done in drained:
                done.callback(None)

    # -- one meeting after the other --------------------------------------

    async def _keep_up(self) -> None:
        clock = self.shared.reactor.seconds
        while self._running:
            began = clock()
            try:
                self.progress.at(Stage.DIALLING)
                if await self._meet():
                    continue
                why = self.tunnel.last_error
                reason = f"The tunnel is down: {why}" if why else "The tunnel is down"
            except TunnelkitError as error:
                reason = str(error)
                self.tunnel.is_down(reason)
                self.tunnel.totals.failed += 1
            if clock() - began >= _SETTLED:
                self._backoff.reset()
            delay = self._backoff.next_delay()
            self.progress.at(Stage.DOWN, delay)
            _log.warn("{reason}; trying again in {delay:.1f} s", reason=reason, delay=delay)
            await self._wait(delay)

    async def _meet(self) -> bool:
        """Meet somebody. True: meet the next one without a pause. Raises `TunnelkitError`."""
        if self._penalty:
            penalty, self._penalty = self._penalty, 0.0
            await deferLater(self.shared.reactor, penalty, lambda: None)
        meeting = await self.rendezvous.meet(self._waits)
        self.progress.at(Stage.SECURING)
        serving = Deferred.fromCoroutine(self._serve(meeting))
        if not meeting.exclusive:
            self.in_background(serving)
            return True
        await serving
        return False

    def _waits(self, where: str) -> None:
        self.progress.at(Stage.WAITING)
        self._waits_where = where
        if where:
            _log.info(
                "Waiting {where} for tunnel {tunnel}: {who} may come",
                where=where,
                tunnel=self.tunnel.name,
                who=self.expected,
            )
        if self.rendezvous.serves:
            self.told_ready()

    @property
    def expected(self) -> str:
        """Who may be the other end, in words."""
        names = sorted(self.peers or self.context.credentials.pins.values())
        return " or ".join(names[:8]) or "anybody"

    def _nobody_comes(self, seconds: float) -> None:
        progress, problem = self.progress, self.tunnel.last_error
        how = progress.stage.value
        if progress.stage is Stage.WAITING and self._waits_where:
            how = f"{how} {self._waits_where}"
        how = f"{how} for {progress.seconds:.0f} s"
        if progress.next_try is not None:
            how = f"{how}, next try in {progress.next_try:.1f} s"
        _log.warn(
            "No tunnel {tunnel} with {who} for {seconds:.0f} s ({how}{problem}): {advice}",
            tunnel=self.tunnel.name,
            who=self.expected,
            seconds=seconds,
            how=how,
            problem=problem and f"; last problem: {problem}",
            advice=self._advice,
        )

    async def _serve(self, meeting: IMeeting) -> None:
        """From a meeting to the end of its tunnel."""
        host = meeting.host
        if host:
            if not self.unproved.admits(host):
                meeting.carrier.abort()
                self.tunnel.totals.rejected[TOO_OFTEN] += 1
                return
            if self.unproved.make_room(host):
                self.tunnel.totals.rejected[CROWDED_OUT] += 1
        member = TunnelMember(self, meeting.hops)
        proving = secure(self.shared, meeting, self.context, self.peers, member.make_mux, member)
        if host:
            self.unproved.add(proving, host)
        try:
            await proving
        except TunnelkitError as error:
            self.tunnel.totals.not_proved(error)
            self._not_proved(meeting, error)
            return
        self._distrust.reset()
        await member.over

    def _not_proved(self, meeting: IMeeting, error: TunnelkitError) -> None:
        """Nothing comes of ``meeting``; raises ``error`` where that is all there is to say."""
        reason = str(error)
        if meeting.caller:
            _log.warn("Refused {caller}: {reason}", caller=meeting.caller, reason=reason)
        elif meeting.announced:
            _log.warn(
                "No tunnel {tunnel} with who calls itself {shown}: {reason}",
                tunnel=self.tunnel.name,
                announced=meeting.announced,
                # A stranger's own words: where they end is to be seen.
                shown=json.dumps(meeting.announced),
                reason=reason,
            )
        elif meeting.exclusive:
            raise error
        else:
            _log.warn("No tunnel {tunnel}: {reason}", tunnel=self.tunnel.name, reason=reason)
        self.tunnel.is_down(reason)
        if not meeting.host:
            # Whoever sends us strangers must not make us dial as fast as we can.
            self._penalty = self._distrust.next_delay()

    async def _wait(self, delay: float) -> None:
        """A pause that `connect` cuts short."""
        self._pause = Deferred()
        timer = Timer(self.shared.reactor, self._pause_over)
        timer.start(delay)
        try:
            await self._pause
        finally:
            self._pause = None
            timer.stop()

    def _pause_over(self) -> None:
        if self._pause is not None:
            self._pause.callback(None)

    # -- for its members, and for what a protocol brings along ------------

    def tunnels_with(self, peer: str) -> int:
        """How many of the tunnels that are up are with that peer."""
        tunnels = (member for member in self._members if isinstance(member, TunnelMember))
        return sum(each.connection is not None and each.connection.peer == peer for each in tunnels)

    def member_began(self, member: Member) -> None:
        """A tunnel, or a further connection of one, is up."""
        self._members.add(member)
        self.progress.settled()

    def member_over(self, member: Member) -> None:
        """It is over."""
        self._members.discard(member)
        if self._running and self.wanted and not self._members:
            self.progress.alone()
        self._check_drained()

    def extend(
        self, protocol: IChannelProtocol, connection: ExtendedConnection
    ) -> Callable[[], object] | None:
        """Let ``protocol`` bring what it alone has."""
        return protocol.extend(connection, self)

    def another(self, beside: TunnelMember) -> Deferred[Connection]:
        """See `Connection.another`: it is made as the first one was."""
        if self.rendezvous.serves or beside.connection is None:
            reason = "the other end connects to this one, which cannot make another connection"
            return fail(ChannelRefused(Code.UNREACHABLE, reason))
        made: Deferred[Connection] = Deferred()
        making = Deferred.fromCoroutine(self._make_another(beside, beside.connection.peer))
        making.addTimeout(ANOTHER_LIMIT, self.shared.reactor)
        making.addBoth(_told, made)
        self.in_background(making)
        return made

    async def _make_another(self, beside: TunnelMember, peer: str) -> Connection:
        meeting = await self.rendezvous.meet()
        return await self._join(meeting, peer, beside.make_mux, lambda _: None, True)

    def in_background(self, task: Deferred[Any]) -> None:
        """See `IEnd`."""
        self._tasks.add(task)

        def done(result: Any) -> None:
            self._tasks.discard(task)
            if not _is_quiet(result):
                _log.failure("A tunnel ended in an unexpected way", failure=result)

        task.addBoth(done)

    def join(
        self,
        meeting: IMeeting,
        peer: str,
        make_mux: MakeMux,
        ended: Callable[[ExtendedConnection], object],
        apart: bool = False,
    ) -> Deferred[ExtendedConnection]:
        """See `IEnd`."""
        return Deferred.fromCoroutine(self._join(meeting, peer, make_mux, ended, apart))

    async def _join(
        self,
        meeting: IMeeting,
        peer: str,
        make_mux: MakeMux,
        ended: Callable[[ExtendedConnection], object],
        apart: bool,
    ) -> ExtendedConnection:
        joined = JoinedConnection(self, ended, apart)
        await secure(self.shared, meeting, self.context, (peer,), make_mux, joined)
        return await joined.up


def _told(result: Any, made: Deferred[Connection]) -> None:
    """Let ``made`` have the result; a task that is stopped has failed."""
    if not isinstance(result, Failure):
        made.callback(result)
    elif result.check(CancelledError, DeferredTimeout):
        made.errback(ChannelRefused(Code.TIMED_OUT, "no further connection came up in time"))
    else:
        made.errback(result)


def _is_quiet(result: Any) -> bool:
    """Whether a task ended as tasks may: done, told to stop, or failed for a known reason."""
    return result is None or bool(
        getattr(result, "check", None)
        and result.check(CancelledError, ConnectingCancelledError, TunnelkitError)
    )
