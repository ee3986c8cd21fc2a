"""How far startup lets the target grow, and what ends it."""

from __future__ import annotations

from tunnelkit.core.mux.startup import CEILING, FIRST, Startup

SPAN = 0.090
ROUND_TRIP = 0.0004


def test_what_the_application_happened_to_send_does_not_lower_the_target() -> None:
    startup = Startup()
    startup.sampled(app_limited=True)
    assert startup.least(1000) == FIRST
    startup.sampled(app_limited=False)
    assert startup.least(1000) == 0


def test_the_target_grows_by_itself_only_where_pauses_make_samples_rare() -> None:
    startup = Startup()
    startup.reported(0.0, 0.008, ROUND_TRIP)
    assert startup.slow_start == 0
    startup.reported(0.0, 0.100, 0.100)
    assert startup.slow_start == 0
    startup.reported(0.0, SPAN, ROUND_TRIP)
    assert startup.slow_start == CEILING
    startup.sampled(app_limited=False)
    startup.reported(10e6, SPAN, ROUND_TRIP)
    assert startup.slow_start == 1_800_000
    assert startup.least(2_500_000) == 1_800_000


def test_a_path_that_has_been_filled_once_is_known() -> None:
    startup = Startup()
    startup.filled()
    startup.begin(10e6)
    startup.reported(10e6, SPAN, ROUND_TRIP)
    assert startup.slow_start == 0


def test_two_late_round_trips_in_a_row_are_a_queue() -> None:
    startup = Startup()
    assert not startup.met_queue(True, 0, 1000)
    assert not startup.met_queue(True, 500, 1500)  # of the same round trip
    assert not startup.met_queue(False, 1000, 2000)
    assert not startup.met_queue(True, 2000, 3000)
    assert startup.met_queue(True, 3000, 4000)


def test_three_rounds_without_growth_are_enough() -> None:
    startup = Startup()
    assert not startup.round_over(100.0)
    assert not startup.round_over(126.0)
    assert [startup.round_over(126.0) for _ in range(3)] == [False, False, True]
