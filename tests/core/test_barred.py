"""Who is kept out for a while, and for how long."""

from __future__ import annotations

from tunnelkit.core.barred import MOST, Barred


def test_one_is_out_until_his_time_is_over() -> None:
    barred = Barred()
    barred.bar("laptop", until=10.0)
    assert barred.seconds("laptop", 4.0) == 6.0
    assert barred.seconds("office", 4.0) == 0.0
    assert barred.seconds("laptop", 10.0) == 0.0
    assert barred.seconds("laptop", 0.0) == 0.0  # it is over for good


def test_a_time_that_has_passed_lets_him_in_again() -> None:
    barred = Barred()
    barred.bar("laptop", until=10.0)
    barred.bar("laptop", until=1.0)
    assert barred.seconds("laptop", 1.0) == 0.0


def test_there_is_room_for_so_many() -> None:
    barred = Barred()
    for number in range(MOST + 1):
        barred.bar(f"peer-{number}", until=float(MOST - number + 1))
    held = sum(barred.seconds(f"peer-{number}", 0.0) > 0 for number in range(MOST + 1))
    assert held == MOST
    assert barred.seconds(f"peer-{MOST}", 0.0) > 0  # the newest
    assert barred.seconds(f"peer-{MOST - 1}", 0.0) == 0  # its time was over first
