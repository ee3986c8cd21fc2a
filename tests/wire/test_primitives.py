"""The bounds-checked reader and the writer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Truncated, Writer


def test_every_kind_of_field_is_read_as_it_was_written() -> None:
    data = (
        Writer().u8(1).u16(0x0203).u32(0x04050607).u64(0x08090A0B0C0D0E0F)
        .put(memoryview(b"raw")).block8(b"short").block16(b"longer").put(b"name\0rest").done()
    )  # fmt: skip
    assert data == bytes(range(1, 16)) + b"raw\x05short\x00\x06longername\x00rest"
    reader = Reader(memoryview(data), "test")
    assert (reader.u8(), reader.u16(), reader.u32()) == (1, 0x0203, 0x04050607)
    assert reader.u64() == 0x08090A0B0C0D0E0F
    assert (reader.take(3), reader.block8(), reader.block16()) == (b"raw", b"short", b"longer")
    assert reader.until(0, 4) == b"name"
    with pytest.raises(RemoteProtocolError, match="4 bytes too many"):
        reader.finish()
    assert (reader.remaining, reader.offset) == (4, len(data) - 4)
    assert reader.rest() == b"rest"
    reader.finish()


@given(st.binary(max_size=7), st.integers(0, 2**64))
def test_what_is_not_there_is_not_read(data: bytes, size: int) -> None:
    reader = Reader(data, "a packet")
    with pytest.raises(Truncated, match="a packet"):
        reader.u64()
    assert reader.offset == 0
    if size > len(data):
        with pytest.raises(Truncated):
            reader.take(size)


@pytest.mark.parametrize("data", [b"\x05four", b"\x00\x05four"])
def test_a_block_longer_than_its_message_is_refused(data: bytes) -> None:
    reader = Reader(data, "a packet")
    with pytest.raises(Truncated):
        reader.block8() if data[0] else reader.block16()


def test_a_field_up_to_a_mark_may_still_come_or_is_too_long() -> None:
    assert Reader(b"abc\n", "line").until(10, 3) == b"abc"
    with pytest.raises(Truncated):
        Reader(b"abc", "line").until(10, 3)
    with pytest.raises(RemoteProtocolError, match="longer than 3") as caught:
        Reader(b"abcd\n", "line").until(10, 3)
    assert not isinstance(caught.value, Truncated)


@pytest.mark.parametrize("value", [-1, 256])
def test_a_value_that_does_not_fit_is_a_mistake_of_ours(value: int) -> None:
    with pytest.raises(LocalProtocolError):
        Writer().u8(value)
