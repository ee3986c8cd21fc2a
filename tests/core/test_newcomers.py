"""Who gives way to one more stranger (rules X16, X25, X26)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.core.newcomers import Newcomers

SITE, FLOOD = "192.0.2.1", "198.51.100.1"


class Door:
    """Newcomers that stay until they have to go."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self.newcomers: Newcomers[int] = Newcomers(most, most_per_address)
        self.where: dict[int, str] = {}
        self.came = 0

    def come(self, address: str, *, many: bool = False) -> str | None:
        """One more; from where is who had to go, if anybody."""
        leaver = self.newcomers.who_gives_way(address, many=many)
        gone = None
        if leaver is not None:
            assert self.newcomers.discard(leaver)
            gone = self.where.pop(leaver)
        self.came += 1
        self.newcomers.add(self.came, address)
        self.where[self.came] = address
        return gone


def test_one_address_fills_only_its_own_places() -> None:
    door = Door(10, 3)
    assert door.come(SITE) is None
    assert [door.come(FLOOD) for _ in range(5)] == [None, None, None, FLOOD, FLOOD]


def test_the_address_that_has_most_gives_way() -> None:
    door = Door(4, 3)
    for _ in range(3):
        door.come(FLOOD)
    assert door.come(SITE) is None
    assert door.come("192.0.2.2") == FLOOD


def test_a_bastion_has_all_places_but_the_last_ones_are_everybodys() -> None:
    door = Door(10, 3)
    assert [door.come(FLOOD, many=True) for _ in range(11)] == [*[None] * 10, FLOOD]
    assert door.come(SITE) == FLOOD
    assert len(door.newcomers) == 10


def test_not_always_the_oldest_goes() -> None:
    # Of ten, each survives ten arrivals one time in three: of 200 that all go is out of the
    # question.
    survivors = 0
    for _ in range(20):
        door = Door(10, 10)
        for _ in range(20):
            door.come(SITE)
        survivors += sum(number <= 10 for number in door.newcomers)
    assert survivors


def test_who_has_left_is_not_asked_to_go() -> None:
    door = Door(1, 1)
    door.come(SITE)
    assert door.newcomers.discard(1)
    assert not door.newcomers.discard(1)
    assert door.newcomers.who_gives_way(SITE) is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())))
def test_the_limits_hold_however_they_come(arrivals: list[tuple[str, bool]]) -> None:
    door = Door(6, 2)
    for address, many in arrivals:
        bastion = many and address == "d"
        door.come(address, many=bastion)
        assert len(door.newcomers) == len(door.where) <= 6
        for each in "abc":
            assert list(door.where.values()).count(each) <= 2
