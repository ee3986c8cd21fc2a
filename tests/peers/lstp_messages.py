"""The LSTP message table, read strictly: what any message must look like on its own.

Written from the protocol description alone and sharing nothing with the
package under test: a second opinion on the wire. Standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

HEADER = struct.Struct(">IBBHI")
MAX_DATA = 262_144
MAX_STRUCTURED = 16_384
MAX_WINDOW = 16 * 1024 * 1024
MAX_EARLY = 16_384
"""Plain bytes that an opener sends before SERVICE_BEGIN_ACK, at most."""
COMPRESSED = 1
LAST = 2

# fmt: off
CODES = frozenset((
    "refused", "unreachable", "timed-out", "not-allowed", "no-such-host", "no-such-service",
    "limit", "reset", "shutdown", "protocol", "setup-mismatch", "role-conflict", "internal",
))
# fmt: on
END_ROLES = frozenset({"client-end", "server-end", "both"})

Json = dict[str, object]


class PeerViolation(Exception):
    """The other side broke the protocol description; the text says how."""


class Type(IntEnum):
    """Message types by number."""

    COMMON_UNIQUE_INFO = 1
    TOPOLOGY_EXCHANGE = 2
    PROPERTY_EXCHANGE = 3
    CONNECTION_REQUEST = 4
    CONNECTION_ACK = 5
    CONNECTION_NACK = 6
    SERVICE_BEGIN_REQUEST = 7
    SERVICE_BEGIN_ACK = 8
    SERVICE_BEGIN_NACK = 9
    SERVICE_DATA = 10
    SERVICE_DATA_PAUSE = 11
    SERVICE_DATA_RESUME = 12
    SERVICE_FREE_REQUEST = 13
    SERVICE_FREE_ACK = 14
    SHUTDOWN = 15
    ERROR = 16


RAW = frozenset({Type.SERVICE_DATA, Type.SERVICE_DATA_RESUME})
EMPTY = frozenset({Type.SERVICE_DATA_PAUSE, Type.SERVICE_FREE_ACK})
ON_TUNNEL = frozenset(
    {Type.COMMON_UNIQUE_INFO, Type.TOPOLOGY_EXCHANGE, Type.PROPERTY_EXCHANGE, Type.SHUTDOWN}
)


@dataclass
class Message:
    """One message that passed the checks; ``fields`` is empty for raw bodies."""

    type: Type
    flags: int
    channel: int
    body: bytes
    fields: Json = field(default_factory=dict)


def require(condition: bool, text: str) -> None:
    """Raise `PeerViolation` with ``text`` unless ``condition``."""
    if not condition:
        raise PeerViolation(text)


def encode(kind: int, channel: int = 0, body: bytes | Json | None = None, flags: int = 0) -> bytes:
    """One message, ready to send; nothing is checked, tests send wrong ones too."""
    if isinstance(body, dict):
        body = json.dumps(body, separators=(",", ":")).encode()
    body = body or b""
    return HEADER.pack(len(body), kind, flags, 0, channel) + body


def is_number(value: object) -> bool:
    """True for a JSON number that can be a duration: not a bool, not negative."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def is_count(value: object) -> bool:
    """True for a JSON whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_code(value: object) -> bool:
    return isinstance(value, str) and value in CODES


def is_nonce(value: object) -> bool:
    return isinstance(value, str) and len(value) == 32 and set(value) <= set("0123456789abcdef")


def is_rendezvous(value: object) -> bool:
    """True for 43 characters of base64url, the last of which carries only four bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return (
        isinstance(value, str)
        and len(value) == 43
        and all(letter in alphabet for letter in value)
        and alphabet.index(value[-1]) % 4 == 0
    )


def is_hop(value: object) -> bool:
    return (
        isinstance(value, dict)
        and all(is_text(value.get(name)) for name in ("name", "role", "address"))
        and (value["role"] in END_ROLES or value["role"] == "middle")
        and is_nonce(value.get("nonce"))
    )


def is_service(value: object) -> bool:
    return (
        isinstance(value, dict)
        and is_text(value.get("name"))
        and "ttl" in value
        and (value["ttl"] is None or is_number(value["ttl"]))
        and (value.get("listen") is None or is_count(value["listen"]))
    )


def list_of(check: Callable[[object], bool], most: int) -> Callable[[object], bool]:
    """A check for a list of at most ``most`` items that each pass ``check``."""
    return lambda value: (
        isinstance(value, list) and len(value) <= most and all(check(item) for item in value)
    )


Check = Callable[[object], bool]
_FAILURE: dict[str, Check] = {"code": is_code, "reason": is_text}

# (fields that must be there, fields that may be there)
BODIES: dict[Type, tuple[dict[str, Check], dict[str, Check]]] = {
    Type.COMMON_UNIQUE_INFO: (
        {
            "version": lambda value: is_count(value) and value == 1,
            "common": is_rendezvous,
            "unique": lambda value: isinstance(value, str) and bool(value),
            "role": lambda value: value in END_ROLES,
        },
        {},
    ),
    # Two ends and at most 8 middles: "more than 8 hops" is an error of the middle's.
    Type.TOPOLOGY_EXCHANGE: ({"hops": list_of(is_hop, 10)}, {"admission": is_text}),
    Type.PROPERTY_EXCHANGE: (
        {},
        {
            "software": is_text,
            "compression": list_of(is_text, 64),
            "max_channels": is_count,
            "window": is_count,
            "services": list_of(is_service, 128),
            "keepalive": lambda value: is_number(value) and value != 0,
        },
    ),
    Type.CONNECTION_REQUEST: (
        {},
        {
            "resource": lambda value: value in ("channel", "connection"),
            "destination": is_text,
            "service": is_text,
            "join": is_rendezvous,
            "listener": is_count,
            "from": is_text,
        },
    ),
    Type.CONNECTION_ACK: ({}, {}),
    Type.CONNECTION_NACK: (_FAILURE, {}),
    Type.SERVICE_BEGIN_REQUEST: ({}, {}),
    Type.SERVICE_BEGIN_ACK: ({"bound": is_text}, {}),
    Type.SERVICE_BEGIN_NACK: (_FAILURE, {}),
    Type.SERVICE_FREE_REQUEST: ({}, _FAILURE),
    Type.SHUTDOWN: ({"grace": is_number, "reason": is_text}, {}),
    Type.ERROR: (_FAILURE, {"fatal": lambda value: isinstance(value, bool)}),
}


def read_header(header: bytes) -> tuple[int, Type, int, int]:
    """(length, type, flags, channel) of a checked 12-byte header."""
    length, kind, flags, reserved, channel = HEADER.unpack(header)
    require(kind in Type.__members__.values(), f"message of unknown type {kind}")
    kind = Type(kind)
    most = MAX_DATA if kind is Type.SERVICE_DATA else MAX_STRUCTURED
    require(length <= most, f"{kind.name} of {length} bytes, at most {most} are allowed")
    require(reserved == 0, f"{kind.name} with reserved bytes {reserved:#x}")
    allowed = COMPRESSED | LAST if kind is Type.SERVICE_DATA else 0
    require(flags & ~allowed == 0, f"{kind.name} with flags {flags:#x}")
    if kind in ON_TUNNEL:
        require(channel == 0, f"{kind.name} on channel {channel}, it belongs on 0")
    elif kind is not Type.ERROR:
        require(channel != 0, f"{kind.name} on channel 0")
    return length, kind, flags, channel


def read_message(kind: Type, flags: int, channel: int, body: bytes) -> Message:
    """The message with its body decoded and every field checked."""
    message = Message(kind, flags, channel, body)
    if kind is Type.SERVICE_DATA_RESUME:
        require(len(body) == 16, f"SERVICE_DATA_RESUME of {len(body)} bytes, 16 expected")
    if kind in EMPTY:
        require(not body, f"{kind.name} with a body of {len(body)} bytes")
    if kind in RAW or kind in EMPTY:
        return message
    message.fields = read_object(kind, body)
    required, optional = BODIES[kind]
    for name, check in required.items():
        require(name in message.fields, f"{kind.name} without {name!r}")
        require(check(message.fields[name]), f"{kind.name} with {name} = {message.fields[name]!r}")
    for name, check in optional.items():
        if name in message.fields:
            require(
                check(message.fields[name]), f"{kind.name} with {name} = {message.fields[name]!r}"
            )
    if kind is Type.CONNECTION_REQUEST:
        _check_request(message.fields)
    if kind is Type.SERVICE_FREE_REQUEST and message.fields:
        require(
            {"code", "reason"} <= message.fields.keys(),
            f"SERVICE_FREE_REQUEST that aborts needs code and reason, not {message.fields!r}",
        )
    return message


def read_object(kind: Type, body: bytes) -> Json:
    """The JSON object in ``body``; no bytes at all read as ``{}``."""
    if not body:
        return {}
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:
        raise PeerViolation(f"{kind.name} whose body is not UTF-8 JSON: {error}") from None
    if not isinstance(found, dict):
        raise PeerViolation(f"{kind.name} whose body is not a JSON object")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _check_request(fields: Json) -> None:
    if fields.get("resource", "channel") == "connection":
        require("join" in fields, "CONNECTION_REQUEST for a connection without 'join'")
        return
    if "listener" in fields:
        require("from" in fields, "CONNECTION_REQUEST with 'listener' but without 'from'")
        return
    named = ("destination" in fields) + ("service" in fields)
    require(named == 1, f"CONNECTION_REQUEST names {named} of destination and service, not one")
