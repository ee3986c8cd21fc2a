"""How fast a path delivers, and how unevenly it says so: what `tunnelkit.core.mux.path` measures.

`DeliveryRate` is delivery-rate estimation as in draft-cheng-iccrg-delivery-rate-estimation,
with reports of what an application has taken in the place of acknowledgements.
`AckAggregation` is about the pauses between them, which BBR answers with 'extra acked'.

Rates are bytes per second, times seconds.
"""

from __future__ import annotations

from collections import deque

MERGE = 0.001
"""Reports that are no further apart than this count as one, and so do batches sent."""
SHORTEST_SPAN = 0.008
_LONGEST_SPAN = 0.250
_SPAN_PAUSES = 3
"""A stretch that so many of the longest pauses fit into tells a rate, not a burst's length."""
_PAUSE_MEMORY = 0.25
"""The longest pause is that of this time, and of the same time before it."""
_USUAL_PAUSE = 0.002
"""Reports in bulk come at this distance anyway (`flow_control.BULK_REPORT_DELAY`)."""
_DRY = 0.06
"""What a pause is long beyond the allowance may add up to this share of the time."""
_MEMORY = 0.5
"""Seconds in which pauses are forgotten."""
_BIN = 0.001
_BINS = 64


class DeliveryRate:
    """Takes what was sent and what was delivered; `sample` gives the rate.

    A rate is what was delivered over a stretch of time: the time in which it was reported or the
    time in which it had been sent, whichever is longer. So neither a burst of reports nor one of
    data counts as speed.
    """

    __slots__ = ("_batch_at", "_points", "_sends", "_sent")

    def __init__(self) -> None:
        self._sent = 0
        self._batch_at = 0.0
        """When the latest batch was begun, to which what is sent belongs for a while."""
        self._sends: deque[tuple[int, float]] = deque()
        """``(bytes sent by the end of a batch, when)`` of those before it that have not been
        delivered."""
        self._points: deque[tuple[float, int, float, bool]] = deque()
        """``(when, delivered, when the last of it was sent, app_limited)``"""

    def restart(self, delivered: int, now: float) -> None:
        """There was nothing to send until ``now``: what lies before says nothing of the path."""
        self._sends.clear()
        self._batch_at = now
        self._points.clear()
        self._points.append((now, delivered, now, False))

    def sent(self, size: int, now: float) -> None:
        """``size`` bytes were sent."""
        if now - self._batch_at >= MERGE:
            self._sends.append((self._sent, self._batch_at))
            self._batch_at = now
        self._sent += size

    def sample(
        self, now: float, delivered: int, in_flight: int, app_limited: bool, span: float
    ) -> tuple[float, bool]:
        """Rate over the shortest stretch of at least ``span`` that ends now, and whether the
        application limited it; rate 0 while there is no such stretch."""
        sends, points = self._sends, self._points
        gone = self._sent - in_flight
        while sends and sends[0][0] < gone:
            sends.popleft()
        sent_at = sends[0][1] if sends else self._batch_at
        points.append((now, delivered, sent_at, app_limited))
        while len(points) > 2 and now - points[1][0] >= span:
            points.popleft()
        start, before, sent_from, limited = points[0]
        if now - start < span:
            return 0.0, app_limited
        elapsed = max(now - start, sent_at - sent_from)
        return (delivered - before) / elapsed, limited or app_limited


class AckAggregation:
    """The pauses between reports: how long a sender must be able to go on without one."""

    __slots__ = ("_before", "_histogram", "_longest", "_longest_since", "_watched", "allowance")

    def __init__(self) -> None:
        self._longest = self._before = 0.0
        self._longest_since = 0.0
        self._histogram = [0.0] * _BINS
        self._watched = 0.0
        self.allowance = 0.0
        """Seconds of sending that bridge the pauses, beyond their usual length. Rare pauses need
        no allowance, which would be a standing queue for the rest of the time."""

    @property
    def longest(self) -> float:
        """The longest pause of late, in seconds."""
        return max(self._longest, self._before)

    def span(self, min_rtt: float) -> float:
        """Length of a stretch that tells the rate: several pauses, and a round trip, in the rhythm
        of which bursts come back."""
        pauses = _SPAN_PAUSES * self.longest
        return min(max(min_rtt, SHORTEST_SPAN, pauses), _LONGEST_SPAN)

    def reported(self, silence: float, pause: float) -> None:
        """A report came after ``silence`` without one, of which ``pause`` was waited for it."""
        self._watched += silence
        if silence > self._longest:
            self._longest = silence
        if pause > MERGE:
            self._histogram[min(int(pause / _BIN), _BINS - 1)] += 1

    def round_over(self, now: float, elapsed: float) -> None:
        """Find the allowance after a round of ``elapsed`` seconds, and forget a little."""
        if now - self._longest_since > _PAUSE_MEMORY:
            self._before, self._longest = self._longest, 0.0
            self._longest_since = now
        histogram = self._histogram
        tolerated = _DRY * self._watched / _BIN
        longer = excess = 0.0
        bound = _BINS
        # Downwards: how much longer than the bound are the pauses beyond it, all together?
        while bound and excess <= tolerated:
            bound -= 1
            longer += histogram[bound]
            excess += longer
        self.allowance = max(0.0, bound * _BIN - _USUAL_PAUSE)
        keep = max(0.0, 1 - elapsed / _MEMORY)
        self._histogram = [pauses * keep for pauses in histogram]
        self._watched *= keep
