"""Nameplates of pairing codes at a middle: one of each role, few for an address (row Q2)."""

from __future__ import annotations

import pytest

from tests.core.lstp.test_middle import Room, client, is_refused, paired, server
from tunnelkit.core.lstp.nameplates import MAX_MEETINGS, MAX_OPEN, nameplate_of
from tunnelkit.core.pairing.code import LIFETIME, MOST_NAMEPLATE, rendezvous_id
from tunnelkit.errors import Code
from tunnelkit.wire.lstp import derive_common

NAME = "pairing"


def test_the_number_is_known_from_the_id_and_other_tunnels_have_none() -> None:
    numbers = range(1, MOST_NAMEPLATE + 1)
    assert [nameplate_of(rendezvous_id(number)) for number in numbers] == list(numbers)
    assert nameplate_of(rendezvous_id(MOST_NAMEPLATE + 1)) is None
    assert nameplate_of(derive_common(bytes(32), "7")) is None


def test_a_second_inside_does_not_replace_the_first_and_is_told() -> None:
    room = Room()
    seven = rendezvous_id(7)
    first = room.wait(server(NAME, seven))
    second, commands = room.arrive(server(NAME, seven), "10.0.0.2")
    assert is_refused(commands, second, Code.CROWDED)
    joiner, commands = room.arrive(client(NAME, seven), "10.0.0.3")
    assert paired(commands) == (first, joiner)


def test_a_second_joiner_is_told_and_the_first_goes_on() -> None:
    room = Room()
    seven = rendezvous_id(7)
    first = room.wait(client(NAME, seven))
    second, commands = room.arrive(client(NAME, seven), "10.0.0.2")
    assert is_refused(commands, second, Code.CROWDED)
    inside, commands = room.arrive(server(NAME, seven), "10.0.0.3")
    assert paired(commands) == (first, inside)


def test_one_address_cannot_take_all_the_numbers() -> None:
    room = Room()
    waiting = [room.wait(server(NAME, rendezvous_id(number + 1))) for number in range(MAX_OPEN)]
    late, commands = room.arrive(server(NAME, rendezvous_id(100)))
    assert is_refused(commands, late, Code.CROWDED)
    # Others, and other tunnels of the same address, are not concerned.
    room.wait(server(NAME, rendezvous_id(100)), "10.0.0.2")
    room.wait(server("bob"))
    room.lobby.lost(waiting[0], 0.0)
    room.wait(server(NAME, rendezvous_id(101)))


@pytest.mark.parametrize("moment", [0.0, 500.0])
def test_three_meetings_under_a_number_are_enough_for_ten_minutes(moment: float) -> None:
    room = Room()
    seven = rendezvous_id(7)
    for number in range(MAX_MEETINGS):
        room.wait(server(NAME, seven), "10.0.0.1", moment)
        joiner, commands = room.arrive(client(NAME, seven), f"10.0.1.{number}", moment)
        assert paired(commands)
        room.lobby.lost(joiner, moment)
    late, commands = room.arrive(server(NAME, seven), "10.0.0.9", moment + LIFETIME - 1)
    assert is_refused(commands, late, Code.CROWDED)
    room.wait(server(NAME, seven), "10.0.0.9", moment + LIFETIME)


def test_what_is_remembered_of_meetings_is_forgotten() -> None:
    room = Room()
    for number in range(1, 200):
        common = rendezvous_id(number)
        room.wait(server(NAME, common), f"10.1.0.{number}", number * 60.0)
        assert paired(room.arrive(client(NAME, common), "10.0.0.2", number * 60.0)[1])
    assert len(room.lobby._nameplates._meetings) <= LIFETIME / 60.0
    assert not room.lobby._nameplates._open
