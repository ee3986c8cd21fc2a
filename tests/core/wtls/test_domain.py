"""What a domain proxy knows of mappings (rows W5, W7)."""

from __future__ import annotations

from tests.wire.wtls_vectors import KEY, TOKEN
from tunnelkit.core.table import reachable
from tunnelkit.core.wtls.domain import (
    REMEMBERED,
    TABLE,
    Address,
    Announced,
    Event,
    Mappings,
    Over,
    Send,
    State,
)
from tunnelkit.wire.wtls_map import SIZE, MapDatagram, MapType, decode, encode

HERE = ("192.0.2.9", 30_000)
THERE = ("192.0.2.9", 30_001)


def said(events: list[Event]) -> list[str]:
    names = []
    for event in events:
        if isinstance(event, Send):
            assert len(event.data) == SIZE
            datagram = decode(event.data, KEY)
            names.append(f"{datagram.type.name} {datagram.ttl}")
        else:
            names.append(type(event).__name__)
    return names


def tell(
    mappings: Mappings,
    kind: MapType,
    ttl: int = 600,
    address: Address = HERE,
    token: bytes = TOKEN,
    now: float = 0.0,
) -> list[str]:
    return said(mappings.receive(address, encode(MapDatagram(kind, token, ttl), KEY), now))


def test_every_state_can_be_reached() -> None:
    assert set(reachable(TABLE, State.MAPPED)) == set(State)


def test_map_is_answered_and_its_time_is_the_newest_one() -> None:
    mappings = Mappings(KEY)
    assert tell(mappings, MapType.MAP) == ["MAP_OK 600", "Announced"]
    assert tell(mappings, MapType.MAP, 100, now=10.0) == ["MAP_OK 100", "Announced"]
    assert mappings.seconds_left(HERE, 20.0) == 90.0
    assert mappings.seconds_left(THERE, 20.0) is None
    assert mappings.next_deadline() == 110.0
    assert said(mappings.deadline_passed(110.0)) == ["Over"]


def test_a_token_from_elsewhere_or_after_its_time_is_dropped() -> None:
    mappings = Mappings(KEY)
    tell(mappings, MapType.MAP, 10)
    assert tell(mappings, MapType.MAP, address=THERE) == []
    mappings.deadline_passed(10.0)
    assert tell(mappings, MapType.MAP, now=11.0) == []
    assert mappings.dropped == 2
    assert tell(mappings, MapType.MAP, now=71.0) == ["MAP_OK 600", "Announced"]


def test_a_new_token_from_the_same_address_replaces_the_old_one() -> None:
    mappings = Mappings(KEY)
    tell(mappings, MapType.MAP)
    assert tell(mappings, MapType.MAP, 50, token=bytes(16)) == ["Over", "MAP_OK 50", "Announced"]
    assert tell(mappings, MapType.MAP) == []


def test_what_is_forged_or_makes_no_sense_is_counted_and_not_answered() -> None:
    mappings = Mappings(KEY)
    forged = encode(MapDatagram(MapType.MAP, TOKEN, 1), bytes(32))
    assert mappings.receive(HERE, forged, 0.0) == []
    for kind in (MapType.MAP_OK, MapType.END, MapType.END_OK):
        assert tell(mappings, kind) == []
    assert tell(mappings, MapType.MAP, 0) == []
    assert mappings.dropped == 5


def test_end_is_repeated_until_it_is_confirmed() -> None:
    mappings = Mappings(KEY)
    tell(mappings, MapType.MAP)
    assert said(mappings.end(HERE, 10.0)) == ["END 590"]
    assert mappings.end(HERE, 10.0) == []
    assert mappings.is_ending(HERE)
    assert mappings.next_deadline() == 11.0
    assert said(mappings.deadline_passed(11.0)) == ["END 589"]
    assert tell(mappings, MapType.MAP, 588, now=12.0) == ["MAP_OK 588", "Announced"]
    assert said(mappings.deadline_passed(12.0)) == ["END 588"]
    assert tell(mappings, MapType.END_OK, 0) == ["Over"]
    assert not mappings.is_ending(HERE)
    assert mappings.next_deadline() is None
    assert tell(mappings, MapType.MAP, now=13.0) == []


def test_an_end_that_nobody_confirms_is_given_up() -> None:
    mappings = Mappings(KEY)
    tell(mappings, MapType.MAP)
    mappings.end(HERE, 0.0)
    sent = []
    while mappings.is_ending(HERE):
        due = mappings.next_deadline()
        assert due is not None
        sent += [(due, name) for name in said(mappings.deadline_passed(due))]
    assert sent == [(1.0, "END 599"), (2.0, "END 598"), (4.0, "END 596")]
    assert tell(mappings, MapType.END_OK, 0) == []
    assert mappings.seconds_left(HERE, 9.0) == 591.0


def test_there_is_no_end_where_nothing_is_mapped() -> None:
    assert Mappings(KEY).end(HERE, 0.0) == []


def test_a_time_that_runs_out_ends_the_ending_too() -> None:
    mappings = Mappings(KEY)
    tell(mappings, MapType.MAP, 1)
    mappings.end(HERE, 0.5)
    assert mappings.deadline_passed(1.0) == [Over(HERE)]


def test_only_so_many_tokens_are_remembered() -> None:
    mappings = Mappings(KEY)
    for number in range(REMEMBERED + 5):
        token = number.to_bytes(16, "big")
        events = tell(mappings, MapType.MAP, address=("192.0.2.9", number), token=token)
        assert events == ["MAP_OK 600", "Announced"]
    assert mappings.seconds_left(("192.0.2.9", 4), 0.0) is None
    assert mappings.seconds_left(("192.0.2.9", 5), 0.0) == 600.0


def test_announcements_say_where_and_how_long() -> None:
    data = encode(MapDatagram(MapType.MAP, TOKEN, 7), KEY)
    assert Announced(HERE, 7) in Mappings(KEY).receive(HERE, data, 0.0)
