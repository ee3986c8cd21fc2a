"""The first packet of X clients, the server's refusal, and authority files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import damaged, pieces
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.x11 import (
    FAMILY_INTERNET,
    FAMILY_LOCAL,
    FAMILY_WILD,
    MAX_SETUP,
    MIT_MAGIC_COOKIE,
    AuthorityEntry,
    Setup,
    SetupReader,
    encode_authority,
    encode_failed,
    encode_setup,
    parse_authority,
)

COOKIE = bytes(range(16))
TAIL = b"MIT-MAGIC-COOKIE-1\x00\x00" + COOKIE
BIG = b"B\x00\x00\x0b\x00\x00\x00\x12\x00\x10\x00\x00" + TAIL
LITTLE = b"l\x00\x0b\x00\x00\x00\x12\x00\x10\x00\x00\x00" + TAIL
BARE = b"l\x00\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00"

VECTORS = [
    (BIG, Setup(True, 11, 0, MIT_MAGIC_COOKIE, COOKIE)),
    (LITTLE, Setup(False, 11, 0, MIT_MAGIC_COOKIE, COOKIE)),
    (BARE, Setup(False)),
    (
        b"B\x00" b"\x00\x0a\x00\x06" b"\x00\x01\x00\x05" b"\x00\x00"
        b"A\x00\x00\x00" b"12345\x00\x00\x00",
        Setup(True, 10, 6, b"A", b"12345"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "setup"), VECTORS)
def test_a_setup_packet_reads_and_writes_byte_for_byte(data: bytes, setup: Setup) -> None:
    reader = SetupReader()
    assert reader.receive(data) == len(data)
    assert reader.setup == setup
    assert encode_setup(setup) == data


@pytest.mark.parametrize("data", [BIG, LITTLE, BARE])
def test_a_packet_may_be_cut_anywhere_and_nothing_behind_it_is_taken(data: bytes) -> None:
    stream = data + b"requests"
    for first in range(len(stream)):
        for second in range(first, len(stream)):
            reader = SetupReader()
            taken = [
                reader.receive(piece)
                for piece in (stream[:first], stream[first:second], stream[second:])
            ]
            assert sum(taken) == len(data)
            assert reader.setup is not None
            assert encode_setup(reader.setup) == data


def test_a_part_of_a_packet_is_no_setup_yet() -> None:
    for size in range(len(BIG)):
        reader = SetupReader()
        assert reader.receive(BIG[:size]) == size
        assert reader.setup is None
        assert reader.big_endian is (True if size else None)


@pytest.mark.parametrize("first", set(range(256)) - {0x42, 0x6C})
def test_a_first_byte_that_is_no_byte_order_is_refused_at_once(first: int) -> None:
    with pytest.raises(RemoteProtocolError, match="neither B nor l"):
        SetupReader().receive(bytes([first]))


@pytest.mark.parametrize(
    "head",
    [
        b"B\x00\x00\x0b\x00\x00\xff\xf8\x00\x00\x00\x00",
        b"B\x00\x00\x0b\x00\x00\x80\x00\x80\x00\x00\x00",
        b"l\x00\x0b\x00\x00\x00\xff\xff\xff\xff\x00\x00",
    ],
)
def test_a_packet_that_says_it_is_too_long_is_refused_by_its_head(head: bytes) -> None:
    reader = SetupReader()
    reader.receive(head[:-1])
    with pytest.raises(RemoteProtocolError, match=f"longer than {MAX_SETUP}"):
        reader.receive(head[-1:])


def test_the_longest_packet_is_taken_and_a_longer_one_is_not_written() -> None:
    longest = Setup(True, auth_name=b"A" * 4, auth_data=b"x" * (MAX_SETUP - 16))
    data = encode_setup(longest)
    assert len(data) == MAX_SETUP
    reader = SetupReader()
    reader.receive(data)
    assert reader.setup == longest
    with pytest.raises(LocalProtocolError):
        encode_setup(Setup(True, auth_name=b"A" * 5, auth_data=b"x" * (MAX_SETUP - 16)))


def test_no_repr_shows_a_cookie() -> None:
    entry = AuthorityEntry(FAMILY_LOCAL, b"desk", b"0", MIT_MAGIC_COOKIE, b"hunter2")
    setup = Setup(True, auth_name=MIT_MAGIC_COOKIE, auth_data=b"hunter2")
    assert "hunter2" not in repr(entry) + repr(setup)


@pytest.mark.parametrize(
    ("big_endian", "data"),
    [
        (True, b"\x00\x03\x00\x0b\x00\x00\x00\x01no!\x00"),
        (False, b"\x00\x03\x0b\x00\x00\x00\x01\x00no!\x00"),
    ],
)
def test_a_refusal_is_written_in_the_clients_byte_order(big_endian: bool, data: bytes) -> None:
    assert encode_failed(big_endian, "no!") == data


def test_a_long_reason_is_cut_to_what_its_length_byte_can_say() -> None:
    data = encode_failed(True, "\u20ac" + "x" * 400)
    assert data[1] == 255
    assert data[8:10] == b"?x"
    assert len(data) == 8 + 256 == 8 + 4 * int.from_bytes(data[6:8], "big")


ENTRY = (
    b"\x01\x00" b"\x00\x04desk" b"\x00\x0210" b"\x00\x12MIT-MAGIC-COOKIE-1" b"\x00\x10" + COOKIE
)  # fmt: skip


def test_an_authority_file_reads_and_writes_byte_for_byte() -> None:
    entries = parse_authority(ENTRY + ENTRY)
    assert entries == (AuthorityEntry(256, b"desk", b"10", MIT_MAGIC_COOKIE, COOKIE),) * 2
    assert encode_authority(entries) == ENTRY + ENTRY
    assert parse_authority(b"") == ()


@pytest.mark.parametrize("size", range(1, len(ENTRY)))
def test_a_cut_authority_file_is_damaged(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_authority(ENTRY[:size])


@pytest.mark.parametrize(
    ("family", "address", "number", "fits"),
    [
        (FAMILY_LOCAL, b"desk", b"3", True),
        (FAMILY_LOCAL, b"desk", b"", True),
        (FAMILY_WILD, b"", b"", True),
        (FAMILY_WILD, b"other", b"3", True),
        (FAMILY_LOCAL, b"desk", b"30", False),
        (FAMILY_LOCAL, b"other", b"3", False),
        (FAMILY_INTERNET, b"desk", b"3", False),
        (FAMILY_WILD, b"", b"4", False),
    ],
)
def test_an_entry_is_for_one_display_or_for_all(
    family: int, address: bytes, number: bytes, fits: bool
) -> None:
    entry = AuthorityEntry(family, address, number, MIT_MAGIC_COOKIE, COOKIE)
    assert entry.is_for(FAMILY_LOCAL, b"desk", 3) is fits


fields = st.binary(max_size=40)


@given(
    st.lists(st.builds(AuthorityEntry, st.integers(0, 65535), fields, fields, fields, fields)),
)
def test_authority_entries_that_are_written_read_the_same(entries: list[AuthorityEntry]) -> None:
    assert parse_authority(encode_authority(entries)) == tuple(entries)


u16 = st.integers(0, 65535)


@given(st.builds(Setup, st.booleans(), u16, u16, fields, fields), st.lists(st.integers(0, 999)))
def test_setups_that_are_written_read_the_same_however_they_are_cut(
    setup: Setup, cuts: list[int]
) -> None:
    reader = SetupReader()
    for piece in pieces(encode_setup(setup), cuts):
        reader.receive(piece)
    assert reader.setup == setup


def test_any_input_gives_a_setup_or_a_protocol_error() -> None:
    for case in damaged([BIG, LITTLE, BARE]):
        whole, halves = SetupReader(), SetupReader()
        taken = refused = 0
        try:
            taken = whole.receive(case)
        except RemoteProtocolError:
            refused = 1
        half = len(case) // 2
        try:
            taken -= halves.receive(case[:half]) + halves.receive(case[half:])
        except RemoteProtocolError:
            refused -= 1
        assert (refused, whole.setup) == (0, halves.setup)
        assert taken == 0


def test_any_authority_file_gives_entries_or_a_protocol_error() -> None:
    for case in damaged([ENTRY, ENTRY * 3], seed=2):
        try:
            entries = parse_authority(case)
        except RemoteProtocolError:
            continue
        assert encode_authority(entries) == case
