"""Renewing keys, as the two ends say it: every order of messages, and every other one (row Q2)."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import CASES
from tunnelkit.core.pairing.renewal import TABLE, Action, Input, Renewal, State, renewal
from tunnelkit.core.pairing.talk import MAX_BYTES, STEP_LIMIT
from tunnelkit.core.table import reachable
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.lstp import HEADER
from tunnelkit.wire.pairing import Refuse
from tunnelkit.wire.renewal import MESSAGES, Kept, Message, Renew

OLD, NEW, THEIRS = b"old", b"new", b"theirs"


def passed(source: Renewal, target: Renewal) -> list[tuple[Action, Message]]:
    """What one has said, taken by the other a byte at a time."""
    found = []
    for byte in source.data_to_send():
        found += target.receive(bytes([byte]), 0.0)
    return found


def pair() -> tuple[Renewal, Renewal]:
    return renewal(True, 0.0), renewal(False, 0.0)


def asked() -> tuple[Renewal, Renewal]:
    """The other end has been asked."""
    here, there = pair()
    here.say(Input.ASK, Renew(NEW, False, True), 0.0)
    assert passed(here, there) == [(Action.TAKE_KEY, Renew(NEW, False, True))]
    return here, there


def test_who_asks_gets_the_other_key_and_both_say_that_theirs_is_in_force() -> None:
    here, there = asked()
    there.say(Input.RENEW_TOO, Renew(THEIRS, False, False), 0.0)
    assert passed(there, here) == [(Action.TAKE_KEY, Renew(THEIRS, False, False))]
    here.say(Input.KEEP, Kept(True), 0.0)
    assert passed(here, there) == [(Action.NOTE, Kept(True))]
    assert not there.over
    there.say(Input.KEEP, Kept(False), 0.0)
    assert passed(there, here) == [(Action.NOTE, Kept(False))]
    assert here.state is there.state is State.DONE
    assert here.over
    assert there.over


def test_who_tells_gets_no_key() -> None:
    here, there = pair()
    here.say(Input.TELL, Renew(NEW, True, False), 0.0)
    assert passed(here, there) == [(Action.TAKE_KEY, Renew(NEW, True, False))]
    there.say(Input.KEEP, Kept(False), 0.0)
    assert passed(there, here) == [(Action.NOTE, Kept(False))]
    assert here.state is there.state is State.DONE


def test_either_says_no_and_why() -> None:
    here, there = asked()
    there.decline(Input.DECLINE, Code.NOT_ALLOWED, "it stays")
    assert passed(there, here) == [(Action.REPORT, Refuse(Code.NOT_ALLOWED, "it stays"))]
    assert here.state is there.state is State.ENDED
    here, there = asked()
    there.say(Input.RENEW_TOO, Renew(THEIRS, False, False), 0.0)
    passed(there, here)
    here.decline(Input.DECLINE, Code.NOT_ALLOWED, "not yours")
    assert passed(here, there) == [(Action.REPORT, Refuse(Code.NOT_ALLOWED, "not yours"))]
    assert there.over


def test_who_does_not_go_on_is_told_so_after_ten_seconds() -> None:
    here, there = asked()
    assert here.deadline_passed(STEP_LIMIT - 0.1) == ""
    assert here.deadline_passed(STEP_LIMIT) == (
        "the other end did not go on: waiting for the other end's new key"
    )
    assert here.next_deadline() is None
    ((action, message),) = passed(here, there)
    assert action is Action.REPORT
    assert isinstance(message, Refuse)
    assert message.code is Code.TIMED_OUT


@pytest.mark.parametrize(
    "data",
    [
        MESSAGES.encode(Kept(True)),
        HEADER.pack(0, 1, 0, 0, 0),
        HEADER.pack(MAX_BYTES, 6, 0, 0, 0),
        HEADER.pack(2, 6, 0, 0, 1) + b"{}",
        HEADER.pack(2, 6, 0, 0, 0) + b"{}",
        HEADER.pack(1, 7, 0, 0, 0) + b"[",
    ],
    ids=["order", "type", "long", "channel", "fields", "json"],
)
def test_what_is_not_in_the_rules_ends_it_and_the_other_is_told(data: bytes) -> None:
    there = renewal(False, 0.0)
    with pytest.raises(RemoteProtocolError):
        there.receive(data, 0.0)
    assert there.over
    assert MESSAGES.encode(Refuse(Code.PROTOCOL, ""))[4] == there.data_to_send()[4]
    assert there.receive(MESSAGES.encode(Renew(NEW, False, True)), 0.0) == []


def test_nothing_is_said_out_of_turn() -> None:
    here, _ = asked()
    for wanted in (Input.KEEP, Input.RENEW_TOO, Input.ASK):
        with pytest.raises(LocalProtocolError, match="this renewal is waiting"):
            here.say(wanted, Kept(True), 0.0)


def test_every_state_is_reached_and_can_end() -> None:
    begun = {*reachable(TABLE, State.BEGINNING), *reachable(TABLE, State.LISTENING)}
    assert begun == set(State)
    for state in set(State) - {State.BEGINNING, State.DONE, State.ENDED}:
        assert TABLE[state, Input.REFUSE] == (Action.REPORT, State.ENDED)


def test_rubbish_breaks_the_rules_and_nothing_else() -> None:
    chance = random.Random(13)
    good = MESSAGES.encode(Renew(NEW, False, True))
    for _ in range(min(CASES, 2000)):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        there = renewal(False, 0.0)
        try:
            there.receive(bytes(data), 0.0)
        except RemoteProtocolError:
            assert there.over
