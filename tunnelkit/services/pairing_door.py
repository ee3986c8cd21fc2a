"""Strangers at an inside's own port, beside the one who has the code (row Q2, rule X16)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.interfaces import IMeeting
from tunnelkit.net.channels.unproved import Unproved
from tunnelkit.net.pairing.session import PairingSession
from tunnelkit.wire.pairing import Offer

_log = Logger()


class PairingDoor:
    """Speaks with all who come at once, until one of them has had his try with the code.

    Whoever connects to a port may be anybody, a port scanner or a monitor: what does not speak the
    pairing protocol is no try, and holds up nobody else. There are as many of them, and as often
    of one address, as at a gate. ``begin`` starts a session.
    """

    def __init__(
        self, now: Callable[[], float], begin: Callable[[IMeeting], PairingSession]
    ) -> None:
        self._begin = begin
        self._strangers = Unproved(now)
        self._sessions: set[PairingSession] = set()
        self.closed = False
        """One has had his try: nobody else is spoken with any more."""
        self.on_closed: Callable[[], object] = lambda: None
        """Told when that is so."""
        self.outcome: Deferred[Offer] = Deferred()
        """Of that one."""

    def enter(self, meeting: IMeeting) -> None:
        """One who has come, from ``meeting.host``."""
        host = meeting.host
        if not self._strangers.admits(host):
            meeting.carrier.abort()
            return
        self._strangers.make_room(host)
        session = self._begin(meeting)
        self._sessions.add(session)
        self._strangers.add(session.done, host)
        session.on_tried = self._tried
        session.done.addBoth(self._over, session)

    def close(self) -> None:
        """Send everybody away."""
        for session in list(self._sessions):
            session.done.cancel()

    def _tried(self, trying: PairingSession) -> None:
        self.closed = True
        for session in self._sessions - {trying}:
            session.done.cancel()
        self.on_closed()

    def _over(self, result: Any, session: PairingSession) -> None:
        self._sessions.discard(session)
        if session.tried:
            self.outcome.callback(result)
        elif isinstance(result, Failure) and not result.check(CancelledError):
            _log.warn("Somebody came who did not get as far as a try: {error}", error=result.value)
