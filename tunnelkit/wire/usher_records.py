"""The eight records of ``usher/1`` as typed values (row U1).

Each class has the type it is sent under, ``body()`` for what follows the
header, and ``read`` for the way back. ``read`` raises `RemoteProtocolError`
for anything but exactly this record, ``body`` raises `LocalProtocolError` for
values that no record can hold. Byte order is big-endian throughout.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import ClassVar

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Writer
from tunnelkit.wire.usher_fields import (
    FAILED,
    MAX_GATE,
    MAX_GATES,
    MAX_ID,
    TCP,
    Address,
    AddressType,
    Direction,
    RecordType,
    Version,
    decode_text,
    ipv4_bytes,
    ipv4_text,
    ipv6_bytes,
    read_signed,
    read_text,
    text_bytes,
)

_UDP_HEAD = struct.Struct(">4sH4sH")
"""ADDR, PORT, REMOTEADDR, REMOTEPORT."""


@attrs.frozen
class UsherOpen:
    """Asks for a session to ``address``; SESSION is the opener's new id."""

    type: ClassVar[RecordType] = RecordType.OPEN

    address_type: AddressType
    address: str
    """By type: IPv4, name, IPv6 (no brackets), destination, or who was accepted."""
    port: int = 0
    """0 to 65535; 0 for TEXT, ACCEPTED and ONWARD."""
    protocol: int = TCP
    listener: int = 0
    """For ACCEPTED: the receiver's id of the session that asked to listen."""
    via: tuple[str, ...] = ()
    """For ONWARD: the names of the gates so far, the first one first; at most `MAX_GATES`."""

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
            elif self.address_type is AddressType.ONWARD:
                _write_gates(writer, self.via)
            writer.put(text_bytes(self.address))
        return writer.done()

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherOpen:
        reader = Reader(body, "UsherOpen")
        protocol, number, port = reader.u16(), reader.u16(), reader.u16()
        last = AddressType.NAME if version is Version.V1 else AddressType.ONWARD
        if not 1 <= number <= last:
            raise RemoteProtocolError(
                f"UsherOpen: address type {number} is not in {version.value.decode()}"
            )
        kind = AddressType(number)
        listener = 0
        via: tuple[str, ...] = ()
        if kind is AddressType.IPV4:
            address = ipv4_text(reader.take(4))
        elif kind is AddressType.IPV6:
            address = str(IPv6Address(reader.take(16)))
        else:
            if kind is AddressType.ACCEPTED:
                listener = read_signed(reader)
                if listener <= 0:
                    raise RemoteProtocolError(f"UsherOpen: LISTENER is {listener}")
            elif kind is AddressType.ONWARD:
                via = _read_gates(reader)
            address = read_text(reader, "UsherOpen: ADDR")
            if not address and not listener:
                raise RemoteProtocolError("UsherOpen: ADDR is empty")
        reader.finish()
        return cls(kind, address, port, protocol, listener, via)


def _write_gates(writer: Writer, via: tuple[str, ...]) -> None:
    if not 1 <= len(via) <= MAX_GATES:
        raise LocalProtocolError(f"an open comes by 1 to {MAX_GATES} gates")
    writer.u16(len(via))
    for name in via:
        gate = text_bytes(name)
        if not 1 < len(gate) <= MAX_GATE + 1:
            raise LocalProtocolError(f"a gate's name has 1 to {MAX_GATE} bytes")
        writer.put(gate)


def _read_gates(reader: Reader) -> tuple[str, ...]:
    count = reader.u16()
    if not 1 <= count <= MAX_GATES:
        raise RemoteProtocolError(
            f"UsherOpen: {count} gates on the way; 1 to {MAX_GATES} are allowed"
        )
    names = []
    for _ in range(count):
        name = decode_text(reader.until(0, MAX_GATE), "UsherOpen: a gate's name")
        if not name or not name.isprintable():
            raise RemoteProtocolError("UsherOpen: that is not a gate's name")
        names.append(name)
    return tuple(names)


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
