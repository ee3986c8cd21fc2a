"""No input makes the Usher codec or mux raise anything but a protocol error (U1, R8)."""

from __future__ import annotations

from random import Random

import pytest

from tests.core.usher.talk import FAR, Got, Talk, kept
from tests.fuzz import CASES, damaged, pieces
from tests.wire.test_usher import VECTORS
from tunnelkit.core.mux import contract as t
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.usher import (
    HEADER,
    HEADER_SIZE,
    AddressType,
    UsherOpen,
    UsherOpenReply,
    Version,
    check_header,
    decode,
    encode,
)

pytestmark = pytest.mark.timeout(120 + CASES // 200)


@pytest.mark.parametrize("version", Version)
def test_every_record_is_decoded_or_refused(version: Version) -> None:
    seeds = [data for vectors in VECTORS.values() for data in vectors.values()]
    accepted = 0
    for data in damaged(seeds, seed=1):
        if len(data) < HEADER_SIZE:
            continue
        _, kind, session = HEADER.unpack_from(data)
        body = data[HEADER_SIZE:]
        try:
            check_header(len(body), kind, version)
            record = decode(kind, body, version)
        except RemoteProtocolError:
            continue
        accepted += 1
        again = encode(record, session, version)
        assert decode(kind, again[HEADER_SIZE:], version) == record
    assert accepted > CASES // 20


def busy(version: Version) -> Talk:
    """A mux with sessions in several states."""
    talk = Talk(version)
    text = None if version is Version.V1 else ""
    numbers = [talk.mux.open("tcp:web:80", 0.0) for _ in range(4)]
    for number in numbers[:3]:
        talk.hears((UsherOpenReply(FAR + number, text), number))
        talk.mux.send(number, bytes(100), 0.0)
    talk.mux.finish(numbers[1], 0.0)
    talk.mux.abort(numbers[2], Code.RESET, "", 0.0)
    talk.hears((UsherOpen(AddressType.NAME, "web", 80), FAR))
    talk.said()
    return talk


@pytest.mark.parametrize("version", Version)
def test_no_stream_breaks_a_mux(version: Version) -> None:
    seeds = list(VECTORS[version].values())
    for seed in list(seeds):
        # For the sessions that there are, too.
        length, kind, _ = HEADER.unpack_from(seed)
        seeds += [HEADER.pack(length, kind, n) + seed[HEADER_SIZE:] for n in (1, 2, 4, -FAR)]
    survived = ended = 0
    talk = busy(version)
    for data in damaged(seeds, seed=3):
        for event in talk.hears_bytes(data):
            if isinstance(event, Got):
                talk.mux.consumed(event.channel, len(event.data), 0.0)
            elif isinstance(event, t.ChannelRequested) and event.channel in talk.mux.channels():
                talk.mux.opened(event.channel, "")
        if talk.mux.next_deadline() is None and not talk.mux.channels():
            assert talk.hears_bytes(b"more") == []
            ended += 1
            talk = busy(version)
        else:
            survived += 1
    assert ended + survived == CASES
    assert ended
    assert survived


def joined(events: list[t.Event | Got]) -> list[t.Event | Got]:
    """Neighbouring data of one channel in one piece."""
    result: list[t.Event | Got] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, Got) and isinstance(last, Got) and event.channel == last.channel:
            result[-1] = Got(event.channel, last.data + event.data)
        else:
            result.append(event)
    return result


@pytest.mark.parametrize("version", Version)
def test_any_split_of_the_input_gives_the_same_events(version: Version) -> None:
    chance = Random(4)
    seeds = []
    for seed in VECTORS[version].values():
        length, kind, _ = HEADER.unpack_from(seed)
        seeds += [HEADER.pack(length, kind, n) + seed[HEADER_SIZE:] for n in (0, 1, 2, 4, FAR + 9)]
    for number in range(CASES // 20):
        data = b"".join(chance.choices(seeds, k=chance.randrange(1, 12)))
        if number % 2:
            (data,) = damaged([data], seed=number, cases=1)
        one, many = busy(version), busy(version)
        expected = kept(one.mux.receive(memoryview(data), 0.0))
        cuts = [chance.randrange(1 << 16) for _ in range(chance.randrange(1, 30))]
        got = [event for piece in pieces(data, cuts) for event in many.hears_bytes(piece)]
        assert joined(got) == joined(expected)
        assert one.mux.data_to_send() == many.mux.data_to_send()
