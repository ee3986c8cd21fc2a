"""What a round trip takes: the shortest, the usual, and what it is without a queue.

On a quiet path the last is the shortest. On a busy machine programs wait for their turn to run:
a round trip then takes 50 ms with nothing in its way, and the one of 10 ms was luck. Who keeps no
more in flight than fits into the luckiest one gets next to nothing through, and less each time.

Times are seconds.
"""

from __future__ import annotations

_PERIOD = 5.0
"""The shortest round trip is that of a period of this time and of the one before."""
_SMOOTH = 8
_QUEUEING = 1.25
_QUEUEING_TIME = 0.012
"""A round trip that takes longer than expected by this factor and time has met a queue."""
_DOUBT_EVERY = 2.0
_DOUBT = 1.25
_DOUBT_TIME = 0.008
"""If round trips take longer by this factor and time than what is in flight explains, either there
is a queue or they are longer than was thought: both are worth a probe, but not more often than
once in so many seconds."""
_UNKNOWN = 1e9


class Mark:
    """Remembers one sent byte, until it is reported as taken."""

    __slots__ = ("app_limited", "delivered", "offset", "probe", "time")

    def __init__(self, offset: int, time: float, delivered: int, app_limited: bool, probe: bool):
        self.offset = offset
        self.time = time
        self.delivered = delivered
        self.app_limited = app_limited
        self.probe = probe
        """Sent in probe_rtt, when the queue was drained."""


class RoundTrips:
    """Samples of the round trip on one path."""

    __slots__ = (
        "_doubt_from",
        "_periods",
        "_until",
        "latest",
        "probed",
        "shortest",
        "smoothed",
        "unqueued",
    )

    def __init__(self) -> None:
        self.latest = 0.0
        """What the last one took; 0 while unknown."""
        self.shortest = 0.0
        """Of the last two periods; 0 while unknown."""
        self.smoothed = 0.0
        """What it takes at present."""
        self.unqueued = 0.0
        """What it took when the queue was drained for it; 0: not known."""
        self.probed: list[float] = []
        """Samples of the probe that goes on."""
        self._periods = (_UNKNOWN, _UNKNOWN)
        self._until = 0.0
        self._doubt_from = 0.0

    @property
    def expected(self) -> float:
        """What it is to take while there is no queue."""
        return max(self.shortest, self.unqueued)

    def started(self, now: float) -> None:
        """Something is sent: the first period begins with the first transfer."""
        if not self._until:
            self._until = now + _PERIOD

    def seen(self, seconds: float) -> None:
        """A round trip was measured."""
        self.latest = seconds
        if 0 < seconds < self._periods[0]:
            self._periods = (seconds, self._periods[1])
            self.shortest = min(self._periods)

    def sample(self, seconds: float, app_limited: bool, now: float) -> None:
        """The same, of a transfer."""
        self.seen(seconds)
        self.smoothed += (seconds - self.smoothed) / _SMOOTH
        if app_limited and now >= self._until:
            # No need to drain a queue: there is none.
            self._begin_period(now)
            self.unqueued = 0.0

    def queued(self, seconds: float) -> bool:
        """It looks as if there had been a queue."""
        return seconds > self.expected * _QUEUEING + _QUEUEING_TIME

    def worth_a_probe(self, in_flight: float, now: float) -> bool:
        """A period is over, or what is known does not fit; ``in_flight`` is worth so many seconds
        of the bandwidth."""
        if now >= self._until:
            return True
        return now >= self._doubt_from and self.smoothed > _DOUBT * in_flight + _DOUBT_TIME

    def probe_over(self, now: float) -> bool:
        """Take in what the probe has shown; True if it was no queue that took so long."""
        self._doubt_from = now + _DOUBT_EVERY
        longer = bool(self.probed) and self.queued(min(self.probed))
        if now >= self._until:
            self._begin_period(now)
        if self.probed:
            self.unqueued = min(self.probed)
        return longer

    def _begin_period(self, now: float) -> None:
        self._until = now + _PERIOD
        if self._periods[0] < _UNKNOWN:
            self._periods = (_UNKNOWN, self._periods[0])
            self.shortest = self._periods[1]
