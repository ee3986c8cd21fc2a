"""The options of CoAP that a proxy has to understand, and the values in them.

RFC 7252, 5.10; RFC 7959 (blocks); RFC 8768 (Hop-Limit).
"""

from __future__ import annotations

from enum import IntEnum

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.coap import Message, Option

MAX_PROXY_URI = 1034
"""Bytes of a Proxy-Uri (RFC 7252, table 4)."""
MAX_STRING = 255
MAX_ETAG = 8
LARGEST_SIZE = 1024
"""Bytes of the largest block."""


class Number(IntEnum):
    """The options understood here."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    OBSERVE = 6
    URI_PORT = 7
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    HOP_LIMIT = 16
    ACCEPT = 17
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60


_LENGTHS = {
    Number.IF_MATCH: (0, MAX_ETAG),
    Number.URI_HOST: (1, MAX_STRING),
    Number.ETAG: (1, MAX_ETAG),
    Number.IF_NONE_MATCH: (0, 0),
    Number.OBSERVE: (0, 3),
    Number.URI_PORT: (0, 2),
    Number.URI_PATH: (0, MAX_STRING),
    Number.CONTENT_FORMAT: (0, 2),
    Number.MAX_AGE: (0, 4),
    Number.URI_QUERY: (0, MAX_STRING),
    Number.HOP_LIMIT: (1, 1),
    Number.ACCEPT: (0, 2),
    Number.BLOCK2: (0, 3),
    Number.BLOCK1: (0, 3),
    Number.SIZE2: (0, 4),
    Number.PROXY_URI: (1, MAX_PROXY_URI),
    Number.PROXY_SCHEME: (1, MAX_STRING),
    Number.SIZE1: (0, 4),
}
"""Least and most bytes of a value."""
_REPEATABLE = frozenset({Number.IF_MATCH, Number.ETAG, Number.URI_PATH, Number.URI_QUERY})


def uint(value: int) -> bytes:
    """A number as options carry it: big-endian, no leading zeros, 0 is empty."""
    if value < 0:
        raise LocalProtocolError(f"{value} is no unsigned number")
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def to_int(value: bytes) -> int:
    """The number in an option's value."""
    return int.from_bytes(value, "big")


def number_in(message: Message, number: Number) -> int | None:
    """The number in an option of ``message``; None if it is not there."""
    value = message.value(number)
    return None if value is None else to_int(value)


@attrs.frozen
class Block:
    """The value of Block1 or Block2 (RFC 7959, 2.2)."""

    number: int
    """Which block, from 0."""
    more: bool
    """Whether others follow."""
    size: int
    """Bytes of a block: 16, 32, ... 1,024."""

    @property
    def offset(self) -> int:
        """Bytes before this block."""
        return self.number * self.size

    def option(self, number: Number) -> Option:
        """As an option of a message."""
        exponent = self.size.bit_length() - 5
        if not 0 <= self.number < 1 << 20 or self.size != 16 << exponent:
            raise LocalProtocolError(f"there is no block {self.number} of {self.size} bytes")
        return Option(number, uint(self.number << 4 | self.more << 3 | exponent))


def block_in(message: Message, number: Number) -> Block | None:
    """The block option of ``message``; raises `RemoteProtocolError` for size 7, which is none."""
    value = number_in(message, number)
    if value is None:
        return None
    if value & 7 == 7:
        raise RemoteProtocolError("CoAP message: a reserved size of blocks")
    return Block(value >> 4, bool(value & 8), 16 << (value & 7))


def unacceptable(message: Message) -> int | None:
    """The first critical option that cannot be understood (RFC 7252, 5.4.1); None: all can.

    That is one that is not known here, has a length it cannot have, or comes more often than it
    may. Elective ones, with even numbers, are passed over if they are wrong.
    """
    seen: set[int] = set()
    for number, value in message.options:
        if number & 1 and not _fits(number, value, number in seen):
            return number
        seen.add(number)
    return None


def text_of(value: bytes) -> str:
    """The text in an option; raises `RemoteProtocolError` if it is not UTF-8."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError("CoAP message: an option is not UTF-8 text") from None


def _fits(number: int, value: bytes, again: bool) -> bool:
    try:
        known = Number(number)
    except ValueError:
        return False
    least, most = _LENGTHS[known]
    return least <= len(value) <= most and (not again or known in _REPEATABLE)
