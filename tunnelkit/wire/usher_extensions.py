"""The records that ``usher/1.1`` adds, see ``docs/spec/usher.md``; otherwise as `usher_records`."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import ClassVar

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.checkpoint import MOST_LINES, Checkpoint
from tunnelkit.wire.primitives import Reader, Writer
from tunnelkit.wire.usher_fields import (
    MAX_ID,
    Address,
    AddressType,
    RecordType,
    Version,
    address_type_of,
    decode_text,
    ipv4_bytes,
    ipv4_text,
    ipv6_bytes,
    read_text,
    text_bytes,
)

MAX_WINDOW = 16 * 1024 * 1024
MAX_NAME = 253
"""Bytes of a host name in a datagram record."""
_KEYS = {1: ("window", 0, MAX_WINDOW), 2: ("max_sessions", 0, MAX_ID), 3: ("keepalive", 1, 86_400)}
"""KEY of a setting: field, least and largest value."""
_SETTING = struct.Struct(">HI")
_OFFSETS = struct.Struct(">QQ")
_CHECKPOINT = struct.Struct(">Q16s32s")
"""SEQ, CHAIN, HASH."""


@attrs.frozen
class UsherSettings:
    """What a side says of itself: first of all, and again when it changes; None: no news."""

    type: ClassVar[RecordType] = RecordType.SETTINGS

    window: int | None = None
    """Bytes the other side may send on a new session before the first UsherCredit."""
    max_sessions: int | None = None
    """Sessions that the other side may have opened at once."""
    keepalive: int | None = None
    """Seconds; this side sends something at least that often."""
    software: str = ""

    def body(self) -> bytes:
        given = [
            (key, getattr(self, field))
            for key, (field, _, _) in _KEYS.items()
            if getattr(self, field) is not None
        ]
        writer = Writer().u16(len(given))
        for key, value in given:
            writer.u16(key).u32(value)
        return writer.put(text_bytes(self.software)).done()

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherSettings:
        reader = Reader(body, "UsherSettings")
        values: dict[str, int] = {}
        for _ in range(reader.u16()):
            key, value = _SETTING.unpack(reader.take(_SETTING.size))
            if key not in _KEYS:
                continue
            field, least, most = _KEYS[key]
            if field in values or not least <= value <= most:
                raise RemoteProtocolError(
                    f"UsherSettings: {field} is {value}; expected once, {least} to {most}"
                )
            values[field] = value
        software = read_text(reader, "UsherSettings: SOFTWARE")
        return cls(
            values.get("window"), values.get("max_sessions"), values.get("keepalive"), software
        )


@attrs.frozen
class UsherPing:
    """A sign of life that is answered, with the same token."""

    type: ClassVar[RecordType] = RecordType.PING

    token: int
    """8 bytes of the asking side's choice."""
    answer: bool = False

    def body(self) -> bytes:
        return Writer().u16(self.answer).u64(self.token).done()

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherPing:
        reader = Reader(body, "UsherPing")
        answer, token = reader.u16(), reader.u64()
        reader.finish()
        if answer > 1:
            raise RemoteProtocolError(f"UsherPing: ANSWER is {answer}")
        return cls(token, bool(answer))


@attrs.frozen
class UsherShutdown:
    """No new sessions from now on; the tunnel ends with its last one, or after ``grace``."""

    type: ClassVar[RecordType] = RecordType.SHUTDOWN

    grace: int
    """Seconds."""
    reason: str = ""

    def body(self) -> bytes:
        return Writer().u32(self.grace).put(text_bytes(self.reason)).done()

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherShutdown:
        reader = Reader(body, "UsherShutdown")
        return cls(reader.u32(), read_text(reader, "UsherShutdown: REASON"))


@attrs.frozen
class UsherSendUdpAny:
    """One datagram whose ends may also be IPv6 addresses or names."""

    type: ClassVar[RecordType] = RecordType.SEND_UDP_ANY

    source: Address
    destination: Address
    data: bytes

    def body(self) -> bytes:
        writer = Writer()
        for address in (self.source, self.destination):
            kind = address_type_of(address.host)
            writer.u16(kind)
            if kind is AddressType.IPV4:
                writer.put(ipv4_bytes(address.host))
            elif kind is AddressType.IPV6:
                writer.put(ipv6_bytes(address.host))
            else:
                name = text_bytes(address.host)
                if not 1 < len(name) <= MAX_NAME + 1:
                    raise LocalProtocolError(f"a host name has 1 to {MAX_NAME} bytes")
                writer.put(name)
            writer.u16(address.port)
        return writer.put(self.data).done()

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherSendUdpAny:
        reader = Reader(body, "UsherSendUdpAny")
        return cls(_read_address(reader), _read_address(reader), reader.rest())


def _read_address(reader: Reader) -> Address:
    kind = reader.u16()
    if kind == AddressType.IPV4:
        host = ipv4_text(reader.take(4))
    elif kind == AddressType.IPV6:
        host = str(IPv6Address(reader.take(16)))
    elif kind == AddressType.NAME:
        host = decode_text(reader.until(0, MAX_NAME), "UsherSendUdpAny: a host name")
        if not host or ":" in host:
            raise RemoteProtocolError("UsherSendUdpAny: that is not a host name")
    else:
        raise RemoteProtocolError(f"UsherSendUdpAny: address type {kind}")
    return Address(host, reader.u16())


@attrs.frozen
class UsherCredit:
    """What the application has taken and how far the sender may go, as offsets in the stream."""

    type: ClassVar[RecordType] = RecordType.CREDIT

    taken: int
    limit: int

    def body(self) -> bytes:
        try:
            return _OFFSETS.pack(self.taken, self.limit)
        except struct.error:
            raise LocalProtocolError("an offset does not fit 8 unsigned bytes") from None

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherCredit:
        reader = Reader(body, "UsherCredit")
        taken, limit = _OFFSETS.unpack(reader.take(_OFFSETS.size))
        reader.finish()
        return cls(taken, limit)


@attrs.frozen
class UsherService:
    """Reserved for the table of published services; ignored when received."""

    type: ClassVar[RecordType] = RecordType.SERVICE

    raw: bytes = b""

    def body(self) -> bytes:
        return self.raw

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherService:
        return cls(body)


@attrs.frozen
class UsherCheckpoint:
    """How far this side's audit file has come, for the other side to keep (row O8)."""

    type: ClassVar[RecordType] = RecordType.CHECKPOINT

    checkpoint: Checkpoint

    def body(self) -> bytes:
        told = self.checkpoint
        return _CHECKPOINT.pack(told.seq, bytes.fromhex(told.chain), bytes.fromhex(told.hash))

    @classmethod
    def read(cls, body: bytes, version: Version) -> UsherCheckpoint:
        reader = Reader(body, "UsherCheckpoint")
        seq, chain, hashed = _CHECKPOINT.unpack(reader.take(_CHECKPOINT.size))
        reader.finish()
        if not 1 <= seq <= MOST_LINES:
            raise RemoteProtocolError(f"UsherCheckpoint: SEQ is {seq}; 1 to {MOST_LINES} are lines")
        return cls(Checkpoint(chain.hex(), seq, hashed.hex()))


ExtensionRecord = (
    UsherSettings
    | UsherPing
    | UsherShutdown
    | UsherSendUdpAny
    | UsherCredit
    | UsherService
    | UsherCheckpoint
)
