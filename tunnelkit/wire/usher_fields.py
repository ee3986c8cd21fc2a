"""The fields that Usher's records are made of, and what their numbers mean (row U1)."""

from __future__ import annotations

from enum import Enum, IntEnum
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader

TCP = 6
UDP = 17
"""PROTOCOL of `UsherOpen`."""
MAX_ID = 32_767
"""Session ids are 1 to this."""
FAILED = -1
"""RC of a refusal."""
MAX_GATES = 8
"""Gates that an open may have come by."""
MAX_GATE = 255
"""Bytes of the name of one."""
MAX_ACK = 65_535


class RecordType(IntEnum):
    """TYPE in the header; from 16 on they are ``usher/1.1`` only."""

    OPEN = 1
    OPEN_REPLY = -1
    CLOSE = 2
    SEND = 3
    SEND_UDP = 4
    ACK = 5
    END = 6
    RST = 7
    SETTINGS = 16
    PING = 17
    SHUTDOWN = 18
    SEND_UDP_ANY = 19
    CREDIT = 20
    SERVICE = 21
    CHECKPOINT = 22


class Version(Enum):
    """Which records there are; the value is what TLS agrees on (ALPN)."""

    V1 = b"usher/1"
    V1_1 = b"usher/1.1"

    @classmethod
    def of(cls, alpn: bytes | None) -> Version:
        """The version that an agreed ALPN stands for; none at all means ``usher/1``."""
        return cls(alpn) if alpn else cls.V1


class AddressType(IntEnum):
    """ADDRTYPE; from 3 on they are ``usher/1.1`` only."""

    IPV4 = 1
    NAME = 2
    IPV6 = 3
    TEXT = 4
    """A destination in the form ``KIND:...``, for what has no host and port of its own."""
    ACCEPTED = 5
    """A connection that a listener opened at this side's request has accepted."""
    ONWARD = 6
    """A destination as text, asked for by a gate that has been asked for it itself."""


class Direction(IntEnum):
    """DIRECTION of `UsherClose`."""

    READ = 0
    WRITE = 1
    BOTH = 2


class Address(NamedTuple):
    """Where a datagram comes from or goes to."""

    host: str
    """An IP address without brackets or, in ``usher/1.1``, a name."""
    port: int


@lru_cache(maxsize=1024)
def ipv4_bytes(host: str) -> bytes:
    """The 4 bytes of an address in text; raises `LocalProtocolError` if it is none."""
    try:
        return IPv4Address(host).packed
    except AddressValueError:
        raise LocalProtocolError(f"{host[:60]} is not an IPv4 address") from None


def ipv4_text(raw: bytes) -> str:
    """The usual text of 4 bytes."""
    a, b, c, d = raw
    return f"{a}.{b}.{c}.{d}"


def ipv6_bytes(host: str) -> bytes:
    """The 16 bytes of an address in text; raises `LocalProtocolError` if it is none."""
    try:
        return IPv6Address(host.partition("%")[0]).packed
    except AddressValueError:
        raise LocalProtocolError(f"{host[:60]} is not an IPv6 address") from None


@lru_cache(maxsize=1024)
def address_type_of(host: str) -> AddressType:
    """How ``host`` is sent: as IPv4 or IPv6 address or as a name."""
    if ":" in host:
        return AddressType.IPV6
    try:
        IPv4Address(host)
    except AddressValueError:
        return AddressType.NAME
    return AddressType.IPV4


def text_bytes(text: str) -> bytes:
    """UTF-8 and the one NUL that ends it; raises `LocalProtocolError` if there is one inside."""
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        raise LocalProtocolError("a text is not Unicode") from None
    if 0 in raw:
        raise LocalProtocolError("a text has a NUL in it")
    return raw + b"\0"


def read_text(reader: Reader, what: str) -> str:
    """The rest of the record, which is a text."""
    raw = reader.rest()
    if not raw or raw.find(0) != len(raw) - 1:
        raise RemoteProtocolError(f"{what} is not a text with one NUL, at its end")
    return decode_text(raw[:-1], what)


def decode_text(raw: bytes, what: str) -> str:
    """Text from UTF-8 without its NUL."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"{what} is not UTF-8") from None


def read_signed(reader: Reader) -> int:
    """2 bytes, signed."""
    return int.from_bytes(reader.take(2), "big", signed=True)
