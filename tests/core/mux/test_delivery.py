"""Rate and pauses, as `tunnelkit.core.mux.delivery` measures them."""

from __future__ import annotations

import pytest

from tunnelkit.core.mux.delivery import AckAggregation, DeliveryRate


def test_the_rate_is_that_of_a_stretch_not_of_a_burst() -> None:
    rate = DeliveryRate()
    rate.restart(0, 10.0)
    delivered = in_flight = 0
    now = 10.0
    for _ in range(100):
        rate.sent(1000, now)
        in_flight += 1000
        now += 0.001
    # All of it is reported within 3 ms, after a pause of 100 ms.
    samples = []
    for _ in range(3):
        delivered += 30_000
        in_flight -= 30_000
        now += 0.001
        samples.append(rate.sample(now, delivered, in_flight, False, 0.010)[0])
    assert max(samples) == pytest.approx(1e6, rel=0.15)


def test_there_is_no_rate_before_a_whole_stretch_has_been_seen() -> None:
    rate = DeliveryRate()
    rate.restart(0, 10.0)
    rate.sent(5000, 10.0)
    assert rate.sample(10.125, 1000, 4000, False, 0.25) == (0.0, False)
    assert rate.sample(10.25, 2000, 3000, False, 0.25) == (8000.0, False)


def test_a_sample_tells_that_the_application_limited_it() -> None:
    rate = DeliveryRate()
    rate.restart(0, 10.0)
    rate.sent(5000, 10.0)
    assert rate.sample(10.25, 2000, 3000, True, 0.25)[1]
    assert rate.sample(10.5, 3000, 2000, False, 0.25)[1]
    assert not rate.sample(10.75, 4000, 1000, False, 0.25)[1]


def watch(pause: float, times: int, usual: int) -> AckAggregation:
    """Reports 2 ms apart and some after a pause, for half a second or so."""
    acks = AckAggregation()
    for _ in range(times):
        acks.reported(pause, pause)
        for _ in range(usual):
            acks.reported(0.002, 0.002)
    acks.round_over(20.0, 0.010)
    return acks


def test_constant_pauses_are_allowed_for_and_rare_ones_are_not() -> None:
    assert 0.015 < watch(0.020, 12, 10).allowance <= 0.020
    assert watch(0.020, 1, 250).allowance == 0
    assert watch(0.002, 1, 250).allowance == 0


def test_what_was_waited_for_before_is_forgotten() -> None:
    acks = watch(0.020, 12, 10)
    now = 20.0
    for _ in range(100):
        for _ in range(5):
            acks.reported(0.002, 0.002)
        now += 0.010
        acks.round_over(now, 0.010)
    assert acks.allowance == 0
    assert acks.span(0.0) == pytest.approx(0.008)


def test_a_stretch_holds_several_pauses_and_a_round_trip() -> None:
    assert watch(0.020, 3, 1).span(0.001) == pytest.approx(0.060)
    assert watch(0.020, 3, 1).span(0.100) == pytest.approx(0.100)
    assert watch(0.200, 3, 1).span(0.001) == pytest.approx(0.250)
