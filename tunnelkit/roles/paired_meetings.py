"""What an end makes of the count of its meetings: somebody else with a key shows (row Q2)."""

from __future__ import annotations

from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.pairing.meetings import Known, Verdict
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.meetings import JUST_NOW, MeetingCount
from tunnelkit.errors import ChannelClosed, Code, ConfigError
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import Connection
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.context import spki_pin
from tunnelkit.policy.meeting_counts import MeetingCounts
from tunnelkit.policy.printable import printable
from tunnelkit.roles.credential_watch import CredentialWatch

_log = Logger()

PATIENCE = 30.0
"""Seconds in which the other end has to begin, if it has counted before."""
AGAIN = JUST_NOW + 1.0
"""Seconds until a count is tried again that was one too many at once."""
TRIES = 3

_LINES = {
    Verdict.THIS: (
        "{peer} has met {name} {theirs} times, and the files here know of {ours}: they have been "
        "put back from a backup, or somebody else has the key of {name}; if nobody has put them "
        "back: {remedy}"
    ),
    Verdict.OTHER: (
        "The files here know of {ours} meetings with {peer}, and those of {peer} of {theirs}: "
        "they have been put back from a backup, or somebody else has the key of {peer}; if nobody "
        "has put them back: {remedy}"
    ),
    Verdict.EITHER: (
        "{name} and {peer} do not know of the same last meeting: files of one of them have been "
        "put back from a backup, or somebody else has a key of theirs; if nobody has put them "
        "back: {remedy}"
    ),
}
_SILENT = (
    "{peer} has counted its meetings before, and does not now: its files are others, or its "
    "version an older one, or somebody else has its key; if that is not so: {remedy}"
)


class PairedMeetings:
    """Of one end (a `tunnelkit.egress.meetings.Meetings`); ``paired``: they are counted."""

    def __init__(
        self,
        egress: Egress,
        tunnel: Tunnel,
        watch: CredentialWatch,
        state_dir: str | None,
        paired: bool,
    ) -> None:
        self._reactor = egress.reactor
        self._tunnel = tunnel
        self._watch = watch
        self._paired = paired
        self._counts = MeetingCounts(state_dir or Path(watch.identity_file).absolute().parent)
        self._count = MeetingCount(egress, self, self._counts)
        self._queues: dict[str, deque[tuple[TunnelConnection, int]]] = {}
        """Of each peer, those whose meeting is to be counted; the first is being counted."""
        self._timers: set[Timer] = set()
        self._expected: dict[TunnelConnection, Timer] = {}
        """Over which the other end has not counted yet."""
        self._told = ""

    def start(self) -> None:
        """Count from now on."""
        if self._paired:
            self._tunnel.watch(self._came)

    def stop(self) -> None:
        """Count no more."""
        self._tunnel.unwatch(self._came)
        for timer in (*self._timers, *self._expected.values()):
            timer.stop()
        self._timers.clear()
        self._expected.clear()

    # -- Meetings -----------------------------------------------------------------

    def keys(self, connection: TunnelConnection) -> tuple[str, str]:
        """See `Meetings`."""
        if not self._paired:
            raise ConfigError("meetings are not counted here: expected paired = true")
        own = spki_pin(self._watch.identity.credentials.certificate)
        return own.hex(), self._watch.key_of(connection).hex()

    def judged(
        self, connection: TunnelConnection, verdict: Verdict, own: Known, other: Known
    ) -> None:
        """See `Meetings`."""
        if (expected := self._expected.pop(connection, None)) is not None:
            expected.stop()
        if verdict is not Verdict.SAME:
            whose = self._watch.identity.name if verdict is Verdict.THIS else connection.peer
            _log.warn(
                _LINES[verdict],
                name=self._watch.identity.name,
                peer=printable(connection.peer),
                ours=own.last.number,
                theirs=other.last.number,
                remedy=self._remedy(connection.peer, whose),
            )

    # -- counting -----------------------------------------------------------------

    def _came(self, connection: Connection) -> None:
        if not isinstance(connection, TunnelConnection):
            return
        own, other = self.keys(connection)
        if own < other:
            self._queue(connection, TRIES)
        elif self._has_counted(connection):
            self._expected[connection] = timer = Timer(
                self._reactor, partial(self._not_counted, connection)
            )
            timer.start(PATIENCE)

    def _queue(self, connection: TunnelConnection, tries: int) -> None:
        waiting = self._queues.setdefault(connection.peer, deque())
        waiting.append((connection, tries))
        if len(waiting) == 1:
            self._next(connection.peer)

    def _next(self, peer: str) -> None:
        """Count the first of those that wait; one at a time, so that none takes another's place."""
        waiting = self._queues[peer]
        while waiting and not waiting[0][0].up:
            waiting.popleft()
        if not waiting:
            del self._queues[peer]
            return
        connection, tries = waiting[0]
        try:
            counted: Deferred[Any] = self._count.count(connection)
        except ConfigError as error:
            self._cannot_be_kept(error)
            waiting.popleft()
            self._next(peer)
            return
        counted.addErrback(self._failed, connection, tries)
        counted.addCallback(lambda _: self._over(peer))

    def _over(self, peer: str) -> None:
        self._queues[peer].popleft()
        self._next(peer)

    def _failed(self, why: Failure, connection: TunnelConnection, tries: int) -> None:
        error = why.value
        if isinstance(error, ConfigError):
            self._cannot_be_kept(error)
            return
        why.trap(ChannelClosed)
        assert isinstance(error, ChannelClosed)
        if error.code is Code.LIMIT:
            if tries > 1:
                again = Timer(self._reactor, lambda: self._try_again(again, connection, tries - 1))
                self._timers.add(again)
                again.start(AGAIN)
        elif error.code in (Code.NO_SUCH_SERVICE, Code.NOT_ALLOWED, Code.PROTOCOL):
            self._not_counted(connection)

    def _try_again(self, timer: Timer, connection: TunnelConnection, tries: int) -> None:
        self._timers.discard(timer)
        self._queue(connection, tries)

    def _not_counted(self, connection: TunnelConnection) -> None:
        self._expected.pop(connection, None)
        if connection.up and self._has_counted(connection):
            peer = connection.peer
            _log.warn(_SILENT, peer=printable(peer), remedy=self._remedy(peer, peer))

    def _has_counted(self, connection: TunnelConnection) -> bool:
        try:
            return bool(self._counts.known(*self.keys(connection)).last.number)
        except ConfigError as error:
            self._cannot_be_kept(error)
            return False

    def _cannot_be_kept(self, error: ConfigError) -> None:
        if str(error) != self._told:
            self._told = str(error)
            _log.warn("{why}", why=self._told)

    def _remedy(self, peer: str, whose: str) -> str:
        if self._watch.pins:
            return (
                f"take {printable(peer)} out of peer-pin, and pair the two by a code "
                "(`tunnelkit pair`)"
            )
        return f"`tunnelkit keys revoke {printable(whose)}`, and issue it a new key"
