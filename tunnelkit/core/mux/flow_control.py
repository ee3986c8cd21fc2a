"""Flow control of all channels on one connection: credit, the path, and when to report.

Shared by the muxes, whatever their wire looks like. `ChannelFlowControl` is one
channel's part, `FlowControl` the connection's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tunnelkit.core.mux.credit import Budget, Inbound, Outbound
from tunnelkit.core.mux.path import Path
from tunnelkit.core.mux.round_trip import Mark

FREE_PASS = 16 * 1024
"""A channel with less than this in flight, in bytes, may send even while the path is full: what
somebody types does not wait for a bulk transfer. Many busy channels share a part of the path."""
_FREE_SHARE = 4
_SMALLEST_PASS = 512
REPORT_DELAY = 0.020
"""Latest report of what the application took, seconds after it did."""
BULK_REPORT_DELAY = 0.002
BULK_REPORT = 4 * 1024
_SMALLEST_BULK = 256
"""The same where at least so many bytes are to be reported: the sender's estimate of the path
lives on reports. Less, where many channels share a path."""
_BULK_MEMORY = 0.050
"""Seconds in which a channel is taken for a busy one after that."""
NEVER = float("inf")
_STALL = 0.25
"""Seconds without a report, beyond two round trips, that make a channel a stalled one."""


class ChannelFlowControl:
    """Offsets of one channel in both directions, and its standing with the path."""

    __slots__ = (
        "bulk_until",
        "busy",
        "inbound",
        "mark",
        "outbound",
        "progress",
        "report_at",
        "stalled",
    )

    def __init__(self, near_window: int, far_window: int, budget: Budget) -> None:
        self.inbound = Inbound(near_window, budget)
        self.outbound = Outbound(far_window)
        self.report_at = 0.0
        """When the sender must be told of what was taken; 0: nothing to tell."""
        self.bulk_until = 0.0
        """Until then what is taken is reported as fast as bulk: it is the rest of a burst."""
        self.busy = False
        """Something is in flight."""
        self.mark: Mark | None = None
        self.progress = 0.0
        """When a report last came, or sending began."""
        self.stalled = False
        """Its application does not take data, so its bytes in flight are not the path's."""


class FlowControl:
    """One per connection."""

    __slots__ = (
        "_bulk_from",
        "_bulk_reports",
        "_busy",
        "_look_at",
        "_mark_from",
        "_reports",
        "budget",
        "path",
        "soonest",
    )

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.path = Path()
        self.soonest = 0.0
        """Nothing is due before that was not due when `next_deadline` was last asked; 0: that has
        to be asked again. So whoever keeps a timer for it need not ask while the timer is due
        sooner, unless the path is full. A mux sets it to 0 where it makes a deadline of its own
        earlier."""
        self._busy = 0
        """Channels with something in flight."""
        self._mark_from = BULK_REPORT
        """Bytes in flight from which a round trip of the channel tells something."""
        self._bulk_from = BULK_REPORT
        """Bytes to be reported that make a channel a busy one."""
        self._look_at = 0.0
        """When to look for stalled channels; 0: the path has not been full since the last look."""
        # In the order in which they are due; an entry counts only while it is its channel's latest.
        self._reports: deque[tuple[float, ChannelFlowControl]] = deque()
        self._bulk_reports: deque[tuple[float, ChannelFlowControl]] = deque()

    # -- sending ----------------------------------------------------------

    def sendable(self, channel: ChannelFlowControl) -> int:
        """Bytes that credit and path let the channel send now."""
        out = channel.outbound
        credit = out.limit - out.sent
        path = self.path
        room = path.inflight_target - path.in_flight
        if room < credit:
            if room >= FREE_PASS:
                return room
            share = path.inflight_target // (_FREE_SHARE * (self._busy or 1))
            free = min(max(share, _SMALLEST_PASS), FREE_PASS)
            room = max(room, free - (out.sent - out.taken))
            return max(0, min(room, credit))
        return credit

    def sent(self, channel: ChannelFlowControl, size: int, now: float) -> None:
        """``size`` bytes of the channel are on their way."""
        out = channel.outbound
        if out.sent == out.taken:
            channel.progress = now
            if not channel.busy:
                channel.busy = True
                self._busy += 1
                self._mark_from = _share(self._busy)
        out.sent += size
        if not channel.stalled:
            self.path.sent(size, now)
        # A few bytes are reported late, see `REPORT_DELAY`: they say nothing of the round trip.
        if channel.mark is None and out.sent - out.taken >= self._mark_from:
            channel.mark = self.path.mark(out.sent, now)

    def reported(self, channel: ChannelFlowControl, size: int, now: float) -> None:
        """The far application has taken ``size`` bytes more; ``outbound`` says so already."""
        path = self.path
        out = channel.outbound
        channel.progress = now
        path.took(size, now)
        if out.taken == out.sent:
            self._idle(channel)
        if channel.stalled:
            channel.stalled = False
            path.in_flight += out.in_flight
        else:
            path.in_flight -= size
        mark = channel.mark
        if mark is not None and out.taken >= mark.offset:
            channel.mark = None
            path.acknowledged(mark, now)

    def _idle(self, channel: ChannelFlowControl) -> None:
        if channel.busy:
            channel.busy = False
            self._busy -= 1
            self._mark_from = _share(self._busy)

    # -- receiving --------------------------------------------------------

    def consumed(self, channel: ChannelFlowControl, size: int, now: float) -> bool:
        """The application took ``size`` bytes; True if that must be reported at once."""
        inbound = channel.inbound
        if inbound.consumed(size):
            self.soonest = 0.0
            return True
        if inbound.taken - inbound.reported >= self._bulk_from:
            channel.bulk_until = now + _BULK_MEMORY
        if now < channel.bulk_until:
            due = now + BULK_REPORT_DELAY
            if not channel.report_at or channel.report_at > due:
                self._report_by(due, channel, self._bulk_reports)
        elif not channel.report_at:
            self._report_by(now + REPORT_DELAY, channel, self._reports)
        return False

    def _report_by(
        self,
        due: float,
        channel: ChannelFlowControl,
        reports: deque[tuple[float, ChannelFlowControl]],
    ) -> None:
        channel.report_at = due
        reports.append((due, channel))
        self._reports_changed()
        if due < self.soonest:
            self.soonest = due

    def _reports_changed(self) -> None:
        self._bulk_from = _share(1 + len(self._reports) + len(self._bulk_reports))

    def due_reports(self, now: float) -> Iterable[ChannelFlowControl]:
        """The channels whose reports are due; each is told of once."""
        for reports in (self._reports, self._bulk_reports):
            while reports and reports[0][0] <= now:
                due, channel = reports.popleft()
                self._reports_changed()
                if channel.report_at == due:
                    channel.report_at = 0.0
                    yield channel

    # -- life -------------------------------------------------------------

    def ended(self, channel: ChannelFlowControl) -> None:
        """The channel counts no more."""
        if not channel.stalled:
            channel.stalled = True
            out = channel.outbound
            self.path.in_flight -= out.sent - out.taken
        if channel.busy:
            self._idle(channel)
        channel.mark = None
        channel.report_at = 0.0
        inbound = channel.inbound
        if inbound.received != inbound.taken:
            inbound.discard()

    def next_deadline(self, now: float) -> float | None:
        """When `due_reports` or `deadline_passed` have something to do."""
        path = self.path
        due = self._look_at or None
        self.soonest = NEVER
        if path.inflight_target <= path.in_flight:
            if due is None:
                due = self._look_at = now + _STALL
            if path.virtual_due:
                due = min(due, path.virtual_due)
        for reports in (self._reports, self._bulk_reports):
            while reports and reports[0][1].report_at != reports[0][0]:
                reports.popleft()
                self._reports_changed()
            if reports:
                first = reports[0][0]
                if first < self.soonest:
                    self.soonest = first
                if due is None or first < due:
                    due = first
        return due

    def deadline_passed(self, channels: Iterable[ChannelFlowControl], now: float) -> None:
        """Reports are late: perhaps the path goes on all the same, perhaps nobody reads."""
        self.path.deliver_virtually(now)
        self._find_stalled(channels, now)

    def _find_stalled(self, channels: Iterable[ChannelFlowControl], now: float) -> None:
        """Take channels whose applications do not read out of the path's account.

        Only if it has been full: the bytes of a stalled channel then keep
        others from sending, even if these still get through by turns.
        """
        if not self._look_at or now < self._look_at:
            return
        self._look_at = 0.0
        patience = _STALL + 2 * self.path.min_rtt
        for channel in channels:
            in_flight = channel.outbound.in_flight
            if in_flight and not channel.stalled and now - channel.progress > patience:
                channel.stalled = True
                channel.mark = None
                self.path.in_flight -= in_flight


def _share(channels: int) -> int:
    """What each of so many channels has to have moved to be a busy one."""
    return max(BULK_REPORT // (channels or 1), _SMALLEST_BULK)
