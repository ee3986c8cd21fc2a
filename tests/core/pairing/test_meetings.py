"""Counting meetings: what it shows, and that nothing else shows it (row Q2)."""

from __future__ import annotations

import random

import attrs
import pytest

from tunnelkit.core.pairing.meetings import (
    NONE,
    TABLE,
    Action,
    Counting,
    Input,
    Known,
    State,
    Verdict,
    compare,
    counting,
    number_after,
)
from tunnelkit.core.table import reachable
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.lstp import HEADER
from tunnelkit.wire.meetings import MAX_COMING, MESSAGES, MOST, Count, Message, Met, Next, Noted
from tunnelkit.wire.pairing import Refuse

OWN, OTHER = "0a" * 32, "0b" * 32


def count(number: int, mark: str = "a") -> Count:
    return Count(number, mark * 32)


def passed(source: Counting, target: Counting) -> list[tuple[Action, Message]]:
    found = []
    for byte in source.data_to_send():
        found += target.receive(bytes([byte]), 0.0)
    return found


def test_both_tell_what_they_know_and_write_the_same_down() -> None:
    here, there = counting(True, 0.0), counting(False, 0.0)
    mine = Met(OWN, OTHER, count(4), (count(5, "b"), count(6, "c")))
    here.say(Input.TELL, mine, 0.0)
    assert passed(here, there) == [(Action.COMPARE, mine)]
    there.say(Input.TELL, Met(OTHER, OWN, NONE), 0.0)
    assert passed(there, here) == [(Action.COMPARE, Met(OTHER, OWN, NONE))]
    here.say(Input.NAME, Next(count(7)), 0.0)
    assert passed(here, there) == [(Action.WRITE, Next(count(7)))]
    there.say(Input.NOTE, Noted(), 0.0)
    assert passed(there, here) == [(Action.WRITE, Noted())]
    assert here.succeeded
    assert there.succeeded


@pytest.mark.parametrize(
    ("own", "other", "verdict"),
    [
        (Known(), Known(), Verdict.SAME),
        (Known(count(3)), Known(count(3)), Verdict.SAME),
        (Known(count(3), (count(4, "b"),)), Known(count(4, "b")), Verdict.SAME),
        (Known(count(3), (count(4, "b"),)), Known(count(3)), Verdict.SAME),
        (Known(count(3)), Known(count(4, "b")), Verdict.THIS),
        (Known(count(3), (count(4, "c"),)), Known(count(4, "b")), Verdict.THIS),
        (Known(), Known(count(1)), Verdict.THIS),
        (Known(count(4)), Known(count(4, "b")), Verdict.EITHER),
        (Known(count(9)), Known(count(4, "b")), Verdict.OTHER),
        (Known(count(9)), Known(), Verdict.OTHER),
    ],
)
def test_the_one_with_the_lower_number_was_copied(
    own: Known, other: Known, verdict: Verdict
) -> None:
    assert compare(own, other) is verdict
    turned = {Verdict.THIS: Verdict.OTHER, Verdict.OTHER: Verdict.THIS}
    assert compare(other, own) is turned.get(verdict, verdict)


@attrs.define
class Files:
    """What an end of the model has on its disk."""

    known: Known = attrs.field(factory=Known)


def meet(leader: Files, other: Files, chance: random.Random, breaks: float) -> Verdict:
    """One meeting of the model, which ends at any message with probability ``breaks``."""
    verdict = compare(leader.known, other.known)
    new = Count(
        number_after((*leader.known.all, *other.known.all)), f"{chance.getrandbits(128):032x}"
    )
    if chance.random() < breaks:
        return verdict
    leader.known = leader.known.naming(new, other.known.last)
    if chance.random() < breaks:
        return verdict
    other.known = Known(new)
    if chance.random() < breaks:
        return verdict
    leader.known = Known(new)
    return verdict


@pytest.mark.parametrize("seed", range(40))
def test_whatever_breaks_off_nobody_is_suspected_and_a_copy_always_is(seed: int) -> None:
    chance = random.Random(seed)
    office, laptop = Files(), Files()
    for _ in range(60):
        # Who leads is settled by the keys: it is the same one each time.
        assert meet(office, laptop, chance, 0.3) is Verdict.SAME
    for copied, suspected in ((laptop, Verdict.OTHER), (office, Verdict.THIS)):
        assert meet(office, laptop, chance, 0.0) is Verdict.SAME
        copy = Files(copied.known)
        thieves = (office, copy) if copied is laptop else (copy, laptop)
        for _ in range(chance.randrange(1, 4)):
            assert meet(*thieves, chance, 0.0) is Verdict.SAME
        assert meet(office, laptop, chance, 0.0) is suspected
        # It is told once, and the next time the thief comes.
        assert meet(office, laptop, chance, 0.3) is Verdict.SAME
        assert meet(office, laptop, chance, 0.0) is Verdict.SAME
        assert meet(*thieves, chance, 0.0) is suspected
        assert meet(office, laptop, chance, 0.0) is not Verdict.SAME


@pytest.mark.parametrize(
    "body",
    [
        b'{"own":"%s","other":"%s","number":-1,"mark":"","coming":[]}',
        b'{"own":"%s","other":"%s","number":1,"mark":"AA","coming":[]}',
        b'{"own":"%s","other":"%s","number":1,"mark":"","coming":[1]}',
        b'{"own":"%s","other":"%s","number":1,"mark":""}',
        b'{"own":"%s","other":"%sff","number":1,"mark":"","coming":[]}',
        b'{"own":"%%s","other":"%%s","number":%d,"mark":"","coming":[]}' % (MOST + 1),
        b'{"own":"%%s","other":"%%s","number":1,"mark":"","coming":[%s]}'
        % b",".join([b'{"number":1,"mark":""}'] * (MAX_COMING + 1)),
    ],
    ids=["negative", "mark", "coming", "absent", "key", "large", "many"],
)
def test_what_is_not_a_count_is_refused(body: bytes) -> None:
    there = counting(False, 0.0)
    data = body % (OWN.encode(), OTHER.encode())
    with pytest.raises(RemoteProtocolError, match="MET"):
        there.receive(HEADER.pack(len(data), 8, 0, 0, 0) + data, 0.0)
    assert there.over
    assert there.data_to_send()[4] == Refuse.type


def test_nothing_can_be_left_out() -> None:
    there = counting(False, 0.0)
    with pytest.raises(RemoteProtocolError, match="NEXT is not allowed in state LISTENING"):
        there.receive(MESSAGES.encode(Next(count(1))), 0.0)


def test_every_state_is_reached_and_can_end() -> None:
    assert {*reachable(TABLE, State.BEGINNING), *reachable(TABLE, State.LISTENING)} == set(State)
    for state in set(State) - {State.BEGINNING, State.DONE, State.ENDED}:
        assert TABLE[state, Input.REFUSE] == (Action.REPORT, State.ENDED)
