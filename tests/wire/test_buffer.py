"""Cutting a stream into LSTP messages during setup: borders, limits, leftover."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.buffer import Frame, FrameReader
from tunnelkit.wire.lstp import HEADER, encode_body


def frames_in(reader: FrameReader) -> list[Frame]:
    return list(iter(reader.next_frame, None))


@given(
    st.lists(st.tuples(st.integers(1, 16), st.binary(max_size=40)), max_size=6),
    st.lists(st.integers(0, 400)),
    st.binary(max_size=11),
)
def test_any_split_gives_the_same_frames_and_leftover(
    parts: list[tuple[int, bytes]], cuts: list[int], rest: bytes
) -> None:
    data = b"".join(encode_body(kind, body, 5, 3) for kind, body in parts) + rest
    reader = FrameReader()
    frames = []
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(edges):
        reader.feed(memoryview(data)[start:end])
        frames += frames_in(reader)
    assert frames == [Frame(kind, 3, 5, body) for kind, body in parts]
    assert reader.leftover == rest


def test_reserved_bytes_are_ignored() -> None:
    reader = FrameReader()
    reader.feed(HEADER.pack(1, 5, 0, 0xFFFF, 9) + b"x")
    assert reader.next_frame() == Frame(5, 0, 9, b"x")


def test_messages_that_nobody_took_are_left_over() -> None:
    reader = FrameReader()
    reader.feed(encode_body(5, b"") * 2 + b"tls")
    assert reader.next_frame() is not None
    assert reader.leftover == encode_body(5, b"") + b"tls"


@pytest.mark.parametrize("header", [(16385, 1), (262145, 10), (0xFFFFFFFF, 3), (0, 0), (0, 17)])
def test_a_bad_header_is_refused_before_its_body_comes(header: tuple[int, int]) -> None:
    reader = FrameReader()
    reader.feed(HEADER.pack(header[0], header[1], 0, 0, 0))
    with pytest.raises(RemoteProtocolError):
        reader.next_frame()


def test_more_than_64_kib_in_all_is_refused_by_the_header_that_says_so() -> None:
    reader = FrameReader()
    for _ in range(3):
        reader.feed(encode_body(3, bytes(16384)))
        assert reader.next_frame() is not None
    last = 65536 - 3 * (12 + 16384)
    reader.feed(HEADER.pack(last - 12, 3, 0, 0, 0))
    assert reader.next_frame() is None
    other = FrameReader()
    other.feed(HEADER.pack(65536, 10, 0, 0, 0))
    with pytest.raises(RemoteProtocolError, match="65536 bytes"):
        other.next_frame()
    reader.feed(bytes(last - 12) + encode_body(3, b""))
    assert reader.next_frame() is not None
    with pytest.raises(RemoteProtocolError, match="65536 bytes"):
        reader.next_frame()


def test_a_33rd_message_is_refused() -> None:
    reader = FrameReader()
    reader.feed(encode_body(3, b"") * 33)
    for _ in range(32):
        assert reader.next_frame() is not None
    with pytest.raises(RemoteProtocolError, match="32 messages"):
        reader.next_frame()


def test_a_message_left_out_of_the_count_does_not_use_up_the_limits() -> None:
    reader = FrameReader()
    for _ in range(100):
        reader.feed(encode_body(3, bytes(16000)))
        frame = reader.next_frame()
        assert frame is not None
        reader.uncount(frame)
