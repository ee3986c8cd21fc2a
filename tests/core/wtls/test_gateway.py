"""Devices on their way to a domain proxy, as the operator's proxy has them (W3, W4, W5, W7)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_dtls_records import hello, record
from tests.wire.wtls_vectors import KEY
from tunnelkit.core.table import reachable
from tunnelkit.core.wtls.events import (
    Address,
    Answer,
    ClosePath,
    Discard,
    Event,
    GatewayConfig,
    OpenPath,
    Serve,
    ToDevice,
    ToTarget,
)
from tunnelkit.core.wtls.gateway import PER_HOST, UNPROVEN_MOST, Gateway
from tunnelkit.core.wtls.mapping import TABLE, Mapping, State
from tunnelkit.core.wtls.places import Lately
from tunnelkit.wire.dtls_records import ClientHello, hello_verify_request
from tunnelkit.wire.wtls_map import MapDatagram, MapType, decode, encode, is_map

DEVICE = ("192.0.2.1", 40_000)
OTHER = ("192.0.2.1", 40_001)
BANK = ("domain.bank.example", 5684)
SHOP = ("domain.shop.example", 5684)
HELLO = hello(b"cookie")
DATA = record(23)


class World:
    """A gateway, and what it had to say."""

    def __init__(self, ttl: float = 600.0, strict: bool = False) -> None:
        numbers = itertools.count(1)
        self.gateway = Gateway(
            GatewayConfig(ttl=ttl, secure={"bank.example": BANK}, keys={BANK: KEY}, strict=strict),
            lambda size: next(numbers).to_bytes(size, "big"),
        )
        self.now = 0.0
        self.said: list[Event] = []

    def told(self, events: Iterable[Event]) -> list[str]:
        events = list(events)
        self.said += events
        return [self._named(event) for event in events]

    def _named(self, event: Event) -> str:
        if isinstance(event, ToTarget) and is_map(event.data):
            datagram = decode(event.data, KEY)
            return f"{datagram.type.name} {datagram.ttl}"
        if isinstance(event, ClosePath):
            return event.why
        return type(event).__name__

    def device(self, data: bytes, device: Address = DEVICE) -> list[str]:
        return self.told(self.gateway.from_device(device, data, self.now))

    def target(self, data: bytes) -> list[str]:
        return self.told(self.gateway.from_target(self.mapping, data, self.now))

    def says(self, kind: MapType, token: bytes | None = None, key: bytes = KEY) -> list[str]:
        token = self.mapping.token if token is None else token
        return self.target(encode(MapDatagram(kind, token, 1), key))

    def asks(self, device: Address = DEVICE, target: Address = BANK) -> Answer:
        answer, events = self.gateway.secure_request(device, target, self.now)
        self.told(events)
        return answer

    def waits(self, seconds: float) -> list[str]:
        """What happens until then, each at its time."""
        end = self.now + seconds
        happened = []
        while (due := self.gateway.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            happened += [
                f"{self.now:g}: {name}"
                for name in self.told(self.gateway.deadline_passed(self.now))
            ]
        self.now = end
        return happened

    @property
    def mapping(self) -> Mapping:
        """The newest."""
        return [event for event in self.said if isinstance(event, OpenPath)][-1].mapping

    def in_tunnel(self) -> None:
        """DEVICE has asked, the domain proxy has answered, and DEVICE has come again."""
        assert self.asks() is Answer.RETRY
        self.says(MapType.MAP_OK)
        assert self.device(HELLO) == ["Discard", "ToTarget"]
        assert self.mapping.state is State.TUNNEL


def test_every_state_can_be_reached_and_none_but_the_end_is_for_ever() -> None:
    assert set(reachable(TABLE, State.ASKED)) == set(State)
    assert {state for state, _ in TABLE} == set(State) - {State.CLOSED}


def test_whoever_has_asked_for_nothing_secure_is_served_here() -> None:
    world = World()
    assert world.device(HELLO) == world.device(DATA) == ["Serve"]
    assert world.gateway.next_deadline() is None


def test_a_device_that_asked_is_tunnelled_from_its_next_hello_on() -> None:
    world = World()
    assert world.asks() is Answer.RETRY
    assert world.told([]) == []
    assert [world._named(event) for event in world.said] == ["OpenPath", "MAP 600"]
    assert world.device(DATA) == ["Serve"]
    assert world.says(MapType.MAP_OK) == []
    assert world.device(HELLO) == ["Discard", "ToTarget"]
    assert world.device(DATA) == ["ToTarget"]
    assert world.target(DATA) == ["ToDevice"]
    assert world.device(HELLO) == ["ToTarget"]
    (discard,) = [event for event in world.said if isinstance(event, Discard)]
    assert discard.device == DEVICE


def test_a_repeated_request_is_told_the_same_and_stored_once() -> None:
    world = World()
    assert [world.asks(), world.asks()] == [Answer.RETRY, Answer.RETRY]
    assert len(list(world.gateway.mappings)) == 1


def test_without_a_map_key_there_is_no_tunnel() -> None:
    assert World().asks(target=SHOP) is Answer.NO_KEY


def test_map_is_repeated_and_given_up_and_then_the_device_is_served_here() -> None:
    world = World()
    world.asks()
    assert world.waits(60) == [
        "0.5: MAP 600", "1: MAP 600", "2: MAP 600", "4: MAP 600",
        "8: the domain proxy did not answer",
    ]  # fmt: skip
    assert world.device(HELLO) == ["Serve"]
    assert world.asks() is Answer.UNREACHABLE
    assert world.asks() is Answer.RETRY


@given(st.floats(0.001, 1e7, allow_nan=False))
def test_its_deadlines_pass_at_any_time_of_any_clock(now: float) -> None:
    world = World()
    world.now = now
    world.asks()
    assert len(world.waits(60)) == 5


def test_a_path_that_fails_is_an_answer_that_never_comes() -> None:
    world = World()
    world.asks()
    assert world.told(world.gateway.path_failed(world.mapping, "not allowed", 0)) == ["not allowed"]
    assert world.gateway.path_failed(world.mapping, "again", 0) == []
    assert world.asks() is Answer.UNREACHABLE


def test_before_the_domain_proxy_has_answered_only_hellos_pass_three_a_second() -> None:
    world = World()
    world.asks()
    assert world.device(HELLO) == ["Discard", "ToTarget"]
    assert world.device(DATA) == []
    assert [world.device(HELLO) for _ in range(4)] == [["ToTarget"], ["ToTarget"], [], []]
    world.now = 0.4
    assert world.device(HELLO) == ["ToTarget"]
    world.says(MapType.MAP_OK)
    assert world.device(DATA) == ["ToTarget"]


def test_a_stored_request_waits_a_minute() -> None:
    world = World()
    world.asks()
    world.says(MapType.MAP_OK)
    assert world.waits(60)[-1] == "60: the device did not come"
    assert world.device(HELLO) == ["Serve"]


def test_map_is_refreshed_while_the_tunnel_lives_and_its_time_is_kept() -> None:
    world = World(ttl=40)
    world.now = 5.0
    world.in_tunnel()
    assert world.waits(60) == ["20: MAP 25", "35: MAP 10", "45: its time is over"]
    assert world.device(DATA) == ["Serve"]
    assert world.target(DATA) == []


def test_a_busy_tunnel_is_prolonged_once() -> None:
    world = World(ttl=20)
    world.in_tunnel()
    world.waits(14)
    world.device(DATA)
    assert world.waits(20) == ["15: MAP 5", "16: MAP 24", "31: MAP 9"]
    world.target(DATA)
    assert world.waits(20) == ["40: its time is over"]


def test_end_takes_effect_after_a_second_of_silence() -> None:
    world = World()
    world.in_tunnel()
    world.now = 10.0
    world.target(DATA)
    world.now = 10.5
    assert world.says(MapType.END) == []
    assert world.device(DATA) == ["ToTarget"]
    assert world.waits(10) == ["11: END_OK 0", "11: the domain proxy ended it"]
    assert world.device(HELLO) == ["Serve"]


def test_data_in_flight_overrules_end_until_it_is_repeated() -> None:
    world = World()
    world.in_tunnel()
    world.says(MapType.END)
    world.now = 0.5
    assert world.target(DATA) == ["ToDevice"]
    assert world.waits(3) == []
    world.says(MapType.END)
    assert world.waits(1) == ["3.5: END_OK 0", "3.5: the domain proxy ended it"]


@pytest.mark.parametrize("when", ["forged", "of another mapping", "cut", "not for here"])
def test_end_is_believed_only_from_the_domain_proxy(when: str) -> None:
    world = World()
    world.in_tunnel()
    if when == "forged":
        world.says(MapType.END, key=bytes(32))
    elif when == "of another mapping":
        world.says(MapType.END, token=bytes(16))
    elif when == "cut":
        world.target(encode(MapDatagram(MapType.END, world.mapping.token, 1), KEY)[:-1])
    else:
        world.says(MapType.MAP)
    assert world.waits(10) == []
    assert world.mapping.state is State.TUNNEL
    assert world.gateway.dropped == 1


def test_ten_thousand_forged_ends_end_nothing() -> None:
    world = World()
    world.in_tunnel()
    for number in range(10_000):
        world.says(MapType.END, key=number.to_bytes(32, "little"))
    assert world.waits(10) == []
    assert world.device(DATA) == ["ToTarget"]


def test_an_end_that_is_sent_again_by_somebody_else_ends_no_later_tunnel() -> None:
    world = World()
    world.in_tunnel()
    recorded = world.mapping.token
    world.says(MapType.END)
    world.waits(5)
    world.in_tunnel()
    world.says(MapType.END, token=recorded)
    assert world.waits(10) == []
    assert world.device(DATA) == ["ToTarget"]


def test_a_lost_end_costs_nothing_but_time() -> None:
    world = World(ttl=20)
    world.in_tunnel()
    assert world.waits(30)[-1] == "20: its time is over"


def test_end_before_the_device_has_come_forgets_it() -> None:
    world = World()
    world.asks()
    assert world.says(MapType.END) == ["END_OK 0", "the domain proxy ended it"]
    assert world.device(HELLO) == ["Serve"]


@pytest.mark.parametrize(
    "data", [b"\x40\x01\x00\x01", record(25), b"\x2f" + bytes(40), b"", b"TK" + bytes(36)]
)
def test_what_is_not_dtls_passes_in_neither_direction(data: bytes) -> None:
    world = World()
    world.in_tunnel()
    assert world.device(data) == world.target(data) == []
    assert world.gateway.dropped == 2


def test_a_device_from_another_port_is_served_and_its_old_tunnel_stays() -> None:
    world = World()
    world.in_tunnel()
    assert world.device(HELLO, OTHER) == ["Serve"]
    world.gateway.places.made(OTHER)
    assert world.asks(OTHER) is Answer.RETRY
    assert world.device(DATA) == ["ToTarget"]


def test_of_two_devices_behind_one_address_one_is_tunnelled_and_one_is_served() -> None:
    world = World()
    world.gateway.places.made(OTHER)
    world.in_tunnel()
    assert world.device(DATA, OTHER) == ["Serve"]
    assert world.device(DATA) == ["ToTarget"]


def port(number: int) -> Address:
    return (DEVICE[0], number)


def away_three_times(world: World) -> None:
    for number in (1, 2, 3):
        assert world.device(HELLO, port(number)) == ["Serve"]
        world.gateway.places.made(port(number))
        assert world.asks(port(number)) is Answer.RETRY
        world.says(MapType.MAP_OK)


def test_a_device_that_takes_new_ports_is_matched_by_its_address_if_it_is_alone() -> None:
    world = World()
    away_three_times(world)
    assert world.device(HELLO, port(4)) == ["Discard", "ToTarget"]
    assert world.device(DATA, port(4)) == ["ToTarget"]
    assert world.target(DATA) == ["ToDevice"]
    assert world.mapping.device == port(4)


@pytest.mark.parametrize("strict", [True, False])
def test_with_others_at_its_address_it_is_told_to_keep_its_port(strict: bool) -> None:
    world = World(strict=strict)
    if not strict:
        world.gateway.places.made(OTHER)
    away_three_times(world)
    assert world.device(HELLO, port(4)) == ["Serve"]
    world.gateway.places.made(port(4))
    assert world.asks(port(4)) is Answer.NEW_PORTS
    world.gateway.places.ended(port(4))


def test_that_is_forgotten_after_the_time_to_live() -> None:
    world = World(ttl=100)
    away_three_times(world)
    world.waits(200)
    assert world.device(HELLO, port(4)) == ["Serve"]
    assert world.asks(port(4)) is Answer.RETRY


def test_a_device_that_moves_leaves_others_of_its_address_alone() -> None:
    world = World()
    away_three_times(world)
    world.device(HELLO, port(4))
    assert world.device(DATA, port(3)) == ["Serve"]
    assert world.told(world.gateway.close()) == ["shutting down"] * 3


def test_a_late_datagram_of_a_tunnel_that_is_over_goes_nowhere() -> None:
    world = World()
    world.in_tunnel()
    world.says(MapType.END)
    world.waits(5)
    assert world.target(DATA) == []
    assert world.says(MapType.END) == []


def test_only_the_latest_devices_are_remembered() -> None:
    lately = Lately(2)
    for number in (1, 2, 3):
        lately.add(port(number), until=10.0)
    assert [port(number) in lately for number in (1, 2, 3)] == [False, True, True]
    assert lately.take(port(2), 9.0)
    assert not lately.take(port(2), 9.0)
    assert not lately.take(port(3), 10.0)


def test_a_device_that_had_a_tunnel_is_known_to_be_real() -> None:
    world = World()
    assert not world.gateway.was_tunnelled(DEVICE)
    world.in_tunnel()
    world.says(MapType.END)
    world.waits(5)
    assert world.gateway.was_tunnelled(DEVICE)


# -- server names -----------------------------------------------------------


def named(number: int = 0, cookie: bytes = b"") -> bytes:
    return hello(cookie, b"bank.example", number)


def test_the_name_of_a_secure_server_begins_the_tunnel_at_once() -> None:
    world = World()
    assert world.device(named()) == ["OpenPath", "MAP 600", "Discard", "ToTarget"]
    world.says(MapType.MAP_OK)
    asked = hello_verify_request(ClientHello.read(named()), b"the cookie")
    assert world.target(asked) == ["ToDevice"]
    assert world.device(named(1, b"the cookie")) == ["ToTarget"]
    assert world.target(record(22, bytes(2000), 0)) == ["ToDevice"]
    assert world.waits(30) == ["15: MAP 585", "30: MAP 570"]


def test_other_names_decide_nothing() -> None:
    world = World()
    assert world.device(hello(name=b"shop.example")) == ["Serve"]
    assert world.device(hello(name=b"no name")) == []
    assert world.gateway.dropped == 1


def test_a_sender_who_shows_no_cookie_gets_no_more_than_he_sent_and_ten_seconds() -> None:
    world = World()
    world.device(named())
    world.says(MapType.MAP_OK)
    assert world.target(record(22, bytes(300), 0)) == []
    asked = hello_verify_request(ClientHello.read(named()), b"the cookie")
    assert [world.target(asked) for _ in range(3)] == [["ToDevice"], ["ToDevice"], []]
    assert world.mapping.bytes_to_device <= len(named())
    assert world.device(named(1, b"another one")) == ["ToTarget"]
    assert world.waits(60) == ["10: its time is over"]


def test_before_the_answer_a_repeated_hello_repeats_map() -> None:
    world = World()
    world.device(named())
    assert world.device(named()) == ["MAP 600", "ToTarget"]
    assert world.waits(8) == ["8: the domain proxy did not answer"]


def test_a_hundred_thousand_spoofed_names_take_a_few_places_only() -> None:
    world = World()
    world.in_tunnel()
    sent = 0
    for number in range(100_000):
        device = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1000)
        events = world.gateway.from_device(device, named(), world.now)
        sent += sum(len(event.data) for event in events if isinstance(event, ToDevice))
    assert sent == 0
    assert len(list(world.gateway.mappings)) == UNPROVEN_MOST + 1
    assert world.device(DATA) == ["ToTarget"]


def test_one_address_has_a_hundred_places_and_others_go_on() -> None:
    world = World()
    world.in_tunnel()
    for number in range(200):
        world.device(named(), ("198.51.100.1", 1000 + number))
    assert len(list(world.gateway.mappings)) == PER_HOST + 1
    assert world.asks(("198.51.100.1", 1)) is Answer.FULL
    assert world.device(DATA) == ["ToTarget"]


def test_closing_ends_them_all() -> None:
    world = World()
    world.in_tunnel()
    assert world.told(world.gateway.close()) == ["shutting down"]
    assert world.gateway.next_deadline() is None
    assert world.device(DATA) == ["Serve"]


def test_serving_names_nobody() -> None:
    assert World().gateway.from_device(DEVICE, DATA, 0.0) == [Serve()]


def test_what_it_counts_is_what_passed() -> None:
    world = World()
    world.in_tunnel()
    world.device(DATA)
    world.target(DATA + DATA)
    mapping = world.mapping
    assert mapping.bytes_from_device == len(HELLO) + len(DATA)
    assert mapping.bytes_to_device == 2 * len(DATA)
    assert isinstance(world.said[-1], ToDevice)
