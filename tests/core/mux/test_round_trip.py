"""Which round trip counts, and how long a silence is taken for delivery."""

from __future__ import annotations

import pytest

from tunnelkit.core.mux.path import Path, Phase
from tunnelkit.core.mux.round_trip import RoundTrips


def test_the_shortest_is_forgotten_after_two_periods() -> None:
    trips = RoundTrips()
    trips.started(10.0)
    trips.seen(0.010)
    for now in (12.0, 15.5, 18.0):
        trips.sample(0.080, True, now)
    assert trips.shortest == 0.010
    trips.sample(0.080, True, 21.0)
    assert trips.shortest == 0.080


def test_a_long_round_trip_with_the_queue_drained_is_what_to_expect() -> None:
    trips = RoundTrips()
    trips.started(10.0)
    trips.seen(0.010)
    assert trips.queued(0.060)
    trips.probed.extend((0.070, 0.060))
    assert trips.probe_over(11.0)
    assert trips.shortest == 0.010
    assert trips.expected == 0.060
    assert not trips.queued(0.070)


def test_a_probe_that_finds_what_was_expected_tells_of_a_queue() -> None:
    trips = RoundTrips()
    trips.started(10.0)
    trips.seen(0.010)
    trips.probed.append(0.012)
    assert not trips.probe_over(11.0)


def test_doubt_is_worth_a_probe_but_not_all_the_time() -> None:
    trips = RoundTrips()
    trips.started(10.0)
    for _ in range(50):
        trips.sample(0.100, False, 11.0)
    assert trips.worth_a_probe(0.020, 11.0)
    assert not trips.worth_a_probe(0.100, 11.0)
    trips.probed.append(0.100)
    trips.probe_over(11.0)
    assert not trips.worth_a_probe(0.020, 12.0)
    assert trips.worth_a_probe(0.020, 13.5)


def steady(round_trip: float) -> tuple[Path, float]:
    """A path in probe_bw that has delivered 1 MB/s, and the time of its last report."""
    path = Path()
    path.round_trip_seen(round_trip)
    now = 100.0
    while path.phase is not Phase.PROBE_BW:
        assert now < 110
        path.sent(2000, now)
        now += 0.002
        path.took(2000, now)
        path.in_flight -= 2000
    return path, now


def test_late_reports_let_the_sender_go_on_at_the_known_rate_until_one_comes() -> None:
    path, now = steady(0.010)
    target = path.inflight_target
    assert now < path.virtual_due < now + 0.010
    path.deliver_virtually(path.virtual_due - 0.001)
    assert path.inflight_target == target
    path.deliver_virtually(now + 0.023)
    assert path.inflight_target - target == pytest.approx(path.bandwidth * 0.020, rel=0.01)
    # Not for ever.
    path.deliver_virtually(now + 1)
    assert path.inflight_target - target == pytest.approx(path.bandwidth * 0.050, rel=0.01)
    assert path.virtual_due == 0
    path.took(1, now + 1)
    assert path.inflight_target <= target + 1


def test_a_short_path_needs_no_timer_for_that() -> None:
    path, _ = steady(0.001)
    assert path.virtual_due == 0
