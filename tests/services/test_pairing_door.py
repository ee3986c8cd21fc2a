"""The port of an inside: everybody is spoken with at once, and one has one try (row Q2, X16)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tunnelkit.errors import Code, PairingFailed
from tunnelkit.interfaces import IMeeting
from tunnelkit.net.channels.unproved import HANDSHAKE_BURST, MAX_UNPROVED_PER_ADDRESS
from tunnelkit.net.pairing.session import PairingSession
from tunnelkit.services.pairing_door import PairingDoor


class Meeting:
    """One who has come; it is its carrier too."""

    def __init__(self, host: str = "192.0.2.1") -> None:
        self.host = host
        self.carrier = self
        self.turned_away = False

    def abort(self) -> None:
        self.turned_away = True


class Session:
    """What is said with one."""

    def __init__(self) -> None:
        self.tried = False
        self.sent_away = False
        self.done: Deferred[Any] = Deferred(self._cancel)
        self.on_tried: Callable[[Any], object] = repr

    def _cancel(self, _done: Deferred[Any]) -> None:
        self.sent_away = True

    def has_its_try(self) -> None:
        self.tried = True
        self.on_tried(self)


class Inside:
    """A door, and who came through it."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.closed = 0
        self.door = PairingDoor(Clock().seconds, self.begin)
        self.door.on_closed = self.count

    def begin(self, meeting: IMeeting) -> PairingSession:
        self.sessions.append(Session())
        return cast(PairingSession, self.sessions[-1])

    def count(self) -> None:
        self.closed += 1

    def comes(self, host: str = "192.0.2.1") -> Meeting:
        meeting = Meeting(host)
        self.door.enter(cast(IMeeting, meeting))
        return meeting


def test_the_first_who_has_a_try_is_the_only_one() -> None:
    inside = Inside()
    for _ in range(3):
        inside.comes()
    left, trying, late = inside.sessions
    left.done.errback(PairingFailed("gone", Code.UNREACHABLE))
    assert (inside.closed, inside.door.outcome.called) == (0, False)
    trying.has_its_try()
    assert (inside.closed, late.sent_away, trying.sent_away) == (1, True, False)
    found: list[Any] = []
    outcome: Deferred[Any] = inside.door.outcome
    outcome.addErrback(found.append)
    trying.done.errback(PairingFailed("wrong", Code.WRONG_CODE))
    assert [failure.value.code for failure in found] == [Code.WRONG_CODE]


def test_one_address_has_few_places_and_few_turns() -> None:
    inside = Inside()
    inside.comes("198.51.100.7")
    other = inside.sessions[0]
    came = [inside.comes() for _ in range(HANDSHAKE_BURST + 5)]
    assert sum(meeting.turned_away for meeting in came) == 5
    staying = [session for session in inside.sessions if not session.sent_away]
    assert len(staying) == MAX_UNPROVED_PER_ADDRESS + 1
    assert not other.sent_away
    inside.door.close()
    assert all(session.sent_away for session in inside.sessions)
