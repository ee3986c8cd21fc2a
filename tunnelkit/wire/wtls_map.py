"""What the operator's proxy and the domain proxy say to each other beside a device's DTLS (W5, W7).

All of them are 38 bytes, so an answer is never longer than its question::

    54 4B | VERSION 1 | TYPE 1 | TOKEN 16 | TTL 2 | the first 16 bytes of
    HMAC-SHA256(map key, all before)

The first byte is not one with which a DTLS datagram begins (RFC 7983).
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Writer

MAGIC = b"TK"
VERSION = 1
SIZE = 38
TOKEN_BYTES = 16
KEY_BYTES = 32
MAX_TTL = 0xFFFF

_TAG_BYTES = 16
_WHAT = "MAP datagram"


class MapType(IntEnum):
    """What a datagram is for."""

    MAP = 1
    """The operator's proxy: datagrams from this address and port are a device's, for TTL s."""
    MAP_OK = 2
    """The domain proxy: it knows. TTL is that of the question."""
    END = 3
    """The domain proxy: it has nothing more for this device (the seed's unencrypted error)."""
    END_OK = 4
    """The operator's proxy: the mapping is over."""


@attrs.frozen
class MapDatagram:
    """One of them."""

    type: MapType
    token: bytes
    """16 bytes that name the mapping; no secret."""
    ttl: int
    """Seconds that are left to the mapping, 0 to 65,535."""

    def answer(self, kind: MapType) -> MapDatagram:
        """The answer to this one."""
        return attrs.evolve(self, type=kind)


def is_map(data: bytes | memoryview) -> bool:
    """Whether a datagram claims to be one of them."""
    return data[:2] == MAGIC


def encode(datagram: MapDatagram, key: bytes) -> bytes:
    """The datagram, authenticated with the map key of 32 bytes."""
    if len(key) != KEY_BYTES or len(datagram.token) != TOKEN_BYTES:
        raise LocalProtocolError("the map key has 32 bytes, the token 16")
    body = Writer().put(MAGIC).u8(VERSION).u8(datagram.type).put(datagram.token)
    signed = body.u16(datagram.ttl).done()
    return signed + _tag(signed, key)


def decode(data: bytes | memoryview, key: bytes) -> MapDatagram:
    """The content of a datagram whose sender has the map key; `RemoteProtocolError` otherwise."""
    if len(data) != SIZE:
        raise RemoteProtocolError(f"{_WHAT}: {len(data)} bytes instead of {SIZE}")
    signed, tag = bytes(data[:-_TAG_BYTES]), bytes(data[-_TAG_BYTES:])
    if not hmac.compare_digest(tag, _tag(signed, key)):
        raise RemoteProtocolError(f"{_WHAT}: not made with the map key")
    reader = Reader(signed, _WHAT)
    if reader.take(2) != MAGIC or reader.u8() != VERSION:
        raise RemoteProtocolError(f"{_WHAT}: another version")
    number = reader.u8()
    try:
        kind = MapType(number)
    except ValueError:
        raise RemoteProtocolError(f"{_WHAT}: unknown type {number}") from None
    return MapDatagram(kind, reader.take(TOKEN_BYTES), reader.u16())


def _tag(signed: bytes, key: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)[:_TAG_BYTES]
