"""What each field of each LSTP message may be, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.lstp import (
    MAX_BODY,
    MAX_DATA,
    MAX_REASON,
    MAX_WINDOW,
    ConnectionRequest,
    Error,
    MessageType,
    PropertyExchange,
    Service,
    ServiceData,
    ServiceDataResume,
    ServiceFreeRequest,
    Shutdown,
    TopologyExchange,
    decode,
    encode,
)
from tunnelkit.wire.lstp_messages import Hop

COMMON = "A" * 43
AUDIT = {"chain": "0a" * 16, "seq": 1, "hash": "0a" * 32}
HOP = {"name": "a", "role": "both", "address": "", "nonce": "0" * 32}
TOO_LONG = "x" * 1025

NOT_TEXT: list[Any] = [None, 1, True, [], {}, "\ud800"]
NOT_NAMES = [*NOT_TEXT, "", "x" * 256, "a\nb", "\x00"]
NOT_INTEGERS: list[Any] = [None, "1", True, 1.0, [], {}, -1]
NOT_SECONDS: list[Any] = [None, "1", True, [], {}, -1, -0.5, 1e30]
NOT_COMMON = [*NOT_TEXT, "", "A" * 42, "A" * 44, "A" * 42 + "=", "A" * 42 + "+", "A" * 43 + "\n"]
NOT_CODES = [*NOT_TEXT, "", "x" * 65]
NOT_REASONS = [*NOT_TEXT, TOO_LONG]

VALID: dict[MessageType, dict[str, Any]] = {
    MessageType.COMMON_UNIQUE_INFO: {
        "version": 1,
        "common": COMMON,
        "unique": "alice",
        "role": "both",
    },
    MessageType.TOPOLOGY_EXCHANGE: {"hops": [HOP], "admission": "token"},
    MessageType.PROPERTY_EXCHANGE: {
        "software": "x",
        "compression": ["zlib"],
        "max_channels": 1,
        "window": 1,
        "services": [{"name": "s", "ttl": 1.5, "listen": 80}],
        "keepalive": 0.5,
        "audit": AUDIT,
    },
    MessageType.CONNECTION_REQUEST: {"resource": "channel", "destination": "tcp:a:1"},
    MessageType.CONNECTION_NACK: {"code": "limit", "reason": "full"},
    MessageType.SERVICE_BEGIN_ACK: {"bound": "tcp:127.0.0.1:1"},
    MessageType.SERVICE_BEGIN_NACK: {"code": "limit", "reason": "full"},
    MessageType.SERVICE_FREE_REQUEST: {"code": "reset", "reason": "gone"},
    MessageType.SHUTDOWN: {"grace": 1.5, "reason": "bye"},
    MessageType.ERROR: {"code": "limit", "reason": "full", "fatal": True},
}

BAD: dict[tuple[MessageType, str], list[Any]] = {
    (MessageType.COMMON_UNIQUE_INFO, "version"): [*NOT_INTEGERS, 0, 2],
    (MessageType.COMMON_UNIQUE_INFO, "common"): NOT_COMMON,
    (MessageType.COMMON_UNIQUE_INFO, "unique"): NOT_NAMES,
    (MessageType.COMMON_UNIQUE_INFO, "role"): [*NOT_TEXT, "", "middle", "Both"],
    (MessageType.TOPOLOGY_EXCHANGE, "hops"): [None, "", 1, {}, [], [1], [[]], [None], [HOP] * 33],
    (MessageType.TOPOLOGY_EXCHANGE, "admission"): [*NOT_TEXT, TOO_LONG],
    (MessageType.PROPERTY_EXCHANGE, "software"): [*NOT_TEXT, "x" * 256],
    (MessageType.PROPERTY_EXCHANGE, "compression"): [None, "", 1, {}, [1], [""], ["x" * 33],
        ["a"] * 17],
    (MessageType.PROPERTY_EXCHANGE, "max_channels"): [*NOT_INTEGERS, 2**32],
    (MessageType.PROPERTY_EXCHANGE, "window"): [*NOT_INTEGERS, MAX_WINDOW + 1],
    (MessageType.PROPERTY_EXCHANGE, "services"): [None, "", {}, [1], [{}], [{"name": "s"}] * 2,
        [{"name": str(number)} for number in range(129)]],
    (MessageType.PROPERTY_EXCHANGE, "keepalive"): [*NOT_SECONDS, 0, 86401],
    (MessageType.PROPERTY_EXCHANGE, "audit"): [None, "", 1, {}, [],
        {**AUDIT, "chain": "A" * 32}, {**AUDIT, "chain": "a" * 31}, {**AUDIT, "seq": 0},
        {**AUDIT, "seq": 2**53}, {**AUDIT, "hash": "a" * 65}, {"chain": "a" * 32, "seq": 1}],
    (MessageType.CONNECTION_REQUEST, "resource"): [*NOT_TEXT, "", "channels"],
    (MessageType.CONNECTION_REQUEST, "destination"): [*NOT_TEXT, "", TOO_LONG],
    (MessageType.CONNECTION_REQUEST, "from"): [*NOT_TEXT, TOO_LONG],
    (MessageType.CONNECTION_NACK, "code"): NOT_CODES,
    (MessageType.CONNECTION_NACK, "reason"): NOT_REASONS,
    (MessageType.SERVICE_BEGIN_ACK, "bound"): [*NOT_TEXT, TOO_LONG],
    (MessageType.SERVICE_BEGIN_NACK, "code"): NOT_CODES,
    (MessageType.SERVICE_BEGIN_NACK, "reason"): NOT_REASONS,
    (MessageType.SERVICE_FREE_REQUEST, "code"): NOT_CODES,
    (MessageType.SERVICE_FREE_REQUEST, "reason"): NOT_REASONS,
    (MessageType.SHUTDOWN, "grace"): NOT_SECONDS,
    (MessageType.SHUTDOWN, "reason"): NOT_REASONS,
    (MessageType.ERROR, "code"): NOT_CODES,
    (MessageType.ERROR, "reason"): NOT_REASONS,
    (MessageType.ERROR, "fatal"): [None, 1, "true", [], {}],
}  # fmt: skip


def refuse(kind: MessageType, fields: object, *words: str) -> None:
    """The message must be refused with a text that has its name and these words."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode(kind, 0, json.dumps(fields).encode())
    assert caught.value.code is Code.PROTOCOL
    for word in (kind.name, *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", VALID)
def test_the_valid_message_that_the_bad_ones_are_made_of_is_accepted(kind: MessageType) -> None:
    decode(kind, 0, json.dumps(VALID[kind]).encode())


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(kind, field, value) for (kind, field), values in BAD.items() for value in values],
)
def test_a_bad_value_is_refused_with_the_fields_name(
    kind: MessageType, field: str, value: object
) -> None:
    refuse(kind, {**VALID[kind], field: value}, field)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", NOT_NAMES),
        ("role", [*NOT_TEXT, "", "end"]),
        ("address", [*NOT_TEXT, "x" * 256]),
        ("nonce", [*NOT_TEXT, "", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "\u0660" * 32]),
    ],
)
def test_a_bad_value_in_a_hop_is_refused_with_its_place(field: str, values: list[Any]) -> None:
    for value in values:
        refuse(MessageType.TOPOLOGY_EXCHANGE, {"hops": [HOP, {**HOP, field: value}]}, "hops[1]",
            field)  # fmt: skip


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", NOT_NAMES),
        ("ttl", ["1", True, [], {}, -1, 1e30]),
        ("listen", ["1", True, 1.0, [], {}, 0, 65536]),
    ],
)
def test_a_bad_value_in_a_service_is_refused_with_its_place(field: str, values: list[Any]) -> None:
    for value in values:
        refuse(MessageType.PROPERTY_EXCHANGE, {"services": [{"name": "s", field: value}]},
            "services[0]", field)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (MessageType.COMMON_UNIQUE_INFO, "version"),
        (MessageType.COMMON_UNIQUE_INFO, "common"),
        (MessageType.COMMON_UNIQUE_INFO, "unique"),
        (MessageType.COMMON_UNIQUE_INFO, "role"),
        (MessageType.TOPOLOGY_EXCHANGE, "hops"),
        (MessageType.CONNECTION_NACK, "code"),
        (MessageType.SERVICE_BEGIN_NACK, "code"),
        (MessageType.ERROR, "code"),
    ],
)
def test_a_required_field_must_be_there(kind: MessageType, field: str) -> None:
    fields = {name: value for name, value in VALID[kind].items() if name != field}
    refuse(kind, fields, field, "absent")
    with pytest.raises(RemoteProtocolError):
        decode(kind, 0, b"")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"resource": "channel"},
        {"destination": "tcp:a:1", "service": "s"},
        {"destination": "tcp:a:1", "listener": 1},
        {"resource": "connection", "join": "short"},
        {"resource": "connection"},
        {"service": ""},
        {"listener": 0},
        {"listener": True},
    ],
)
def test_a_connection_request_asks_for_exactly_one_thing(fields: dict[str, Any]) -> None:
    refuse(MessageType.CONNECTION_REQUEST, fields)


@pytest.mark.parametrize("kind", [k for k in MessageType if k not in (10, 12)])
@pytest.mark.parametrize(
    "body",
    [b"[]", b"1", b'"x"', b"null", b"true", b"{", b"{}x", b"\xff", b"{,}", b"\xef\xbb\xbf{}",
     b'{"a":1,"a":1}', b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":' + b"9" * 21 + b"}",
     b'{"a":' + b"[" * 16 + b"]" * 16 + b"}", b"[" * 16384, b'{"a":' * 3000, b"\x00" * 9],
)  # fmt: skip
def test_a_structured_body_must_be_one_sound_json_object(kind: MessageType, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=kind.name):
        decode(kind, 0, body)


@pytest.mark.parametrize("kind", [k for k in MessageType if k not in (10, 12)])
def test_unknown_fields_are_ignored(kind: MessageType) -> None:
    fields = {**VALID.get(kind, {}), "x-later": [{"a": [1, None, 1e400]}], "": 0}
    body = json.dumps(fields).replace("Infinity", "1e400").encode()
    plain = json.dumps(VALID.get(kind, {})).encode()
    assert decode(kind, 0, body) == decode(kind, 0, plain)


@pytest.mark.parametrize("kind", [3, 5, 7, 8, 11, 13, 14, 15])
def test_an_empty_body_reads_as_an_empty_object(kind: int) -> None:
    assert decode(kind, 0, b"") == decode(kind, 0, b"{}")


def test_absent_fields_have_their_defaults() -> None:
    assert decode(MessageType.PROPERTY_EXCHANGE, 0, b"{}") == PropertyExchange(
        None, None, None, None, None, None
    )
    assert decode(MessageType.SHUTDOWN, 0, b"{}") == Shutdown(0, "")
    assert decode(MessageType.ERROR, 0, b'{"code":"reset"}') == Error(Code.RESET, "", False)
    assert decode(MessageType.PROPERTY_EXCHANGE, 0, b'{"services":[{"name":"s"}]}') == (
        PropertyExchange(services=(Service("s", None, None),))
    )


@pytest.mark.parametrize("kind", [6, 9, 13, 16])
def test_an_unknown_code_reads_as_internal(kind: int) -> None:
    message = decode(kind, 0, b'{"code":"on-fire"}')
    assert getattr(message, "code") is Code.INTERNAL  # noqa: B009 - a union of classes


def test_a_free_request_without_code_is_orderly_whatever_its_reason() -> None:
    assert decode(13, 0, b'{"reason":"done"}') == ServiceFreeRequest()


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_resume_is_16_bytes(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=r"SERVICE_DATA_RESUME.*16 bytes"):
        decode(12, 0, bytes(size))


@pytest.mark.parametrize(
    ("taken", "limit"), [(1, 0), (0, MAX_WINDOW + 1), (2**64 - 1, 0), (0, 2**64 - 1)]
)
def test_the_limit_is_at_most_16_mib_ahead_and_never_behind(taken: int, limit: int) -> None:
    body = taken.to_bytes(8, "big") + limit.to_bytes(8, "big")
    with pytest.raises(RemoteProtocolError, match="limit"):
        decode(12, 0, body)


@pytest.mark.parametrize(("taken", "limit"), [(0, 0), (7, 7 + MAX_WINDOW), (2**64 - 1, 2**64 - 1)])
def test_the_edges_of_resume_are_accepted(taken: int, limit: int) -> None:
    message = ServiceDataResume(taken, limit)
    assert decode(12, 0, message.body()) == message


@pytest.mark.parametrize("flags", range(8))
def test_unknown_flags_are_ignored(flags: int) -> None:
    assert decode(10, flags, b"x") == ServiceData(b"x", bool(flags & 1), bool(flags & 2))
    assert decode(5, flags, b"") == decode(5, 0, b"")


def test_a_long_reason_of_our_own_is_cut_to_what_a_peer_accepts() -> None:
    message = Error(Code.INTERNAL, "x" * 5000)
    assert len(message.reason) == MAX_REASON
    assert decode(16, 0, message.body()) == message


def test_a_body_over_its_limit_is_not_sent() -> None:
    encode(ServiceData(bytes(MAX_DATA)))
    with pytest.raises(LocalProtocolError):
        encode(ServiceData(bytes(MAX_DATA + 1)))
    with pytest.raises(LocalProtocolError):
        encode(ConnectionRequest(destination="x" * MAX_BODY))


def test_the_admission_token_is_not_shown() -> None:
    message = TopologyExchange((Hop("a", "both", "", "0" * 32),), "sesame")
    assert "sesame" not in repr(message)
