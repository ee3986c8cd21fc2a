"""What lies between two ends, learned from reports, and how much to keep in flight on it.

An end cannot see the queues in front of a slow link somewhere behind the
middle. It does see when the far application has taken what was sent, and from
that three things follow: the rate at which the path delivers, the shortest
round trip it is capable of, and their product, the bytes that fill the path
without queueing. Keeping little more than that in flight leaves the queues
empty, so that an interactive channel beside a bulk transfer waits for a few
milliseconds of other data instead of a full router buffer.

The model is that of BBR (Cardwell et al., 2016; draft-ietf-ccwg-bbr), and so are
its words:

- *startup*: the inflight target doubles every round while the bandwidth keeps growing
  (`tunnelkit.core.mux.startup`);
- *probe_bw*: the target is the bandwidth-delay product with a little headroom, and an
  allowance for reports that come late or in bursts ('extra acked'); every eighth round
  it is stretched a little, and if more comes through, startup begins anew;
- *probe_rtt*: now and then two rounds at half of that, which drain the queue, so that the
  shortest round trip can be measured afresh;
- while the application sends less than the path could carry (*app-limited*),
  samples count only if they raise the bandwidth.

Unlike BBR it is told of deliveries by programs, not by the kernel of a receiver. They run when
their system lets them: on a busy machine reports come in bursts 5 to 20 ms apart, and a
sender that took such a pause for slowness would send less, and measure less again.
`tunnelkit.core.mux.delivery` keeps the two apart. And where a round trip is long enough to
wait for a timer in, the sender goes on at the known bandwidth while reports are late
(*virtual delivery*), which a window alone could only do with a queue.
Rates are bytes per second, times seconds.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from tunnelkit.core.mux.delivery import MERGE, AckAggregation, DeliveryRate
from tunnelkit.core.mux.round_trip import Mark, RoundTrips
from tunnelkit.core.mux.startup import CEILING, FIRST, GAIN, Startup

FLOOR = 16 * 1024
"""Smallest target."""
_NEAR, _NEAR_SLOW, _NEAR_TIME = 0.002, 50e6, 0.030
"""Between ends with a round trip below so many seconds, and less than so many bytes a second, so
many seconds of the bandwidth are in flight at least. Without it one of 14 transfers of half a
second, between ends that shared two cores with eight busy loops, stayed at 4 MiB/s."""
_HEADROOM = 0.05
_HEADROOM_TIME = 0.004
"""Share of the bandwidth-delay product that is sent beyond it, but no more than so many seconds of
the bandwidth: new capacity shows."""
_PACE = 0.003  # Allowance for the spacing of reports.
_PROGRAMS = 0.008
"""A path shorter than this is made of programs, not of wires: what they take to read, encrypt and
report a batch is not in the shortest round trip, which a small message has made."""
_NEAR_GAIN = 1.6
_FAR_GAIN = 1.25
"""The allowance for pauses between reports is multiplied by this."""
_MOST_EXTRA = 0.040  # Largest allowance.
_SHORTEST_ROUND = 0.010
"""Seconds: on loopback ten round trips would be no memory at all."""
_PROBE_GAIN = 1.3
_PROBE_TIME = 0.006
_PROBE_EVERY = 8
"""Every so many rounds one has a target longer by this factor, though by no more than so many
seconds of the bandwidth: is there room for more? (On a long path the headroom finds it.)"""
_FOUND_MORE = 1.15  # A probe that raises the bandwidth so far was worth it.
_BW_ROUNDS = 10  # The bandwidth is the highest of so many.
_PROBE_RTT_GAIN = 0.75
_PROBE_RTT_FLOOR = 4 * 1024
"""Target in probe_rtt, as a share of the bandwidth-delay product, and at least, in bytes."""
_PROBE_RTT_ROUNDS = 6  # So many rounds without a sample end it too.
_BATCH_TIME = 0.002
"""A batch, and the unsent backlog in the socket, are worth this many seconds of the bandwidth."""
_SMALLEST_BATCH, _LARGEST_BATCH = 4 * 1024, 1024 * 1024
_SMALLEST_FRAME, _LARGEST_FRAME = 1400, 16 * 1024
_VIRTUAL_FROM = 0.005  # Shortest round trip on which virtual delivery is worth a timer.
_VIRTUAL_AFTER = 0.003
_VIRTUAL_TIME = 0.050
"""Virtual delivery begins when a report has not come for so long, and goes on for so long."""
_MOSTLY = 0.75
_NO_BANDWIDTH = 1e18
"""None is more than that: a probe compared with it has found nothing."""
_ENOUGH = 1.25  # With so many bandwidth-delay products in flight nobody was short of data.
_ENOUGH_IN_FLIGHT = 16 * 1024  # With fewer bytes in flight nobody waits for a report.


class Phase(Enum):
    """What the estimate is doing, see the module's docstring."""

    STARTUP = "startup"
    PROBE_BW = "probe_bw"
    PROBE_RTT = "probe_rtt"


class Path:
    """Bandwidth, shortest round trip and inflight target of one connection."""

    __slots__ = (
        "_aggregation",
        "_app_limited_until",
        "_bandwidths",
        "_batch_at",
        "_before_probe",
        "_cycle",
        "_goal",
        "_idle",
        "_pending",
        "_rate",
        "_report_at",
        "_resume_startup",
        "_round_end",
        "_round_limited",
        "_round_start",
        "_round_trips",
        "_slot_start",
        "_span",
        "_startup",
        "_virtual",
        "bandwidth",
        "batch",
        "delivered",
        "frame",
        "in_flight",
        "inflight_target",
        "phase",
        "virtual_due",
    )

    def __init__(self) -> None:
        self.phase = Phase.STARTUP
        self.delivered = 0
        self.in_flight = 0
        self.bandwidth = 0.0
        self.inflight_target = FIRST
        self.batch = _SMALLEST_BATCH
        """Bytes to hand to the socket at once, and to leave unsent in it: 4 KiB to 1 MiB."""
        self.frame = _SMALLEST_FRAME
        """Bytes that a channel may fill in its turn, however many there are."""
        self.virtual_due = 0.0
        """When `deliver_virtually` is worth a call if the path is full; 0: not at all."""
        self._goal = FIRST
        """What the target moves to as reports come."""
        self._virtual = 0
        """What virtual delivery has added to the target."""
        self._startup = Startup()
        self._round_trips = RoundTrips()
        self._rate = DeliveryRate()
        self._aggregation = AckAggregation()
        self._span = self._aggregation.span(0.0)
        self._bandwidths = deque([0.0] * _BW_ROUNDS, _BW_ROUNDS)
        self._resume_startup = False
        self._idle = True
        """There was nothing to send."""
        self._batch_at = 0.0
        self._report_at = 0.0
        self._pending = False
        """Something was delivered since the last point of the rate's history."""
        self._round_start = self._slot_start = 0.0
        self._round_end = 0
        """A round is over when so much has been delivered."""
        self._round_limited = False
        self._app_limited_until = 0
        self._cycle = 0
        self._before_probe = _NO_BANDWIDTH

    @property
    def min_rtt(self) -> float:
        """Shortest round trip seen, seconds; 0 while unknown."""
        return self._round_trips.shortest

    @property
    def round_trip(self) -> float | None:
        """Seconds that the last one took, a queue on its way included; None while unknown."""
        return self._round_trips.latest or None

    @property
    def room(self) -> int:
        """Bytes that may be sent now, as far as the path is concerned."""
        return self.inflight_target - self.in_flight

    # -- what happens -----------------------------------------------------

    def sent(self, size: int, now: float) -> None:
        """``size`` bytes are on their way."""
        if self._idle and not self.in_flight:
            self._idle = False
            self._pending = False
            self._report_at = now
            self._round_trips.started(now)
            self._rate.restart(self.delivered, now)
        self.in_flight += size
        self._batch_at = now
        self._rate.sent(size, now)

    def app_limited(self) -> None:
        """There is room, and nothing to send: samples of what is in flight understate the path."""
        if self.in_flight < self.inflight_target:
            self._app_limited_until = self.delivered + self.in_flight or 1
            self._idle = True

    def took(self, size: int, now: float) -> None:
        """The far application has taken ``size`` bytes more, which still count as in flight.

        What goes out keeps the pace of what arrives: at most two bytes for one
        while the target rises, one for two when it falls. A larger step would
        be a burst or a gap, one round trip after the other, and a queue as long
        as that for whoever sends next.
        """
        if now - self._report_at >= MERGE:
            self._report(now)
        self._pending = True
        self.delivered += size
        if self._virtual:
            self.inflight_target -= self._virtual
            self._virtual = 0
        slow_start = self._startup.slow_start
        if self._goal < slow_start and self.phase is Phase.STARTUP:
            self._goal = min(self._goal + size, slow_start)
        if self.inflight_target < self._goal:
            self.inflight_target = min(self.inflight_target + size, self._goal)
        elif self.inflight_target > self._goal:
            self.inflight_target = max(self.inflight_target - size // 2, self._goal)

    def mark(self, offset: int, now: float) -> Mark:
        """Remember the byte sent last, the one before ``offset`` in its channel's stream."""
        limited = self.delivered < self._app_limited_until
        probe = self.phase is Phase.PROBE_RTT and self.in_flight <= self._goal + self.batch
        return Mark(offset, now, self.delivered, limited, probe)

    def acknowledged(self, mark: Mark, now: float) -> None:
        """The marked byte has been taken: one sample of the round trip."""
        elapsed = now - mark.time
        if elapsed <= 0:
            return
        trips = self._round_trips
        trips.sample(elapsed, mark.app_limited, now)
        if mark.probe and self.phase is Phase.PROBE_RTT:
            trips.probed.append(elapsed)
        elif self.phase is Phase.STARTUP:
            queued = trips.queued(elapsed - self._aggregation.longest)
            if self._startup.met_queue(queued, mark.delivered, self.delivered):
                self._probe_rtt()

    def round_trip_seen(self, seconds: float) -> None:
        """A round trip was measured outside of any transfer: a request and its answer."""
        self._round_trips.seen(seconds)

    def deliver_virtually(self, now: float) -> None:
        """Reports are late: what may be in flight grows as if the path went on delivering.

        To be called when `virtual_due` has come. The next report takes it back.
        """
        if not self.virtual_due or now < self.virtual_due:
            return
        late = now - self._report_at - _VIRTUAL_AFTER
        virtual = int(self.bandwidth * min(late, _VIRTUAL_TIME))
        self.inflight_target += virtual - self._virtual
        self._virtual = virtual
        self.virtual_due = now + _BATCH_TIME if late < _VIRTUAL_TIME else 0.0

    # -- the model --------------------------------------------------------

    def _report(self, now: float) -> None:
        """A report comes, which is not part of the one before: that one is complete now."""
        # Who leaves little of the target unused is not what limits the rate.
        limited = (
            self.delivered < self._app_limited_until
            and self.in_flight < self.inflight_target * _MOSTLY
        )
        silence = now - self._report_at
        pause = min(silence, now - self._batch_at)
        if self.phase is Phase.STARTUP:
            # With little in flight it is natural to hear nothing for most of a round trip.
            silence = max(0.0, silence - self.min_rtt)
            pause = max(0.0, pause - self.min_rtt)
        if self._pending:
            self._sample(limited)
        if not limited:
            waiting = self.in_flight >= min(_ENOUGH_IN_FLIGHT, self.inflight_target // 2)
            self._aggregation.reported(silence, pause if waiting else 0.0)
        self._span = self._aggregation.span(self._round_trips.expected)
        self._round_limited = self._round_limited or limited
        self._report_at = now
        long_enough = max(_SHORTEST_ROUND, self._span)
        # Rounds with little in flight are kept short.
        shortest = _SHORTEST_ROUND if self.phase is Phase.PROBE_RTT else long_enough
        if self.delivered >= self._round_end and now - self._round_start >= shortest:
            self._round_over(now)
        if not limited and now - self._slot_start >= long_enough:
            # In time, not in round trips: these are long while there is a queue to get rid of.
            self._slot_start = now
            self._bandwidths.appendleft(0.0)
        self._set_bandwidth(max(self._bandwidths))
        if self.phase is Phase.STARTUP:
            self._startup.reported(self.bandwidth, self._span, self._round_trips.expected)
        self._aim()
        far = self.min_rtt >= _VIRTUAL_FROM and self.phase is Phase.PROBE_BW
        self.virtual_due = now + _VIRTUAL_AFTER + _BATCH_TIME if far else 0.0

    def _set_bandwidth(self, bandwidth: float) -> None:
        """The sizes that follow from it are asked for far more often than it changes."""
        if bandwidth == self.bandwidth:
            return
        self.bandwidth = bandwidth
        self.batch = min(max(int(bandwidth * _BATCH_TIME), _SMALLEST_BATCH), _LARGEST_BATCH)
        self.frame = min(max(self.batch // 4, _SMALLEST_FRAME), _LARGEST_FRAME)

    def _sample(self, limited: bool) -> None:
        sample, limited = self._rate.sample(
            self._report_at, self.delivered, self.in_flight, limited, self._span
        )
        if sample:
            self._startup.sampled(limited)
        # While the application is the bottleneck a sample can only prove more, not less.
        if sample > self._bandwidths[0] and (not limited or sample > self.bandwidth):
            self._bandwidths[0] = sample

    def _round_over(self, now: float) -> None:
        self._aggregation.round_over(now, now - self._round_start)
        self._round_start = now
        self._round_end = self.delivered + self.in_flight
        limited, self._round_limited = self._round_limited, False
        if self.phase is Phase.PROBE_RTT:
            self._cycle += 1
            if self._round_trips.probed or self._cycle >= _PROBE_RTT_ROUNDS:
                self._round_trip_probed(now)
            return
        # Whoever has this much in flight was not short of data, whatever stopped it in between.
        if limited and self.in_flight <= _ENOUGH * self.bandwidth * self.min_rtt:
            return
        if self.phase is Phase.STARTUP:
            if self._startup.round_over(self.bandwidth):
                self._probe_bw()
        else:
            self._probe(now)

    def _probe(self, now: float) -> None:
        """One more round of probe_bw: is there room for more, has the path become longer?"""
        self._cycle += 1
        step = self._cycle % _PROBE_EVERY
        if step == 0:
            self._before_probe = self.bandwidth
        elif step == 2 and max(self._bandwidths[0], self._bandwidths[1]) > (
            self._before_probe * _FOUND_MORE
        ):
            self.phase = Phase.STARTUP
            self._startup.begin(self.bandwidth)
        elif step > 2 and self._round_trips.worth_a_probe(self._flight_time(), now):
            self._probe_rtt()

    def _probe_bw(self) -> None:
        self.phase = Phase.PROBE_BW
        self._startup.filled()
        self._cycle = 0
        self._before_probe = _NO_BANDWIDTH

    def _probe_rtt(self) -> None:
        self._resume_startup = self.phase is Phase.STARTUP
        self.phase = Phase.PROBE_RTT
        self._cycle = 0
        self._round_trips.probed.clear()
        self._aim()

    def _round_trip_probed(self, now: float) -> None:
        """What a round trip takes without a queue; on a busy machine that is not the shortest."""
        longer = self._round_trips.probe_over(now)
        if self._resume_startup and longer:
            self.phase = Phase.STARTUP
            self._startup.resume()
        else:
            self._probe_bw()

    def _flight_time(self) -> float:
        """Seconds of the bandwidth that are to be in flight."""
        shortest = self.min_rtt
        gain = _FAR_GAIN if shortest >= _VIRTUAL_FROM else _NEAR_GAIN
        extra = max(_PACE, _PROGRAMS - shortest) + gain * self._aggregation.allowance
        wanted = shortest + min(shortest * _HEADROOM, _HEADROOM_TIME) + min(extra, _MOST_EXTRA)
        return max(wanted, self._round_trips.unqueued + _PACE)

    def _aim(self) -> None:
        bandwidth = self.bandwidth
        if not bandwidth:
            return
        if self.phase is Phase.PROBE_RTT:
            self._goal = max(int(bandwidth * self.min_rtt * _PROBE_RTT_GAIN), _PROBE_RTT_FLOOR)
            return
        aim = bandwidth * self._flight_time()
        probing = False
        if self.phase is Phase.STARTUP:
            aim = max(aim * GAIN, self._startup.least(self._goal))
        else:
            probing = self._cycle > 0 and self._cycle % _PROBE_EVERY == 0
            if probing:
                aim = min(aim * _PROBE_GAIN, aim + bandwidth * _PROBE_TIME)
        if self.min_rtt < _NEAR and bandwidth < _NEAR_SLOW:
            aim = max(aim, bandwidth * _NEAR_TIME)
        self._goal = int(min(max(aim, FLOOR), CEILING))
        if probing:
            # So little need not come gradually, and the next round must see it.
            self.inflight_target = self._goal + self._virtual
        else:
            self.inflight_target = max(self.inflight_target, FLOOR)
