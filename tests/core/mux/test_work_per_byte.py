"""What a peer makes a mux do is bounded per byte, however it cuts and whatever it sends (X24).

The corpus in ``tests/corpus`` has inputs that cost most, or once did: add what a fuzzer finds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import fuzz
from tests.core.lstp.test_mux_stateful import conversation
from tests.work import steps
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux.contract import TunnelMux
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.wire import lstp, usher
from tunnelkit.wire.usher import (
    AddressType,
    Direction,
    UsherClose,
    UsherCredit,
    UsherOpen,
    UsherRst,
    UsherSend,
    UsherSettings,
    Version,
)

CORPUS = Path(__file__).parents[2] / "corpus"
PER_BYTE = 100
"""Byte codes of Python for each byte that comes, about 5 us; today it is half of that."""
PER_PIECE = 200
"""And for each time that some come."""


def lstp_mux(channels: int = 2) -> LstpMux:
    """An end that is up, with channels of its own that wait for answers."""
    mux = LstpMux(False, MuxConfig(window=4000, max_channels=3), 0.0, budget=Budget())
    mux.receive(memoryview(lstp.encode(lstp.PropertyExchange(max_channels=5000))), 0.0)
    for _ in range(channels):
        mux.open("tcp:a:1", 0.0)
    mux.data_to_send()
    return mux


def usher_mux(channels: int = 2) -> UsherMux:
    """The same for usher/1.1."""
    mux = UsherMux(Version.V1_1, UsherConfig(4000, 3), 0.0, budget=Budget())
    mux.receive(memoryview(usher.encode(UsherSettings(), 0, Version.V1_1)), 0.0)
    for _ in range(channels):
        mux.open("tcp:a:1", 0.0)
    mux.data_to_send()
    return mux


MUXES: dict[str, Callable[[], TunnelMux]] = {"lstp": lstp_mux, "usher_1_1": usher_mux}


def work(mux: TunnelMux, pieces: list[bytes]) -> int:
    """Byte codes from the first piece to the last answer."""

    def take_all() -> None:
        for piece in pieces:
            mux.receive(memoryview(piece), 1.0)
            mux.data_to_send()

    return steps(take_all)


def check(name: str, data: bytes, size: int) -> None:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    done = work(MUXES[name](), pieces)
    most = PER_BYTE * len(data) + PER_PIECE * len(pieces)
    assert done <= most, f"{done} steps for {data[:200].hex()}, {len(data)} bytes by {size}"


# -- the corpus -----------------------------------------------------------


def corpus(name: str) -> dict[str, bytes]:
    """Its cases: each line of hexadecimal digits, ``* N`` behind it for so many of it."""
    cases: dict[str, bytes] = {}
    title = ""
    for line in (CORPUS / f"{name}.txt").read_text(encoding="ascii").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("["):
            title = text.strip("[]")
            cases[title] = b""
        elif text:
            digits, _, times = text.partition("*")
            cases[title] += bytes.fromhex(digits) * int(times or "1")
    return cases


CASES = [(name, title) for name in MUXES for title in corpus(name)]


@pytest.mark.parametrize(("name", "title"), CASES)
def test_the_corpus_costs_no_more_than_it_may(name: str, title: str) -> None:
    data = corpus(name)[title]
    check(name, data, len(data))
    check(name, data[:4096], 1)


# -- fuzzing --------------------------------------------------------------


def usher_conversation(dice: random.Random) -> bytes:
    """What a peer might say, on a few sessions."""
    said = b""
    for _ in range(dice.randint(1, 25)):
        records = (
            UsherOpen(AddressType.NAME, "web", 80),
            UsherSend(dice.randbytes(dice.choice((0, 1, 100, 1000)))),
            UsherClose(dice.choice(tuple(Direction))),
            UsherRst("reset: enough"),
            UsherCredit(0, 262_144),
        )
        said += usher.encode(dice.choice(records), dice.choice((1, 2, 5, -1, -5)), Version.V1_1)
    return said


CONVERSATIONS: dict[str, Callable[[random.Random], bytes]] = {
    "lstp": conversation,
    "usher_1_1": usher_conversation,
}


def inputs(name: str, cases: int) -> Iterator[bytes]:
    dice = random.Random(11)
    seeds = [CONVERSATIONS[name](dice) for _ in range(100)]
    yield from (data for data in fuzz.damaged(seeds, cases=cases) if data)


@pytest.mark.parametrize("name", MUXES)
def test_no_input_costs_more_per_byte_than_it_may(name: str) -> None:
    dice = random.Random(5)
    for data in inputs(name, fuzz.CASES // 50):
        check(name, data[:4096], dice.choice((1, 7, 100, 4096)))


# -- what does not depend on how much there is ----------------------------


@pytest.mark.parametrize("make", [lstp_mux, usher_mux])
def test_a_message_costs_the_same_however_many_channels_are_open(
    make: Callable[[int], LstpMux | UsherMux],
) -> None:
    few, many = make(10), make(2000)
    if isinstance(few, LstpMux):
        said = lstp.encode(lstp.ConnectionAck(), 4) + lstp.encode(lstp.ServiceBeginAck(), 4)
        said += lstp.encode(lstp.ServiceData(b"hello"), 4)
    else:
        reply = usher.UsherOpenReply(9, "")
        said = usher.encode(reply, 4, Version.V1_1)
        said += usher.encode(UsherSend(b"hello"), 4, Version.V1_1)
    assert work(few, [said]) == work(many, [said])
    assert steps(few.next_deadline) == steps(many.next_deadline)


@pytest.mark.parametrize("name", MUXES)
def test_many_messages_cost_as_much_as_one_many_times(name: str) -> None:
    (first, *_) = corpus(name).values()
    once = work(MUXES[name](), [first])
    assert work(MUXES[name](), [first * 10]) <= 11 * once
