"""The digest of a hello is the same however it is cut, and nothing else has one (S15, X24)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.fuzzing import pieces
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.tls_hellos import (
    CLIENT_HELLO,
    MAX_HELLO,
    MAX_RECORDS,
    SERVER_HELLO,
    HelloDigest,
)


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def record(content: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 3]) + len(content).to_bytes(2, "big") + content


@given(st.binary(max_size=300), st.integers(5, 200), st.integers(0, 1000))
def test_the_digest_is_of_the_message_however_it_is_cut(body: bytes, size: int, cut: int) -> None:
    hello = message(CLIENT_HELLO, body)
    records = [record(hello[at : at + size]) for at in range(0, len(hello), size)]
    digest = HelloDigest(CLIENT_HELLO)
    found = None
    for piece in pieces(b"".join(records) + b"what follows", cut):
        found = digest.feed(piece)
        if found is not None:
            break
    assert found == hashlib.sha256(hello).hexdigest()


def test_what_follows_in_the_same_record_is_not_part_of_it() -> None:
    hello = message(SERVER_HELLO, b"answer")
    data = record(hello + message(8, b"extensions")) + record(b"more", 23)
    assert HelloDigest(SERVER_HELLO).feed(data) == hashlib.sha256(hello).hexdigest()


@pytest.mark.parametrize(
    "data",
    [
        record(b"\x02\x28", 21),
        record(message(SERVER_HELLO, b"answer")),
        record(b""),
        b"HTTP/1.1 400 Bad Request\r\n",
        record(bytes([CLIENT_HELLO]) + (MAX_HELLO + 1).to_bytes(3, "big")),
        b"".join(record(piece) for piece in [message(CLIENT_HELLO, bytes(100))[:4]])
        + record(b"x") * MAX_RECORDS,
    ],
)
def test_nothing_else_has_one(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        HelloDigest(CLIENT_HELLO).feed(data)
