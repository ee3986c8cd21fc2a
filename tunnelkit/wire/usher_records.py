"""The eight records of ``usher/1`` as typed values (row U1), and the fields they are made of.

Each class has the type it is sent under, ``body()`` for what follows the
header, and ``read`` for the way back. ``read`` raises `RemoteProtocolError`
for anything but exactly this record, ``body`` raises `LocalProtocolError` for
values that no record can hold. Byte order is big-endian throughout.
"""

from __future__ import annotations

import struct
from enum import Enum, IntEnum
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import ClassVar, NamedTuple

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Writer

TCP = 6
UDP = 17
"""PROTOCOL of `UsherOpen`."""
MAX_ID = 32_767
"""Session ids are 1 to this."""
FAILED = -1
"""RC of a refusal."""
MAX_ACK = 65_535

_UDP_HEAD = struct.Struct(">4sH4sH")
"""ADDR, PORT, REMOTEADDR, REMOTEPORT."""


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


# -- fields ---------------------------------------------------------------


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


# -- records --------------------------------------------------------------


@attrs.frozen
class UsherOpen:
    """Asks for a session to ``address``; SESSION is the opener's new id."""

    type: ClassVar[RecordType] = RecordType.OPEN

    address_type: AddressType
    address: str
    """By type: IPv4, name, IPv6 (no brackets), destination, or who was accepted."""
    port: int = 0
    """0 to 65535; 0 for TEXT and ACCEPTED."""
    protocol: int = TCP
    listener: int = 0
    """For ACCEPTED: the receiver's id of the session that asked to listen."""

    def body(self) -> bytes:
        writer = Writer().u16(self.protocol).u16(self.address_type).u16(self.port)
        if self.address_type is AddressType.IPV4:
            writer.put(ipv4_bytes(self.address))
        elif self.address_type is AddressType.IPV6:
            writer.put(ipv6_bytes(self.address))
        else:
            if self.address_type is AddressType.ACCEPTED:
                writer.u16(self.listener)
            elif not self.address:
                raise LocalProtocolError("there is no address to open a session to")
            writer.put(text_bytes(self.address))
        return writer.done()

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherOpen:
        reader = Reader(body, "UsherOpen")
        protocol, number, port = reader.u16(), reader.u16(), reader.u16()
        last = AddressType.NAME if version is Version.V1 else AddressType.ACCEPTED
        if not 1 <= number <= last:
            raise RemoteProtocolError(
                f"UsherOpen: address type {number} is not in {version.value.decode()}"
            )
        kind = AddressType(number)
        listener = 0
        if kind is AddressType.IPV4:
            address = ipv4_text(reader.take(4))
        elif kind is AddressType.IPV6:
            address = str(IPv6Address(reader.take(16)))
        else:
            if kind is AddressType.ACCEPTED:
                listener = read_signed(reader)
                if listener <= 0:
                    raise RemoteProtocolError(f"UsherOpen: LISTENER is {listener}")
            address = read_text(reader, "UsherOpen: ADDR")
            if not address and not listener:
                raise RemoteProtocolError("UsherOpen: ADDR is empty")
        reader.finish()
        return cls(kind, address, port, protocol, listener)


@attrs.frozen
class UsherOpenReply:
    """Answers UsherOpen; SESSION is the opener's id."""

    type: ClassVar[RecordType] = RecordType.OPEN_REPLY

    rc: int
    """-1, or the answering side's id of the session."""
    text: str | None = None
    """With -1 why it failed; otherwise, in ``usher/1.1`` only, what the far socket is bound to."""

    def body(self) -> bytes:
        if self.rc != FAILED and not 1 <= self.rc <= MAX_ID:
            raise LocalProtocolError(f"{self.rc} is not an RC")
        head = self.rc.to_bytes(2, "big", signed=True)
        return head if self.text is None else head + text_bytes(self.text)

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherOpenReply:
        reader = Reader(body, "UsherOpenReply")
        rc = read_signed(reader)
        if rc == 0 or rc < FAILED:
            raise RemoteProtocolError(f"UsherOpenReply: RC is {rc}")
        if rc > 0 and version is Version.V1:
            reader.finish()
            return cls(rc)
        return cls(rc, read_text(reader, "UsherOpenReply: the text"))


@attrs.frozen
class UsherSend:
    """Application data of a session."""

    type: ClassVar[RecordType] = RecordType.SEND

    data: bytes

    def body(self) -> bytes:
        return self.data

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherSend:
        return cls(body)


@attrs.frozen
class UsherAck:
    """So many bytes of a session have been written on to their destination."""

    type: ClassVar[RecordType] = RecordType.ACK

    size: int
    """1 to 65535."""

    def body(self) -> bytes:
        if not self.size:
            raise LocalProtocolError("an acknowledgement of nothing")
        return Writer().u16(self.size).done()

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherAck:
        reader = Reader(body, "UsherAck")
        size = reader.u16()
        reader.finish()
        if not size:
            raise RemoteProtocolError("UsherAck: SIZE is 0")
        return cls(size)


@attrs.frozen
class UsherClose:
    """READ: no more data will come from me; WRITE: stop sending; BOTH: something broke."""

    type: ClassVar[RecordType] = RecordType.CLOSE

    direction: Direction

    def body(self) -> bytes:
        return Writer().u16(self.direction).done()

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherClose:
        reader = Reader(body, "UsherClose")
        number = reader.u16()
        reader.finish()
        if number > Direction.BOTH:
            raise RemoteProtocolError(f"UsherClose: DIRECTION is {number}")
        return cls(Direction(number))


@attrs.frozen
class UsherSendUdp:
    """One datagram between two IPv4 addresses; SESSION is 0 and not looked at."""

    type: ClassVar[RecordType] = RecordType.SEND_UDP

    source: Address
    """ADDR and PORT: who sent it."""
    destination: Address
    """REMOTEADDR and REMOTEPORT: who is to get it."""
    data: bytes

    def body(self) -> bytes:
        try:
            head = _UDP_HEAD.pack(
                ipv4_bytes(self.source.host),
                self.source.port,
                ipv4_bytes(self.destination.host),
                self.destination.port,
            )
        except struct.error:
            raise LocalProtocolError("a port is not 0 to 65535") from None
        return head + self.data

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherSendUdp:
        reader = Reader(body, "UsherSendUdp")
        near, near_port, far, far_port = _UDP_HEAD.unpack(reader.take(_UDP_HEAD.size))
        return cls(
            Address(ipv4_text(near), near_port), Address(ipv4_text(far), far_port), reader.rest()
        )


@attrs.frozen
class UsherEnd:
    """The session ends, or with SESSION 0 the whole tunnel; pending data is lost."""

    type: ClassVar[RecordType] = RecordType.END

    reason: str = ""

    def body(self) -> bytes:
        return text_bytes(self.reason)

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherEnd:
        return cls(read_text(Reader(body, "UsherEnd"), "UsherEnd: REASON"))


@attrs.frozen
class UsherRst:
    """The session is reset and queued data flushed."""

    type: ClassVar[RecordType] = RecordType.RST

    reason: str = ""

    def body(self) -> bytes:
        return text_bytes(self.reason)

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherRst:
        return cls(read_text(Reader(body, "UsherRST"), "UsherRST: REASON"))


BaseRecord = (
    UsherOpen
    | UsherOpenReply
    | UsherSend
    | UsherAck
    | UsherClose
    | UsherSendUdp
    | UsherEnd
    | UsherRst
)
