"""A middle that dials the next one for an end that waits: what it passes on and refuses (L8)."""

from __future__ import annotations

import pytest

from tests.core.lstp.test_middle import HOP, LAB, OFFICE, Room, client, is_refused, paired, server
from tunnelkit.core.lstp.cascade import REDIAL_DELAY, Upstream
from tunnelkit.core.lstp.middle import Close, Dial, MiddleConnection, Pair, Send
from tunnelkit.core.lstp.middle_connection import State
from tunnelkit.core.lstp.setup import SILENCE_LIMIT
from tunnelkit.errors import Code
from tunnelkit.wire.lstp import (
    CommonUniqueInfo,
    Error,
    Hop,
    PropertyExchange,
    TopologyExchange,
    encode,
)

NEXT = Hop("far", "middle", "192.0.2.2:7000", "6" * 32)


def asking(now: float = 0.0) -> tuple[Room, MiddleConnection, Upstream, bytes]:
    """A room with one end that waits, and its connection to the next middle."""
    room = Room(cascades=True)
    waiting, commands = room.arrive(client(), now=now)
    assert commands == [Dial(waiting)]
    (sent,) = room.lobby.reached(waiting, None, now)
    assert isinstance(sent.connection, Upstream)
    return room, waiting, sent.connection, bytes(sent.data)


def partner(
    hops: tuple[Hop, ...] = (NEXT,), role: str = "server-end", common: str = OFFICE
) -> bytes:
    """The setup of an end behind ``hops``, as the next middle forwards it: its own hop last."""
    own = Hop("bob", role, "inside", "a" * 32)
    return encode(CommonUniqueInfo(common, "bob", role)) + encode(TopologyExchange((own, *hops)))


def test_the_next_middle_hears_the_setup_with_this_hop_and_its_partner_is_paired() -> None:
    room, waiting, upstream, sent = asking()
    assert sent.startswith(client()[: len(client()) // 2])
    answer = partner() + b"\x16\x03\x01 the beginning of TLS"
    send, pair = room.lobby.answered(upstream, answer, 1.0)
    assert isinstance(send, Send)
    assert send.connection is waiting
    assert bytes(send.data).endswith(b"the beginning of TLS")
    assert pair == Pair(waiting, upstream, "alice", "bob")
    assert room.lobby.answered(upstream, b"more", 1.0) == []


def test_an_answer_may_come_in_pieces_and_behind_keepalives() -> None:
    room, _, upstream, _ = asking()
    answer = encode(PropertyExchange()) + partner()
    for byte in answer[:-1]:
        assert room.lobby.answered(upstream, bytes([byte]), 1.0) == []
    assert len(room.lobby.answered(upstream, answer[-1:], 1.0)) == 2


def test_a_partner_who_comes_here_first_wins() -> None:
    room, waiting, upstream, _ = asking()
    arrived, commands = room.arrive(server("carol"))
    assert paired(commands) == (waiting, arrived)
    assert upstream.state is State.ENDED
    assert room.lobby.answered(upstream, partner(), 1.0) == []
    assert room.lobby.reached(waiting, None, 1.0) == []


@pytest.mark.parametrize(
    "answer",
    [
        partner(role="client-end"),
        partner(common=LAB),
        partner(hops=(HOP,)),
        partner(hops=(NEXT, HOP)),
        encode(TopologyExchange(())),
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=["not complementary", "another tunnel", "this middle", "a ring", "out of turn", "ssh"],
)
def test_what_no_next_middle_may_say_is_given_up_and_asked_again_later(answer: bytes) -> None:
    room, waiting, upstream, _ = asking()
    (close,) = room.lobby.answered(upstream, answer, 1.0)
    assert isinstance(close, Close)
    assert close.connection is upstream
    assert waiting.state is State.WAITING
    assert room.lobby.deadline_passed(1.0 + REDIAL_DELAY) == [Dial(waiting)]


@pytest.mark.parametrize("code", [Code.SHUTDOWN, Code.RESET])
def test_a_next_middle_that_leaves_is_asked_again_later(code: Code) -> None:
    room, waiting, upstream, _ = asking()
    error = encode(Error(code, "going home", fatal=True))
    assert room.lobby.answered(upstream, error, 1.0) == [
        Close(upstream, Code.UNREACHABLE, "going home")
    ]
    assert waiting.state is State.WAITING


def test_a_refusal_of_the_next_middle_reaches_the_end_that_waits() -> None:
    room, waiting, upstream, _ = asking()
    error = encode(Error(Code.PROTOCOL, "a ring", fatal=True))
    close, *refusal = room.lobby.answered(upstream, error, 1.0)
    assert isinstance(close, Close)
    assert close.connection is upstream
    assert is_refused(refusal, waiting, Code.PROTOCOL)


def test_silence_of_the_next_middle_is_noticed() -> None:
    room, waiting, upstream, _ = asking()
    commands = room.lobby.deadline_passed(SILENCE_LIMIT)
    assert Close(upstream, Code.UNREACHABLE, "nothing came from it") in commands
    assert waiting.state is State.WAITING


def test_a_next_middle_that_cannot_be_reached_is_dialled_again() -> None:
    room = Room(cascades=True)
    waiting, _ = room.arrive(client())
    assert room.lobby.missed(waiting, 0.0) == []
    assert room.lobby.missed(waiting, 0.0) == []
    assert room.lobby.deadline_passed(REDIAL_DELAY) == [Dial(waiting)]
