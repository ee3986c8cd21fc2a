"""An end speaks more often where what is idle is cut (finding U-19), by either protocol."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux.keepalive import Keepalive
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.wire.usher import Version

Make = Callable[[Keepalive], LstpMux | UsherMux]


def lstp(keepalive: Keepalive) -> LstpMux:
    return LstpMux(True, MuxConfig(), 0.0, keepalive=keepalive)


def usher(keepalive: Keepalive) -> UsherMux:
    return UsherMux(Version.V1_1, UsherConfig(), 0.0, keepalive=keepalive)


def lives(make: Make, keepalive: Keepalive, seconds: float, clean: bool = False) -> None:
    """A tunnel begins, and is gone after so long without another byte."""
    mux = make(keepalive)
    mux.data_to_send()
    mux.connection_lost(clean, seconds)


@pytest.mark.parametrize("make", [lstp, usher])
def test_who_was_cut_twice_after_the_same_silence_speaks_sooner(make: Make) -> None:
    keepalive = Keepalive(10)
    learned: list[tuple[float, float]] = []
    keepalive.on_learned = lambda idle, seconds: learned.append((idle, seconds))
    lives(make, keepalive, 8.0)
    assert learned == []
    lives(make, keepalive, 8.2)
    assert learned == [(8.2, 4.0)]
    mux = make(keepalive)
    mux.data_to_send()
    assert mux.next_deadline() == 4.0
    mux.deadline_passed(4.0)
    assert mux.data_to_send()


@pytest.mark.parametrize("make", [lstp, usher])
@pytest.mark.parametrize(
    "seconds",
    [
        [8.0],
        [8.0, 3.0, 8.0],  # not alike
        [0.5, 0.5, 0.5],  # too soon to be for that
        [20.0, 20.0],  # it was not idle so long: the keepalive is shorter
    ],
)
def test_other_cuts_teach_nothing(make: Make, seconds: list[float]) -> None:
    keepalive = Keepalive(10)
    for one in seconds:
        lives(make, keepalive, one)
    assert keepalive.seconds == 10


@pytest.mark.parametrize("make", [lstp, usher])
def test_a_farewell_between_two_cuts_ends_the_row(make: Make) -> None:
    keepalive = Keepalive(10)
    lives(make, keepalive, 8.0)
    lives(make, keepalive, 8.0, clean=True)
    lives(make, keepalive, 8.0)
    assert keepalive.seconds == 10


def test_it_learns_further_but_never_speaks_more_often_than_once_a_second() -> None:
    keepalive = Keepalive(60)
    for idle, seconds in ((40, 20), (12, 6), (2.5, 1.25), (2, 1)):
        lives(lstp, keepalive, idle)
        lives(lstp, keepalive, idle)
        assert keepalive.seconds == seconds
    for _ in range(4):
        lives(lstp, keepalive, 2)
    assert keepalive.seconds == 1


def test_where_nothing_is_said_to_keep_a_tunnel_nothing_is_learned() -> None:
    keepalive = Keepalive(10)
    for _ in range(3):
        mux = UsherMux(Version.V1, UsherConfig(), 0.0, keepalive=keepalive)
        mux.connection_lost(False, 8.0)
    assert keepalive.seconds == 10
