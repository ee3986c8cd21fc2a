"""What lies between two ends, learned from acknowledgements, and how much to keep in flight on it.

An end cannot see the queues in front of a slow link somewhere behind the
middle. It does see when the far application has taken what was sent, and from
that three things follow: the rate at which the path delivers, the shortest
round trip it is capable of, and their product, the bytes that fill the path
without queueing. Keeping little more than that in flight leaves the queues
empty, so that an interactive channel beside a bulk transfer waits for a few
milliseconds of other data instead of a full router buffer.

The rules, after the ideas of BBR (Cardwell et al., 2016):

- *rising*: the target doubles every round trip while the rate keeps growing;
- *cruising*: the target is what the path delivers in its shortest round trip,
  plus an allowance for the pace at which acknowledgements come; every eighth
  round trip it is stretched a little, and if more comes through, it rises again;
- *probing*: now and then, one round trip at half of that, which drains the
  queue, so that the shortest round trip can be measured afresh;
- while the application sends less than the path could carry, rate samples
  count only if they raise the rate.

Rates are bytes per second, times seconds.
"""

from __future__ import annotations

from enum import Enum

FIRST = 128 * 1024
"""Target, in bytes, while nothing is known."""
FLOOR = 64 * 1024
"""Smallest target: a few frames."""
CEILING = 16 * 1024 * 1024
"""Largest target: no receiver grants more."""

_RISE = 2.0
"""Target while rising, as a multiple of what the path has been seen to carry."""
_GROWTH = 1.25
"""A round must be this much faster than the one before for the rise to go on."""
_STEADY_ROUNDS = 3
"""So many rounds without growth end the rise."""
_QUEUEING = 1.25
"""The rise also ends when two round trips take so much longer than the shortest: a queue builds.
One alone may be due to the burst with which a transfer begins."""
_HEADROOM = 1.05
"""Target as a multiple of the bytes that fill the path: finds new capacity."""
_PACE = 0.004
"""Allowance in seconds for the spacing of acknowledgements."""
_STRETCH = 1.3
_STRETCH_TIME = 0.010
_STRETCH_EVERY = 8
"""Every so many rounds one has a target longer by this factor, though by no more than so many
seconds of the rate: is there room for more? (On a long path the headroom alone finds it.)"""
_FOUND_MORE = 1.15
"""A stretch that raises the rate so far was worth it."""
_RATE_ROUNDS = 10
"""The rate is the highest of this many rounds."""
_PROBE_EVERY = 5.0
"""Seconds between two probes of the shortest round trip."""
_PROBE_FLOOR = 16 * 1024
_BATCH_TIME = 0.002
"""A batch, and the unsent backlog in the socket, are worth this many seconds of the rate."""


class Phase(Enum):
    """What the estimate is doing, see the module's docstring."""

    RISING = "rising"
    CRUISING = "cruising"
    PROBING = "probing"


class Mark:
    """Remembers one sent byte, until it is acknowledged."""

    __slots__ = ("delivered", "limited", "offset", "probe", "time")

    def __init__(self, offset: int, time: float, delivered: int, limited: bool, probe: bool):
        self.offset = offset
        self.time = time
        self.delivered = delivered
        self.limited = limited
        self.probe = probe


class Path:
    """Rate, shortest round trip and target for the bytes in flight of one connection."""

    __slots__ = (
        "_before_stretch",
        "_best_rise",
        "_cruised",
        "_goal",
        "_late",
        "_late_until",
        "_limited_until",
        "_next_probe",
        "_rates",
        "_round_end",
        "_steady",
        "delivered",
        "in_flight",
        "phase",
        "rate",
        "round_trip",
        "target",
    )

    def __init__(self) -> None:
        self.phase = Phase.RISING
        self.delivered = 0
        self.in_flight = 0
        self.rate = 0.0
        self.round_trip = 0.0
        """Shortest seen, seconds; 0 while unknown."""
        self.target = FIRST
        self._goal = FIRST
        self._rates = [0.0] * _RATE_ROUNDS
        self._round_end = 0
        self._best_rise = 0.0
        self._steady = 0
        self._late = 0
        self._late_until = 0
        self._cruised = 0
        self._before_stretch = 0.0
        self._limited_until = 0
        self._next_probe = 0.0

    @property
    def room(self) -> int:
        """Bytes that may be sent now, as far as the path is concerned."""
        return self.target - self.in_flight

    @property
    def batch(self) -> int:
        """Bytes to hand to the socket at once, and to leave unsent in it: 16 KiB to 1 MiB."""
        return min(max(int(self.rate * _BATCH_TIME), 16 * 1024), 1024 * 1024)

    def took(self, size: int) -> None:
        """The far application has taken ``size`` bytes more.

        What goes out keeps the pace of what arrives: at most two bytes for one
        while the target rises, one for two when a probe lowers it. A larger
        step would be a burst or a gap, one round trip after the other, and a
        queue as long as that for whoever sends next.
        """
        self.delivered += size
        if self.target < self._goal:
            self.target = min(self.target + size, self._goal)
        elif self.target > self._goal:
            self.target = max(self.target - size // 2, self._goal)

    def starved(self) -> None:
        """There is room, and nothing to send: samples of what is in flight understate the path."""
        if self.in_flight < self.target:
            self._limited_until = max(1, self.delivered + self.in_flight)

    def mark(self, offset: int, now: float) -> Mark:
        """Remember the byte sent last, the one before ``offset`` in its channel's stream."""
        return Mark(
            offset,
            now,
            self.delivered,
            self.delivered < self._limited_until,
            self.phase is Phase.PROBING and self.in_flight <= self._goal + self.batch,
        )

    def round_trip_seen(self, seconds: float) -> None:
        """A round trip was measured outside of any transfer (a request and its answer)."""
        if seconds > 0 and (not self.round_trip or seconds < self.round_trip):
            self.round_trip = seconds

    def acknowledged(self, mark: Mark, now: float) -> None:
        """The marked byte has been taken: one sample of rate and round trip."""
        elapsed = now - mark.time
        if elapsed <= 0:
            return
        if mark.probe and self.phase is Phase.PROBING:
            self.round_trip = elapsed
            self._cruise(now)
        else:
            self.round_trip_seen(elapsed)
            if self.phase is Phase.RISING:
                self._look_for_queue(mark, elapsed, now)
        sample = (self.delivered - mark.delivered) / elapsed
        if mark.delivered >= self._round_end:
            self._round_over(now, mark.limited)
        # While the application is the bottleneck a sample can only prove more, not less.
        if sample > self._rates[0] and (not mark.limited or sample > self.rate):
            self._rates[0] = sample
        self.rate = max(self._rates)
        self._aim()

    def _look_for_queue(self, mark: Mark, elapsed: float, now: float) -> None:
        """Two round trips in a row that take long, not two samples of one of them, end the rise."""
        if elapsed <= self.round_trip * _QUEUEING + 3 * _PACE:
            self._late = 0
        elif not self._late or mark.delivered >= self._late_until:
            self._late += 1
            self._late_until = self.delivered
            if self._late == 2:
                self._cruise(now)

    def _round_over(self, now: float, limited: bool) -> None:
        self._round_end = self.delivered
        # Whoever has this much in flight was not short of data, whatever stopped it in between.
        if limited and self.in_flight <= _QUEUEING * self.rate * self.round_trip:
            return
        if self.phase is Phase.RISING:
            if self.rate > self._best_rise * _GROWTH:
                self._best_rise = self.rate
                self._steady = 0
            else:
                self._steady += 1
                if self._steady >= _STEADY_ROUNDS:
                    self._cruise(now)
        elif self.phase is Phase.CRUISING:
            self._stretch_or_probe(now)
        self._rates.insert(0, 0.0)
        self._rates.pop()

    def _stretch_or_probe(self, now: float) -> None:
        """One more round of cruising."""
        self._cruised += 1
        step = self._cruised % _STRETCH_EVERY
        if step == 0:
            self._before_stretch = self.rate
        elif step == 2 and max(self._rates[:2]) > self._before_stretch * _FOUND_MORE:
            self.phase = Phase.RISING
            self._best_rise = self.rate
            self._steady = self._late = 0
        elif step > 2 and now >= self._next_probe:
            self.phase = Phase.PROBING

    def _cruise(self, now: float) -> None:
        self.phase = Phase.CRUISING
        self._cruised = 0
        self._before_stretch = CEILING / _PACE  # no rate is more than that: nothing found yet
        self._next_probe = now + _PROBE_EVERY

    def _aim(self) -> None:
        fill = self.rate * self.round_trip
        if self.phase is Phase.PROBING:
            self._goal = max(int(fill / 2), _PROBE_FLOOR)
            return
        stretched = False
        if self.phase is Phase.RISING:
            aim = _RISE * self.rate * (self.round_trip + _PACE)
        else:
            aim = fill * _HEADROOM + self.rate * _PACE
            stretched = self._cruised > 0 and self._cruised % _STRETCH_EVERY == 0
            if stretched:
                aim = min(aim * _STRETCH, aim + self.rate * _STRETCH_TIME)
        self._goal = int(min(max(aim, FLOOR), CEILING))
        # A stretch is so little that it need not come gradually, and the next round must see it.
        self.target = self._goal if stretched else min(max(self.target, FLOOR), self._goal)
