"""Finding out what a path carries: how fast the target grows at first, and until when.

As in BBR, startup is over when the bandwidth no longer grows, or when a queue is met. Where
programs wait for a busy machine's cores neither is easily told. A rate can only be measured over
several of their pauses, so the first one is late, and low; and a round trip with two such pauses in
it looks like one with a queue. A transfer that takes that for a slow path has sent next to nothing
after its first second. So pauses are not taken for a queue, and until the path has been filled once
the target grows by what is delivered, as a window does in TCP's slow start.

Rates are bytes per second, times seconds.
"""

from __future__ import annotations

from tunnelkit.core.mux.delivery import SHORTEST_SPAN

FIRST = 128 * 1024
"""Inflight target, in bytes, while nothing is known."""
CEILING = 16 * 1024 * 1024
"""Largest target: no receiver grants more."""
GAIN = 2.0
"""Target in startup, as a multiple of what the path has been seen to carry."""
_FULL_BW_GROWTH = 1.25
_FULL_BW_ROUNDS = 3
"""So many rounds in which the bandwidth grew by less than this factor end startup."""


class Startup:
    """When to leave startup, and how far the target may grow in it."""

    __slots__ = (
        "_filled",
        "_full_bw",
        "_late",
        "_late_until",
        "_measured",
        "_rounds",
        "slow_start",
    )

    def __init__(self) -> None:
        self.slow_start = 0
        """The target grows by what is delivered, up to so many bytes."""
        self._filled = False
        """The path has been filled once."""
        self._measured = False
        """The bandwidth is more than what the application happened to send."""
        self._full_bw = 0.0
        self._rounds = 0
        self._late = 0
        self._late_until = 0

    def begin(self, bandwidth: float) -> None:
        """There is more than was thought: startup begins anew."""
        self._full_bw = bandwidth
        self.resume()

    def resume(self) -> None:
        """It was no queue."""
        self._rounds = self._late = 0

    def filled(self) -> None:
        """Startup has found what there is."""
        self._filled = True

    def sampled(self, app_limited: bool) -> None:
        """There is a sample of the bandwidth."""
        if not app_limited:
            self._measured = True

    def least(self, goal: int) -> int:
        """The target is to be at least this, when it is at ``goal``."""
        return max(min(goal, self.slow_start), 0 if self._measured else FIRST)

    def reported(self, bandwidth: float, span: float, round_trip: float) -> None:
        """After each report: do pauses make samples rare, which are over ``span``?"""
        self.slow_start = 0
        if not self._filled and span > max(round_trip, SHORTEST_SPAN):
            most = bandwidth * span * GAIN if self._measured else CEILING
            self.slow_start = int(min(most, CEILING))

    def met_queue(self, queued: bool, sent_at: int, delivered: int) -> bool:
        """A byte comes back, which was sent when ``sent_at`` had been delivered. Two round trips
        in a row that were ``queued``, not two samples of one of them, are a queue; one alone may be
        due to the burst that a transfer begins with."""
        if not queued:
            self._late = 0
        elif not self._late or sent_at >= self._late_until:
            self._late += 1
            self._late_until = delivered
        return self._late == 2

    def round_over(self, bandwidth: float) -> bool:
        """True if the bandwidth has stopped growing."""
        if bandwidth > self._full_bw * _FULL_BW_GROWTH:
            self._full_bw = bandwidth
            self._rounds = 0
            return False
        self._rounds += 1
        return self._rounds >= _FULL_BW_ROUNDS
