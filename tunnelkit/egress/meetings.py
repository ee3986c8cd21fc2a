"""Meetings of paired ends, counted through the tunnel (row Q2): channels to ``service:@met``.

Of the two the one with the lower key opens one over each connection; see
`tunnelkit.core.pairing.meetings`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

from twisted.internet.defer import Deferred

from tunnelkit.core.pairing.meetings import (
    Action,
    Counting,
    Input,
    Known,
    State,
    Verdict,
    compare,
    counting,
    number_after,
)
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.egress.talk_channel import TalkChannel
from tunnelkit.errors import ChannelClosed, Code, ConfigError
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.policy.destination import SERVICE, Destination
from tunnelkit.policy.meeting_counts import MeetingCounts
from tunnelkit.wire.meetings import Count, Met, Next, Noted

DESTINATION = f"{SERVICE}:@met"
JUST_NOW = 3.0
"""Seconds in which another connection of the same end may still be about to count."""


class Meetings(Protocol):
    """What an end does about meetings."""

    def keys(self, connection: TunnelConnection) -> tuple[str, str]:
        """This end's key and the other's, 64 hex digits each; raises `ConfigError` if meetings are
        not counted."""

    def judged(
        self, connection: TunnelConnection, verdict: Verdict, own: Known, other: Known
    ) -> None:
        """The two have compared what they know."""


class MeetingCount:
    """Counts those of one end, whose requests ``egress`` answers."""

    def __init__(self, egress: Egress, meetings: Meetings, counts: MeetingCounts) -> None:
        self.reactor = egress.reactor
        self.meetings = meetings
        self.counts = counts
        self._noted: WeakSet[TunnelConnection] = WeakSet()
        """Over which the other end has counted."""
        egress.answer_with(DESTINATION, self.answer)

    def count(self, connection: TunnelConnection) -> Deferred[None]:
        """Count this meeting; fires when it is written down at both ends.

        Fails with `ConfigError` or `ChannelClosed`, which says why not.
        """
        side = _Side(self, connection, opens=True)
        side.begin()
        side.channel.open(connection, DESTINATION)
        return side.channel.done

    def answer(self, request: EgressRequest, _destination: Destination) -> None:
        """A `tunnelkit.egress.dial.Handler`: no rule is asked, since nothing is connected to."""
        connection = request.connection if isinstance(request, ChannelRequest) else None
        if not isinstance(connection, TunnelConnection):
            request.refuse(Code.NOT_ALLOWED, "meetings are counted by the two ends themselves")
            return
        if connection in self._noted:
            request.refuse(Code.NOT_ALLOWED, "this meeting has been counted")
            return
        try:
            side = _Side(self, connection, opens=False)
        except ConfigError as error:
            request.refuse(Code.NO_SUCH_SERVICE, str(error))
            return
        side.channel.done.addCallbacks(
            lambda _: self._noted.add(connection), lambda why: why.trap(ConfigError, ChannelClosed)
        )
        side.channel.answer(request, "counting of meetings")


class _Side:
    """One side of one count (a `Talker`)."""

    def __init__(self, count: MeetingCount, connection: TunnelConnection, opens: bool) -> None:
        """Raises `ConfigError` if meetings are not counted here."""
        self._meetings = count.meetings
        self._counts = count.counts
        self._connection = connection
        self._pair = self._meetings.keys(connection)
        self._clock: Callable[[], float] = count.reactor.seconds
        self._talk: Counting = counting(opens, self._clock())
        self._told = Known()
        self._named = Count()
        self.channel = TalkChannel(count.reactor, self._talk, self)

    def begin(self) -> None:
        """This end opens the channel; raises `ConfigError`."""
        self._tell()

    def heard(self, action: Action, message: Met | Next | Noted) -> None:
        """See `Talker`."""
        if isinstance(message, Met):
            self._compare(message)
        elif isinstance(message, Next):
            self._note(message.count)
        else:
            self._counts.met(*self._pair, self._named)

    def decline(self, why: str) -> bool:
        """See `Talker`."""
        if self._talk.state not in (State.NAMING, State.ANSWERING, State.NOTING):
            return False
        self._talk.decline(Input.DECLINE, Code.LIMIT, why)
        return True

    def _tell(self) -> None:
        own, other = self._pair
        self._told = self._counts.known(own, other)
        met = Met(own, other, self._told.last, self._told.coming)
        self._talk.say(Input.TELL, met, self._clock())

    def _compare(self, theirs: Met) -> None:
        if (theirs.other, theirs.own) != self._pair:
            raise ConfigError("the keys of one of the two are being renewed")
        answers = self._talk.state is State.ANSWERING
        own, other = self._counts.known(*self._pair), Known(theirs.last, theirs.coming)
        verdict = compare(own, other)
        if answers and verdict is not Verdict.SAME:
            since = self._counts.seconds_since(*self._pair)
            if since is not None and 0 <= since < JUST_NOW:
                raise ConfigError("another meeting is being counted just now")
        if answers:
            self._tell()
        else:
            number = number_after((*own.all, *other.all))
            self._named = Count(number, secrets.token_hex(16))
            self._counts.coming(*self._pair, self._named, theirs.last)
            self._talk.say(Input.NAME, Next(self._named), self._clock())
        self._meetings.judged(self._connection, verdict, own, other)

    def _note(self, count: Count) -> None:
        last = self._told.last
        if count.number <= last.number or not count.mark:
            raise ConfigError(f"meeting {count.number} cannot come after {last.number}")
        if not self._counts.met(*self._pair, count, after=last):
            raise ConfigError("another meeting is being counted just now")
        self._talk.say(Input.NOTE, Noted(), self._clock())
