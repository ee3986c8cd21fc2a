"""CoAP messages against written bytes, any message, and damaged ones (RFC 7252; row W2, R8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import CASES, damaged
from tests.wire.wtls_vectors import VECTORS
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.coap import (
    Code,
    Message,
    Option,
    Type,
    decode,
    dotted,
    empty,
    encode,
    in_order,
    is_request,
    is_response,
    rejected,
)
from tunnelkit.wire.coap_options import (
    Block,
    Number,
    block_in,
    number_in,
    text_of,
    to_int,
    uint,
    unacceptable,
)

pytestmark = pytest.mark.timeout(120 + CASES // 200)

REQUEST = Message(
    Type.CON,
    Code.GET,
    0x8109,
    b"\x01",
    (Option(16, b"\x10"), Option(35, b"https://bank.example/x")),
)
COME_AGAIN = Message(
    Type.ACK,
    Code.SERVICE_UNAVAILABLE,
    0x8109,
    b"\x01",
    (Option(12, b""), Option(14, b"")),
    b"end-to-end security is required: connect again",
)
BLOCK = Message(
    Type.ACK,
    Code.CONTENT,
    0x8110,
    b"\x02",
    (Option(12, b""), Block(3, True, 512).option(Number.BLOCK2)),
    b"page",
)
WRITTEN = {"request": REQUEST, "come-again": COME_AGAIN, "block": BLOCK}


@pytest.mark.parametrize("name", WRITTEN)
def test_messages_are_the_bytes_of_the_document(name: str) -> None:
    assert encode(WRITTEN[name]) == VECTORS[name]
    assert decode(VECTORS[name]) == WRITTEN[name]


options = st.lists(
    st.builds(Option, st.integers(0, 2048), st.binary(max_size=300)), max_size=12
).map(in_order)
messages = st.builds(
    Message,
    st.sampled_from(Type),
    st.integers(1, 255),
    st.integers(0, 0xFFFF),
    st.binary(max_size=8),
    options,
    st.binary(max_size=40),
)


@given(messages)
def test_any_message_survives(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "expected"),
        ("40", "expected"),
        ("8001 0001", "version 2"),
        ("4901 0001 000000000000000000", "a token of 9 bytes"),
        ("4201 0001 00", "expected"),
        ("4100 0001 00", "follows an empty"),
        ("4001 0001 ff", "payload is missing"),
        ("4001 0001 f0", "reserved option"),
        ("4001 0001 0f", "reserved option"),
        ("4001 0001 e0ffff", "option 65804"),
        ("4001 0001 05 00", "expected"),
        ("4001 0001" + "00" * 65, "more than 64"),
    ],
)
def test_what_is_no_message_is_refused(data: str, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        decode(bytes.fromhex(data))


def test_damaged_messages_are_read_or_refused() -> None:
    read = 0
    for data in damaged([VECTORS[name] for name in WRITTEN], seed=3):
        try:
            message = decode(data)
            unacceptable(message)
            block_in(message, Number.BLOCK2)
        except RemoteProtocolError:
            continue
        read += 1
        assert decode(encode(message)) == message
    assert read > CASES // 20


def test_what_cannot_be_written_is_a_mistake_here() -> None:
    with pytest.raises(LocalProtocolError, match="a token of 9"):
        encode(Message(Type.CON, 1, 1, bytes(9)))
    with pytest.raises(LocalProtocolError, match="in the order"):
        encode(Message(Type.CON, 1, 1, b"", (Option(2, b""), Option(1, b""))))
    with pytest.raises(LocalProtocolError, match="too much"):
        encode(Message(Type.CON, 1, 1, b"", (Option(1, bytes(70_000)),)))
    with pytest.raises(LocalProtocolError, match="no block"):
        Block(1 << 20, False, 16).option(Number.BLOCK1)
    with pytest.raises(LocalProtocolError, match="unsigned"):
        uint(-1)


def test_only_confirmable_rubbish_is_answered_with_a_reset() -> None:
    assert rejected(bytes.fromhex("4f01 1234")) == empty(Type.RST, 0x1234)
    assert rejected(bytes.fromhex("5f01 1234")) is None
    assert rejected(b"\x40") is None


def test_codes_read_as_people_write_them() -> None:
    assert dotted(Code.SERVICE_UNAVAILABLE) == "5.03"
    assert dotted(Code.CONTINUE) == "2.31"
    assert is_request(Code.DELETE)
    assert not is_request(Code.EMPTY)
    assert not is_request(Code.CONTENT)
    assert next(code for code in Code if is_response(code)) is Code.CREATED


@given(st.integers(0, 1 << 32))
def test_numbers_survive_without_leading_zeros(value: int) -> None:
    assert to_int(uint(value)) == value
    assert not uint(value).startswith(b"\0")


@given(st.integers(0, (1 << 20) - 1), st.booleans(), st.sampled_from([16, 64, 512, 1024]))
def test_blocks_survive(number: int, more: bool, size: int) -> None:
    block = Block(number, more, size)
    message = Message(Type.CON, 1, 1, b"", (block.option(Number.BLOCK2),))
    assert block_in(message, Number.BLOCK2) == block
    assert block.offset == number * size


def with_option(number: int, *values: bytes) -> Message:
    return Message(Type.CON, 1, 1, b"", tuple(Option(number, value) for value in values))


def test_critical_options_that_cannot_be_understood_are_found() -> None:
    assert unacceptable(REQUEST) is None
    assert unacceptable(with_option(9, b"")) == 9
    assert unacceptable(with_option(10, b"")) is None
    assert unacceptable(with_option(Number.ACCEPT, b"123")) == Number.ACCEPT
    assert unacceptable(with_option(Number.MAX_AGE, b"12345")) is None
    assert unacceptable(with_option(Number.PROXY_URI, bytes(1034))) is None
    assert unacceptable(with_option(Number.PROXY_URI, bytes(1035))) == Number.PROXY_URI
    assert unacceptable(with_option(Number.URI_PATH, b"a", b"b")) is None
    assert unacceptable(with_option(Number.URI_HOST, b"a", b"b")) == Number.URI_HOST


def test_an_option_that_is_missing_is_none() -> None:
    assert number_in(REQUEST, Number.ACCEPT) is None
    assert block_in(REQUEST, Number.BLOCK1) is None
    assert REQUEST.values(Number.URI_PATH) == ()
    with pytest.raises(RemoteProtocolError, match="reserved size"):
        block_in(with_option(Number.BLOCK1, b"\x07"), Number.BLOCK1)
    with pytest.raises(RemoteProtocolError, match="UTF-8"):
        text_of(b"\xff")
