"""The exchange: two that share a code, and everybody else (row Q2)."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs
import pytest

from tests.wire.pairing_samples import OTHER_PIN, PIN
from tunnelkit.core.pairing import pake
from tunnelkit.core.pairing.exchange import (
    DECISION_LIMIT,
    NO_MATCH,
    STEP_LIMIT,
    TABLE,
    Event,
    Exchange,
    Failed,
    Offered,
    Paired,
    Party,
    State,
)
from tunnelkit.core.table import reachable
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.pairing import (
    INSIDE,
    JOINER,
    Accept,
    Confirm,
    Message,
    Offer,
    Pake,
    Refuse,
    check_header,
    decode,
    encode,
)

CODE = b"7-gravel-tulip-otter"
CHANNEL = bytes(range(32))
OFFICE = Party(
    INSIDE, Offer("office", b"office's", bytes(32), "work", (), ("tcp:10.1.2.3:22",)), PIN
)
LAPTOP = Party(JOINER, Offer("laptop", b"laptop's"), OTHER_PIN)


def messages(data: bytes) -> list[Message]:
    reader = FrameReader(check_header)
    reader.feed(data)
    found = []
    while (frame := reader.next_frame()) is not None:
        found.append(decode(frame))
    return found


Meddle = Callable[[bool, Message], list[Message]]
"""``(from_joiner, message)`` -> what arrives instead."""


@attrs.define
class Meeting:
    """An inside and a joiner, with somebody in between who may change what they say."""

    inside: Exchange
    joiner: Exchange
    meddle: Meddle = lambda from_joiner, message: [message]
    seen: list[tuple[bool, Message]] = attrs.field(factory=list)
    events: dict[str, list[Event]] = attrs.field(factory=lambda: {INSIDE: [], JOINER: []})
    broken: list[str] = attrs.field(factory=list)

    def run(self, agree: bool = True) -> Meeting:
        going = True
        while going:
            going = False
            for source, target, name in (
                (self.joiner, self.inside, INSIDE),
                (self.inside, self.joiner, JOINER),
            ):
                for message in messages(source.data_to_send()):
                    self.seen.append((name == INSIDE, message))
                    for arrived in self.meddle(name == INSIDE, message):
                        going = True
                        self.deliver(target, name, arrived, agree)
        return self

    def deliver(self, target: Exchange, name: str, message: Message, agree: bool) -> None:
        if target.next_deadline() is None:
            return
        try:
            events = target.receive(encode(message), 0.0)
        except RemoteProtocolError as error:
            self.broken.append(f"{name}: {error}")
            return
        for event in events:
            self.events[name].append(event)
            if isinstance(event, Offered) and agree:
                target.agree(0.0)

    def paired(self) -> set[str]:
        return {name for name, events in self.events.items() if Paired() in events}

    def failed(self) -> dict[str, Code]:
        return {
            name: event.code
            for name, events in self.events.items()
            for event in events
            if isinstance(event, Failed)
        }


def times(count: int, kind: type[Message]) -> Meddle:
    """Every message of that kind arrives so many times."""

    def meddle(joiner: bool, message: Message) -> list[Message]:
        return [message] * (count if type(message) is kind else 1)

    return meddle


def meeting(
    *,
    code: bytes = CODE,
    channel: bytes = CHANNEL,
    office: Party = OFFICE,
    laptop: Party = LAPTOP,
    meddle: Meddle | None = None,
) -> Meeting:
    made = Meeting(Exchange(office, CODE, CHANNEL, 0.0), Exchange(laptop, code, channel, 0.0))
    if meddle is not None:
        made.meddle = meddle
    return made


def test_two_with_the_same_code_get_what_the_other_offers() -> None:
    met = meeting().run()
    assert met.paired() == {INSIDE, JOINER}
    assert met.events[INSIDE][0] == Offered(LAPTOP.offer, OTHER_PIN)
    assert met.events[JOINER][0] == Offered(OFFICE.offer, PIN)
    assert [type(message) for _, message in met.seen] == [
        Pake, Pake, Pake, Confirm, Confirm, Offer, Offer, Accept, Accept,
    ]  # fmt: skip
    assert met.inside.tried
    assert met.inside.next_deadline() is met.joiner.next_deadline() is None


def test_bytes_may_be_cut_anywhere() -> None:
    dice = random.Random(1)
    for _ in range(20):
        pair = (Exchange(OFFICE, CODE, CHANNEL, 0.0), Exchange(LAPTOP, CODE, CHANNEL, 0.0))
        events: list[Event] = []
        for turn in range(8):
            source, target = pair[turn % 2], pair[1 - turn % 2]
            data = source.data_to_send()
            while data:
                size = dice.randint(1, 40)
                for event in target.receive(data[:size], 0.0):
                    events.append(event)
                    if isinstance(event, Offered):
                        target.agree(0.0)
                data = data[size:]
        assert events.count(Paired()) == 2


def test_nothing_but_halves_of_the_key_exchange_is_said_before_the_proof() -> None:
    met = meeting(code=b"7-gravel-tulip-onion").run()
    assert {type(message) for _, message in met.seen} == {Pake, Confirm, Refuse}
    assert met.paired() == set()
    assert met.failed() == {JOINER: Code.WRONG_CODE, INSIDE: Code.WRONG_CODE}
    assert met.events[JOINER] == [Failed(Code.WRONG_CODE, NO_MATCH)]
    assert met.events[INSIDE] == [Failed(Code.WRONG_CODE, NO_MATCH)]
    assert met.inside.tried


def test_ten_thousand_wrong_codes_get_nobody_in() -> None:
    # The full amount behind TUNNELKIT_FUZZ=full: 4 ms each.
    from tests.fuzz import CASES

    for number in range(10_000 if CASES > 20_000 else 100):
        met = meeting(code=b"7-guess-number-%d" % number).run()
        assert met.failed() == {JOINER: Code.WRONG_CODE, INSIDE: Code.WRONG_CODE}


def test_who_has_two_connections_in_between_fails_as_with_a_wrong_code() -> None:
    met = meeting(channel=bytes(32)).run()
    assert met.failed() == {JOINER: Code.WRONG_CODE, INSIDE: Code.WRONG_CODE}
    assert not any(isinstance(message, Offer) for _, message in met.seen)


CHANGES: dict[str, Callable[[Pake], Pake]] = {
    "name": lambda half: attrs.evolve(half, name="mallory"),
    "pin": lambda half: attrs.evolve(half, pin="sha256:" + "77" * 32),
    "nonce": lambda half: attrs.evolve(half, nonce=bytes(16)),
    "share": lambda half: attrs.evolve(half, share=half.share and bytes(31) + b"\x09"),
    "low order": lambda half: attrs.evolve(half, share=half.share and bytes(32)),
}


@pytest.mark.parametrize("from_joiner", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_of_the_halves_is_changed_on_the_way_nobody_is_paired(
    change: str, from_joiner: bool
) -> None:
    def meddle(joiner: bool, message: Message) -> list[Message]:
        if joiner is from_joiner and isinstance(message, Pake):
            return [CHANGES[change](message)]
        return [message]

    met = meeting(meddle=meddle).run()
    assert met.paired() == set()
    assert not any(isinstance(message, Offer) for _, message in met.seen)


def test_swapped_reflected_replayed_and_left_out_messages_pair_nobody() -> None:
    def reflect(met: Meeting) -> Meddle:
        def meddle(joiner: bool, message: Message) -> list[Message]:
            # To each his own words.
            met.deliver(met.joiner if joiner else met.inside, JOINER, message, True)
            return []

        return meddle

    met = meeting()
    met.meddle = reflect(met)
    assert met.run().paired() == set()
    for kind in (Pake, Confirm, Offer, Accept):
        twice = meeting(meddle=times(2, kind)).run()
        never = meeting(meddle=times(0, kind)).run()
        assert twice.paired() <= {INSIDE, JOINER}
        assert kind is Accept or not twice.paired()
        assert never.paired() == set()


def test_a_proof_of_another_run_is_none() -> None:
    earlier = meeting().run()
    old = [message for from_joiner, message in earlier.seen if from_joiner]
    inside = Exchange(OFFICE, CODE, CHANNEL, 0.0)
    events: list[Event] = []
    for message in old:
        if inside.next_deadline() is not None:
            events += inside.receive(encode(message), 0.0)
    assert events == [Failed(Code.WRONG_CODE, NO_MATCH)]


@pytest.mark.parametrize(
    "laptop",
    [
        attrs.evolve(LAPTOP, role=INSIDE, offer=attrs.evolve(OFFICE.offer, name="laptop")),
        attrs.evolve(LAPTOP, offer=attrs.evolve(LAPTOP.offer, name="office")),
        attrs.evolve(LAPTOP, pin=PIN),
    ],
    ids=["role", "name", "key"],
)
def test_two_of_the_same_are_refused(laptop: Party) -> None:
    met = meeting(laptop=laptop).run()
    assert met.paired() == set()
    assert met.broken


def test_an_offer_says_what_its_side_has_to_say_and_no_more() -> None:
    for office in (
        attrs.evolve(OFFICE, offer=attrs.evolve(OFFICE.offer, rendezvous=None)),
        attrs.evolve(OFFICE, offer=attrs.evolve(OFFICE.offer, tunnel=None)),
    ):
        assert meeting(office=office).run().paired() == set()
    laptop = attrs.evolve(LAPTOP, offer=attrs.evolve(LAPTOP.offer, rendezvous=bytes(32)))
    assert meeting(laptop=laptop).run().paired() == set()

    for office in (
        attrs.evolve(OFFICE, offer=attrs.evolve(OFFICE.offer, issued=b"laptop's, issued")),
        attrs.evolve(OFFICE, offer=attrs.evolve(OFFICE.offer, authority=b"a CA's")),
    ):
        assert meeting(office=office).run().paired() == set()
    issues = attrs.evolve(LAPTOP.offer, issued=b"issued", authority=b"a CA's")
    assert meeting(laptop=attrs.evolve(LAPTOP, offer=issues)).run().paired() == set()

    def rename(joiner: bool, message: Message) -> list[Message]:
        return [attrs.evolve(message, name="mallory") if isinstance(message, Offer) else message]

    assert meeting(meddle=rename).run().paired() == set()


def test_an_inside_may_offer_what_it_has_made_for_this_joiner() -> None:
    met = meeting().run(agree=False)
    made = attrs.evolve(OFFICE.offer, issued=b"laptop's, issued", authority=b"a CA's")
    met.inside.agree(0.0, made)
    met.run()
    assert met.paired() == {INSIDE, JOINER}
    assert met.events[JOINER][0] == Offered(made, PIN)


def test_what_is_declined_is_told_and_taken_back() -> None:
    met = meeting().run(agree=False)
    met.inside.decline(Code.REFUSED, "it was refused by hand")
    met.run()
    assert met.failed() == {JOINER: Code.REFUSED}
    assert met.paired() == set()
    with pytest.raises(LocalProtocolError):
        met.inside.agree(0.0)
    with pytest.raises(LocalProtocolError):
        met.inside.receive(b"", 0.0)


def test_who_does_not_go_on_is_given_up() -> None:
    inside = Exchange(OFFICE, CODE, CHANNEL, 5.0)
    assert inside.next_deadline() == 5.0 + STEP_LIMIT
    assert inside.deadline_passed(5.0) == []
    (failed,) = inside.deadline_passed(5.0 + STEP_LIMIT)
    assert isinstance(failed, Failed)
    assert failed.code is Code.TIMED_OUT
    assert not inside.tried
    met = meeting().run(agree=False)
    assert met.inside.next_deadline() == DECISION_LIMIT
    assert met.joiner.next_deadline() == DECISION_LIMIT


@pytest.mark.parametrize(
    "change",
    [lambda half: attrs.evolve(half, version=2), lambda half: attrs.evolve(half, suite="SPAKE2")],
)
def test_another_version_or_suite_is_refused(change: Callable[[Pake], Pake]) -> None:
    def meddle(joiner: bool, message: Message) -> list[Message]:
        return [change(message) if isinstance(message, Pake) else message]

    met = meeting(meddle=meddle).run()
    assert met.broken
    assert met.paired() == set()


def test_the_table_reaches_every_state_from_both_beginnings() -> None:
    assert set(reachable(TABLE, State.GREETING)) == set(State)
    assert set(reachable(TABLE, State.SHARING)) == set(State) - {State.GREETING}


def test_the_key_exchange_is_that_of_the_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    # draft-irtf-cfrg-cpace, appendix B.1: X25519 and SHA-512.
    secrets = iter(
        bytes.fromhex(text)
        for text in (
            "21b4f4bd9e64ed355c3eb676a28ebedaf6d8f17bdc365995b319097153044080",
            "848b0779ff415f0af4ea14df9dd1d3c29ac41d836c7808896c4eba19c51ac40a",
        )
    )
    monkeypatch.setattr("cpace.secrets.token_bytes", lambda size: next(secrets))
    session = bytes.fromhex("7e4b4791d6a8ef019b936c79fb7f2c57")
    channel = b"oc\x0bB_responder\x0bA_initiator"
    first = pake.Pake(b"Password", first=True, session=session, channel=channel, about=b"ADa")
    second = pake.Pake(b"Password", first=False, session=session, channel=channel, about=b"ADb")
    assert first.share.hex() == "1b02dad6dbd29a07b6d28c9e04cb2f184f0734350e32bb7e62ff9dbcfdb63d15"
    assert second.share.hex() == "20cda5955f82c4931545bcbf40758ce1010d7db4db2a907013d79c7a8fcf957f"
    first.take(second.share, b"ADb")
    second.take(first.share, b"ADa")
    second.check(first.tag())
    first.check(second.tag())
    with pytest.raises(pake.WrongCode):
        first.check(first.tag())
