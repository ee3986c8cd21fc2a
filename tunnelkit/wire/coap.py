"""CoAP messages as datagrams (RFC 7252, section 3); what the options mean is in `coap_options`.

::

    0                   1                   2                   3
    |Ver| T |  TKL  |      Code     |          Message ID           |
    |   Token (TKL bytes) ... Options ... 0xFF, payload ...         |
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Writer

MAX_TOKEN = 8
MAX_OPTIONS = 64
"""Options of one message; more are an error here."""

_VERSION = 1
_HEADER = 4
_PAYLOAD_MARKER = 0xFF
_WHAT = "CoAP message"
# Deltas and lengths of an option: 13 stands for one byte more, 14 for two, 15 for nothing.
_ONE_MORE, _TWO_MORE, _RESERVED = 13, 14, 15
_ONE_MORE_BASE, _TWO_MORE_BASE = 13, 269


class Type(IntEnum):
    """How a message wants to be answered."""

    CON = 0
    """Confirmable: repeated until it is acknowledged."""
    NON = 1
    ACK = 2
    RST = 3


class Code(IntEnum):
    """Requests (RFC 7252, 12.1.1) and responses (12.1.2, RFC 7959, RFC 8132, RFC 8768)."""

    EMPTY = 0
    GET = 1
    POST = 2
    PUT = 3
    DELETE = 4
    CREATED = 0x41
    DELETED = 0x42
    VALID = 0x43
    CHANGED = 0x44
    CONTENT = 0x45
    CONTINUE = 0x5F
    BAD_REQUEST = 0x80
    UNAUTHORIZED = 0x81
    BAD_OPTION = 0x82
    FORBIDDEN = 0x83
    NOT_FOUND = 0x84
    METHOD_NOT_ALLOWED = 0x85
    NOT_ACCEPTABLE = 0x86
    REQUEST_ENTITY_INCOMPLETE = 0x88
    PRECONDITION_FAILED = 0x8C
    REQUEST_ENTITY_TOO_LARGE = 0x8D
    UNSUPPORTED_CONTENT_FORMAT = 0x8F
    INTERNAL_SERVER_ERROR = 0xA0
    NOT_IMPLEMENTED = 0xA1
    BAD_GATEWAY = 0xA2
    SERVICE_UNAVAILABLE = 0xA3
    GATEWAY_TIMEOUT = 0xA4
    PROXYING_NOT_SUPPORTED = 0xA5
    HOP_LIMIT_REACHED = 0xA8


def dotted(code: int) -> str:
    """A code as people write it, e.g. ``5.03``."""
    return f"{code >> 5}.{code & 0x1F:02}"


def is_request(code: int) -> bool:
    """Whether ``code`` is a method, known here or not."""
    return 0 < code < 32


def is_response(code: int) -> bool:
    """Whether ``code`` is of class 2, 4 or 5."""
    return code >> 5 in (2, 4, 5)


class Option(NamedTuple):
    """One option."""

    number: int
    """0 to 65,535."""
    value: bytes


@attrs.frozen
class Message:
    """One datagram."""

    type: Type
    code: int
    """A `Code`, or one that is not known here: 0 to 255."""
    message_id: int
    """16 bits; pairs acknowledgements with messages, and tells duplicates."""
    token: bytes = b""
    """0 to 8 bytes; pairs responses with requests."""
    options: tuple[Option, ...] = ()
    """By rising number; several of one number in their order."""
    payload: bytes = b""

    def values(self, number: int) -> tuple[bytes, ...]:
        """Every value of an option."""
        return tuple(option.value for option in self.options if option.number == number)

    def value(self, number: int) -> bytes | None:
        """The first value of an option; None if it is not there."""
        return next((option.value for option in self.options if option.number == number), None)


def decode(data: bytes | memoryview) -> Message:
    """The message in a datagram; raises `RemoteProtocolError` if it is not one."""
    reader = Reader(data, _WHAT)
    first, code, message_id = reader.u8(), reader.u8(), reader.u16()
    if first >> 6 != _VERSION:
        raise RemoteProtocolError(f"{_WHAT}: version {first >> 6}")
    size = first & 0x0F
    if size > MAX_TOKEN:
        raise RemoteProtocolError(f"{_WHAT}: a token of {size} bytes")
    if code == Code.EMPTY and (size or reader.remaining):
        raise RemoteProtocolError(f"{_WHAT}: something follows an empty message")
    token = reader.take(size)
    options: list[Option] = []
    payload = b""
    number = 0
    while reader.remaining:
        head = reader.u8()
        if head == _PAYLOAD_MARKER:
            payload = reader.rest()
            if not payload:
                raise RemoteProtocolError(f"{_WHAT}: the payload is missing")
            break
        if len(options) >= MAX_OPTIONS:
            raise RemoteProtocolError(f"{_WHAT}: more than {MAX_OPTIONS} options")
        number += _extended(reader, head >> 4)
        if number > 0xFFFF:
            raise RemoteProtocolError(f"{_WHAT}: option {number}")
        options.append(Option(number, reader.take(_extended(reader, head & 0x0F))))
    return Message(Type(first >> 4 & 3), code, message_id, token, tuple(options), payload)


def encode(message: Message) -> bytes:
    """The datagram of a message; raises `LocalProtocolError` for what has no encoding."""
    if len(message.token) > MAX_TOKEN:
        raise LocalProtocolError(f"a token of {len(message.token)} bytes")
    writer = Writer()
    writer.u8(_VERSION << 6 | message.type << 4 | len(message.token))
    writer.u8(message.code).u16(message.message_id).put(message.token)
    number = 0
    for option in message.options:
        if option.number < number:
            raise LocalProtocolError("options are not in the order of their numbers")
        delta, delta_more = _shortened(option.number - number)
        length, length_more = _shortened(len(option.value))
        writer.u8(delta << 4 | length).put(delta_more).put(length_more).put(option.value)
        number = option.number
    if message.payload:
        writer.u8(_PAYLOAD_MARKER).put(message.payload)
    return writer.done()


def in_order(options: Iterable[Option]) -> tuple[Option, ...]:
    """``options`` by rising number, as a message has them."""
    return tuple(sorted(options, key=lambda option: option.number))


def empty(kind: Type, message_id: int) -> Message:
    """An acknowledgement or reset without anything in it."""
    return Message(kind, Code.EMPTY, message_id)


def rejected(data: bytes | memoryview) -> Message | None:
    """The reset with which a confirmable message that is no message is answered (4.2), if any."""
    if len(data) < _HEADER or data[0] >> 4 != _VERSION << 2 | Type.CON:
        return None
    return empty(Type.RST, int.from_bytes(data[2:4], "big"))


def _extended(reader: Reader, nibble: int) -> int:
    if nibble == _ONE_MORE:
        return reader.u8() + _ONE_MORE_BASE
    if nibble == _TWO_MORE:
        return reader.u16() + _TWO_MORE_BASE
    if nibble == _RESERVED:
        raise RemoteProtocolError(f"{_WHAT}: a reserved option header")
    return nibble


def _shortened(value: int) -> tuple[int, bytes]:
    """The nibble for ``value``, and the bytes that follow it."""
    if value < _ONE_MORE_BASE:
        return value, b""
    if value < _TWO_MORE_BASE:
        return _ONE_MORE, bytes([value - _ONE_MORE_BASE])
    if value - _TWO_MORE_BASE > 0xFFFF:
        raise LocalProtocolError(f"{value} is too much for an option")
    return _TWO_MORE, (value - _TWO_MORE_BASE).to_bytes(2, "big")
