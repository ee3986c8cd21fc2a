"""Deadlines that are moved and forgotten at any time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.core.deadlines import Deadlines


@given(
    st.lists(
        st.tuples(st.sampled_from("sssscd"), st.integers(0, 20), st.integers(0, 50)), max_size=300
    )
)
def test_it_is_a_table_of_times(steps: list[tuple[str, int, int]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    table: dict[int, float] = {}
    for what, key, when in steps:
        if what == "s":
            deadlines.set(key, when)
            table[key] = when
        elif what == "c":
            deadlines.clear(key)
            table.pop(key, None)
        else:
            due = deadlines.due(when)
            assert sorted(due) == sorted(one for one, time in table.items() if time <= when)
            assert [table[one] for one in due] == sorted(table[one] for one in due)
            table = {one: time for one, time in table.items() if time > when}
        assert deadlines.next_deadline() == min(table.values(), default=None)
        assert len(deadlines) == len(table)
        assert (key in deadlines) is (key in table)


def test_what_is_moved_all_the_time_takes_no_room() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for when in range(10_000):
        deadlines.set("a", when)
    assert len(deadlines._heap) < 100
    assert deadlines.due(9998) == []
    assert deadlines.due(9999) == ["a"]
