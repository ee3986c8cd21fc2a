"""Pairing's messages: as written down, as sent, what each field may be, damaged (Q2, R8)."""

from __future__ import annotations

import json

import pytest

from tests.fuzz import CASES
from tests.wire.fuzzing import cases, pieces
from tests.wire.pairing_samples import MESSAGES, NONCE, PIN, SUITE
from tests.wire.vectors import read_vectors
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import Frame, FrameReader
from tunnelkit.wire.lstp import HEADER, MAX_BODY
from tunnelkit.wire.pairing import (
    MAX_CERTIFICATE,
    MessageType,
    Offer,
    check_header,
    decode,
    encode,
)

VECTORS = read_vectors("pairing.txt")


def frames_of(data: bytes) -> list[Frame]:
    reader = FrameReader(check_header)
    reader.feed(data)
    found = []
    while (frame := reader.next_frame()) is not None:
        found.append(frame)
    return found


def test_there_is_a_vector_for_each_message() -> None:
    assert VECTORS.keys() == MESSAGES.keys()
    assert {data[4] for data in VECTORS.values()} == set(MessageType)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_sent_and_read_as_written_down(name: str) -> None:
    assert encode(MESSAGES[name]).hex() == VECTORS[name].hex()
    (frame,) = frames_of(VECTORS[name])
    assert decode(frame) == MESSAGES[name]


@pytest.mark.parametrize("header", [(MAX_BODY + 1, 1), (0, 0), (0, 6), (0xFFFFFFFF, 255)])
def test_a_bad_header_is_refused_before_its_body_comes(header: tuple[int, int]) -> None:
    reader = FrameReader(check_header)
    reader.feed(HEADER.pack(*header, 0, 0, 0))
    with pytest.raises(RemoteProtocolError):
        reader.next_frame()


GOOD = {
    "version": 1, "suite": SUITE, "nonce": NONCE.hex(), "name": "laptop", "role": "joiner",
    "pin": PIN, "share": bytes(32).hex(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0), ("version", "1"), ("version", 70000),
        ("suite", ""), ("suite", "x" * 65), ("suite", "a\nb"),
        ("nonce", "00" * 15), ("nonce", NONCE.hex().upper() + "AA"), ("nonce", 5),
        ("name", ""), ("name", "a b"), ("name", "-x"), ("name", "x" * 65), ("name", "ä"),
        ("role", "both"), ("role", None),
        ("pin", "sha256:" + "0F" * 32), ("pin", "0f" * 32),
        ("share", "00" * 31), ("share", "00" * 33), ("share", ""),
    ],
)  # fmt: skip
def test_a_field_that_is_not_what_it_must_be_is_named(field: str, value: object) -> None:
    body = json.dumps({**GOOD, field: value}).encode()
    with pytest.raises(RemoteProtocolError, match=f"PAKE: field {field} must be"):
        decode(Frame(MessageType.PAKE, 0, 0, body))


def test_a_certificate_has_its_limit_and_a_channel_is_refused() -> None:
    offer = encode(Offer("office", bytes(MAX_CERTIFICATE)))
    assert decode(frames_of(offer)[0]) == Offer("office", bytes(MAX_CERTIFICATE))
    with pytest.raises(RemoteProtocolError, match="certificate"):
        decode(frames_of(encode(Offer("office", bytes(MAX_CERTIFICATE + 3))))[0])
    with pytest.raises(LocalProtocolError):
        encode(Offer("office", bytes(MAX_BODY)))
    with pytest.raises(RemoteProtocolError, match="channel 0"):
        decode(Frame(MessageType.ACCEPT, 0, 1, b""))


def test_a_rendezvous_secret_is_not_shown() -> None:
    assert bytes(32).hex() not in repr(MESSAGES["offer-inside"])
    assert "rendezvous" not in repr(MESSAGES["offer-inside"])


def test_damaged_messages_are_protocol_errors_whatever_the_cut() -> None:
    for number, data in enumerate(cases(list(VECTORS.values()), CASES // 4)):
        outcomes = []
        for parts in ([data], list(pieces(data, number))):
            reader = FrameReader(check_header)
            seen: list[object] = []
            try:
                for part in parts:
                    reader.feed(part)
                    while (frame := reader.next_frame()) is not None:
                        seen.append(decode(frame))
            except RemoteProtocolError as error:
                seen.append(str(error))
            outcomes.append(seen)
        assert outcomes[0] == outcomes[1]
