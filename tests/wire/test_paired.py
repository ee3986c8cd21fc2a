"""What paired ends say through their tunnel: as written down, and as sent (row Q2)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.vectors import read_vectors
from tunnelkit.wire import meetings, renewal
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.meetings import Count, Met, Next, Noted
from tunnelkit.wire.renewal import Kept, Renew

CERTIFICATE = b"0\x03\x02\x01\x05"
KEY, OTHER_KEY = "0f" * 32, "a5" * 32

SAMPLES: dict[str, tuple[Any, Any]] = {
    "renew-asks": (renewal.MESSAGES, Renew(CERTIFICATE, in_force=False, asks=True)),
    "kept": (renewal.MESSAGES, Kept(in_force=True)),
    "met-first": (meetings.MESSAGES, Met(KEY, OTHER_KEY, Count())),
    "met": (
        meetings.MESSAGES,
        Met(KEY, OTHER_KEY, Count(4, "1a" * 16), (Count(5, "2b" * 16),)),
    ),
    "next": (meetings.MESSAGES, Next(Count(6, "3c" * 16))),
    "noted": (meetings.MESSAGES, Noted()),
}
VECTORS = read_vectors("paired.txt")


def test_there_is_a_vector_for_each_message() -> None:
    assert VECTORS.keys() == SAMPLES.keys()
    types = {*renewal.MessageType, *meetings.MessageType}
    assert {data[4] for data in VECTORS.values()} == types


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_is_sent_and_read_as_written_down(name: str) -> None:
    messages, sample = SAMPLES[name]
    assert messages.encode(sample).hex() == VECTORS[name].hex()
    reader = FrameReader(messages.check_header)
    reader.feed(VECTORS[name])
    frame = reader.next_frame()
    assert frame is not None
    assert messages.decode(frame) == sample
