"""What the ends of every protocol have in common: tunnels that come and go, and an orderly stop.

`End` keeps the tunnels that are up (`TunnelMember`, the owner of a connection)
and drains them; `DiallingEnd` goes on dialling, with backoff, until it is
stopped (rows L13, N3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tunnelkit.errors import Code, TunnelkitError
from tunnelkit.net.channels.channel import ChannelRecord
from tunnelkit.net.channels.connection import ChannelRequest, TunnelConnection
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.dial.backoff import Backoff
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import TlsContext

_log = Logger()

_SETTLED = 5.0
"""An attempt that lasted so many seconds did not fail at once: the next wait is a short one."""


class Member(Protocol):
    """A tunnel that an end keeps."""

    def shutdown(self, grace: float, reason: str) -> None:
        """Drain it."""


class End:
    """``context`` is what later handshakes use; it may be replaced at any time.

    ``on_ready()`` is told once the end can first be used.
    """

    def __init__(
        self, shared: Shared, context: TlsContext, tunnel: Tunnel, on_ready: Callable[[], None]
    ) -> None:
        self.shared = shared
        self.context = context
        self.tunnel = tunnel
        self._on_ready = on_ready
        self._ready_told = False
        self._running = False
        self._members: set[Member] = set()
        self._tasks: set[Deferred[Any]] = set()
        self._drained: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin."""
        self._running = True

    def stop(self, grace: float) -> Deferred[None]:
        """Drain: take no more channels, end when the open ones are over or after ``grace``."""
        self._running = False
        for task in list(self._tasks):
            task.cancel()
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        for member in list(self._members):
            member.shutdown(grace, "this end is stopping")
        self._check_drained()
        return done

    def told_ready(self) -> None:
        """The end can be used."""
        if not self._ready_told:
            self._ready_told = True
            self._on_ready()

    def member_began(self, member: Member) -> None:
        """A tunnel is up."""
        self._members.add(member)

    def member_over(self, member: Member) -> None:
        """A tunnel is over."""
        self._members.discard(member)
        self._check_drained()

    def in_background(self, task: Deferred[Any]) -> None:
        """Let ``task`` go on by itself; it is cancelled when the end stops."""
        self._tasks.add(task)

        def done(result: Any) -> None:
            self._tasks.discard(task)
            if not _is_quiet(result):
                _log.failure("A tunnel ended in an unexpected way", failure=result)

        task.addBoth(done)

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after ``seconds``."""
        return deferLater(self.shared.reactor, seconds, lambda: None)

    def _check_drained(self) -> None:
        if not self._running and not self._members:
            drained, self._drained = self._drained, []
            for done in drained:
                done.callback(None)


class DiallingEnd(End):
    """An end that dials, again and again.

    With ``manual`` set before `start` it does so only between `connect` and
    `disconnect`, which a person asks for (row L14).
    """

    manual = False

    def __init__(
        self, shared: Shared, context: TlsContext, tunnel: Tunnel, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(shared, context, tunnel, on_ready)
        self._backoff = Backoff()
        self._dialling: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to dial, and go on until `stop`; a manual end waits to be told."""
        super().start()
        if self.manual:
            _log.info("Not connected: `tunnelkit connect` tells this end to")
            self.told_ready()
        else:
            self.connect()

    @property
    def wanted(self) -> bool:
        """Whether it dials, or is connected."""
        return self._dialling is not None

    def connect(self) -> None:
        """Dial now, without waiting for the next attempt, and go on until `disconnect`."""
        if not self._running:
            return
        self._backoff.reset()
        if self._dialling is None:
            self._dialling = Deferred.fromCoroutine(self._keep_up())
            self.in_background(self._dialling)
        elif self._pause is not None:
            self._pause.callback(None)

    def disconnect(self, grace: float) -> None:
        """Stop dialling, and drain what is up."""
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        for member in list(self._members):
            member.shutdown(grace, "disconnected by hand")

    async def attempt(self) -> bool:
        """Dial once, and stay until the tunnel is over.

        True: dial again without a pause. Raises `TunnelkitError` for what did not work.
        """
        raise NotImplementedError

    async def _keep_up(self) -> None:
        clock = self.shared.reactor.seconds
        while self._running:
            began = clock()
            try:
                if await self.attempt():
                    continue
                reason = "The tunnel is down"
            except TunnelkitError as error:
                reason = str(error)
            if clock() - began >= _SETTLED:
                self._backoff.reset()
            delay = self._backoff.next_delay()
            _log.warn("{reason}; trying again in {delay:.1f} s", reason=reason, delay=delay)
            await self._wait(delay)

    async def _wait(self, delay: float) -> None:
        """A pause that `connect` cuts short."""
        self._pause = Deferred()
        timer = self.shared.reactor.callLater(delay, self._pause.callback, None)
        try:
            await self._pause
        finally:
            self._pause = None
            if timer.active():
                timer.cancel()


class TunnelMember:
    """One tunnel of an end: the owner of its connection (`ConnectionOwner`).

    ``over`` fires when it has ended. ``topology``: the parties on the path, own end first.
    """

    def __init__(self, end: End, topology: tuple[str, ...]) -> None:
        self._end = end
        self._topology = topology
        self.connection: TunnelConnection | None = None
        """The connection, once it is up."""
        self.over: Deferred[None] = Deferred()

    def connection_up(self, connection: TunnelConnection) -> None:
        """Channels can be opened."""
        self.connection = connection
        self._end.member_began(self)
        _log.info(
            "Tunnel {tunnel} with {peer} is up: {path}",
            tunnel=self._end.tunnel.name,
            peer=connection.peer,
            path=" - ".join(self._topology or (connection.peer,)),
        )
        self._end.tunnel.add(connection, self._topology)
        self._end.told_ready()

    def connection_ended(
        self, connection: TunnelConnection, code: Code | None, reason: str
    ) -> None:
        """It is over."""
        self._end.tunnel.remove(connection)
        if self.connection is not None:
            _log.info(
                "Tunnel {tunnel} with {peer} has ended: {how}",
                tunnel=self._end.tunnel.name,
                peer=connection.peer,
                how=f"{code}: {reason}" if code is not None else "it was closed",
            )
        self._end.member_over(self)
        if not self.over.called:
            self.over.callback(None)

    def channel_requested(self, request: ChannelRequest) -> None:
        """See `ConnectionOwner`."""
        self._end.tunnel.channel_requested(request)

    def channel_ended(self, record: ChannelRecord) -> None:
        """See `ConnectionOwner`."""
        self._end.tunnel.channel_ended(record)

    def shutdown(self, grace: float, reason: str) -> None:
        """See `Member`."""
        if self.connection is not None:
            self._end.tunnel.remove(self.connection)
            self.connection.shutdown(grace, reason)


def _is_quiet(result: Any) -> bool:
    """Whether a task ended as tasks may: done, told to stop, or failed for a known reason."""
    return result is None or bool(
        getattr(result, "check", None)
        and result.check(CancelledError, ConnectingCancelledError, TunnelkitError)
    )
