"""The window follows the path: what an interactive channel and a bulk transfer get (R12)."""

from __future__ import annotations

import statistics

import attrs
import pytest

from tests.core.mux.simulated_link import connect
from tunnelkit.core.mux.path import FLOOR, Path
from tunnelkit.core.mux.startup import CEILING

MBIT = 125_000.0


@attrs.frozen
class Outcome:
    """What happened beside one bulk transfer."""

    share: float
    """Bulk rate as a share of the link's."""
    extra: float
    """Median of what a small message took longer than on the idle link, seconds."""
    most: float
    """The same for the 99th percentile; a probe of the round trip lies in that time."""


def bulk_and_interactive(rate: float, round_trip: float, seconds: float = 12.0) -> Outcome:
    """Run one bulk channel and one message every 50 ms beside it."""
    world, sender, receiver, there = connect(rate, round_trip)
    interactive = sender.mux.open("tcp:interactive:1", world.now)
    sender.pump()
    world.run(world.now + 0.5)
    bulk = sender.mux.open("tcp:bulk:1", world.now)
    sender.bulk.add(bulk)
    sender.pump()
    start = world.now
    said: list[float] = []

    def say() -> None:
        said.append(world.now)
        sender.say(interactive, 64)
        if world.now < start + seconds:
            world.at(world.now + 0.05, say)

    world.at(start + 0.05, say)
    settled = start + max(seconds / 4, 25 * round_trip)
    world.run(settled)
    before = receiver.received[bulk]
    world.run(start + seconds)
    share = (receiver.received[bulk] - before) / (world.now - settled) / there.rate
    world.run(world.now + 2)
    took = [heard - when for when, heard in zip(said, receiver.arrivals[interactive], strict=True)]
    late = [time for when, time in zip(said, took, strict=True) if when > settled]
    most = statistics.quantiles(late, n=100)[-1]
    return Outcome(share, statistics.median(late) - round_trip / 2, most - round_trip / 2)


@pytest.mark.parametrize(
    ("rate", "round_trip", "extra", "most"),
    [
        (100 * MBIT, 0.020, 0.010, 0.030),
        (10 * MBIT, 0.040, 0.030, 0.060),
        (100 * MBIT, 0.200, 0.030, 0.050),
        (1000 * MBIT, 0.001, 0.010, 0.015),
        (10 * MBIT, 0.200, 0.040, 0.080),
    ],
)
def test_bulk_fills_a_slow_path_and_small_messages_hardly_wait(
    rate: float, round_trip: float, extra: float, most: float
) -> None:
    outcome = bulk_and_interactive(rate, round_trip)
    assert outcome.share > 0.94
    assert outcome.extra < extra
    assert outcome.most < most


def test_a_channel_whose_application_stops_reading_does_not_hold_up_the_others() -> None:
    world, sender, receiver, there = connect(100 * MBIT, 0.020)
    stuck = sender.mux.open("tcp:stuck:1", world.now)
    going = sender.mux.open("tcp:going:1", world.now)
    receiver.stuck.add(stuck)
    sender.bulk |= {stuck, going}
    sender.pump()
    world.run(world.now + 2)
    before = receiver.received[going]
    world.run(world.now + 2)
    assert (receiver.received[going] - before) / 2 > 0.8 * there.rate
    # Never more than the one window that was granted.
    assert receiver.received[stuck] <= 262_144


def test_what_the_path_carries_more_is_found() -> None:
    world, sender, receiver, there = connect(10 * MBIT, 0.020)
    bulk = sender.mux.open("tcp:bulk:1", world.now)
    sender.bulk.add(bulk)
    sender.pump()
    world.run(world.now + 3)
    there.rate = 100 * MBIT
    world.run(world.now + 5)
    before = receiver.received[bulk]
    world.run(world.now + 2)
    assert (receiver.received[bulk] - before) / 2 > 0.9 * there.rate


def test_a_path_that_gets_slower_is_not_flooded() -> None:
    world, sender, _, there = connect(100 * MBIT, 0.020)
    sender.bulk.add(sender.mux.open("tcp:bulk:1", world.now))
    sender.pump()
    world.run(world.now + 3)
    there.rate = 10 * MBIT
    world.run(world.now + 8)
    # 25 kB fill this path; the rest is what may wait in front of it.
    assert sender.mux.path.in_flight < 5 * FLOOR


def test_a_longer_way_is_noticed() -> None:
    world, sender, receiver, there = connect(100 * MBIT, 0.020)
    bulk = sender.mux.open("tcp:bulk:1", world.now)
    sender.bulk.add(bulk)
    sender.pump()
    world.run(world.now + 3)
    there.delay += 0.050
    world.run(world.now + 15)
    before = receiver.received[bulk]
    world.run(world.now + 2)
    assert (receiver.received[bulk] - before) / 2 > 0.9 * there.rate


def test_nothing_sends_the_target_out_of_its_bounds() -> None:
    path = Path()
    now = 0.0
    for size, elapsed in ((1, 10.0), (1 << 40, 1e-9), (0, 0.5), (1 << 20, 0.0), (5, 1e9)):
        path.sent(size, now)
        mark = path.mark(0, now)
        now += elapsed
        path.took(size, now)
        path.in_flight -= size
        path.acknowledged(mark, now)
        assert 4 * 1024 <= path.inflight_target <= CEILING
        assert 4 * 1024 <= path.batch <= 1024 * 1024
