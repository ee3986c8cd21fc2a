"""Usher on the wire: the 8-byte header, its limits, and encode and decode of every record (U1).

Header, big-endian: LENGTH int32 (bytes after the header), TYPE int16, SESSION
int16, all signed. The records themselves are in `usher_records` (``usher/1``)
and `usher_extensions` (what ``usher/1.1`` adds), importable from here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.usher_extensions import (
    MAX_NAME,
    MAX_WINDOW,
    ExtensionRecord,
    UsherCheckpoint,
    UsherCredit,
    UsherPing,
    UsherSendUdpAny,
    UsherService,
    UsherSettings,
    UsherShutdown,
)
from tunnelkit.wire.usher_fields import (
    FAILED,
    MAX_ACK,
    MAX_GATES,
    MAX_ID,
    TCP,
    UDP,
    Address,
    AddressType,
    Direction,
    RecordType,
    Version,
    address_type_of,
)
from tunnelkit.wire.usher_records import (
    BaseRecord,
    UsherAck,
    UsherClose,
    UsherEnd,
    UsherOpen,
    UsherOpenReply,
    UsherRst,
    UsherSend,
    UsherSendUdp,
)

__all__ = [
    "ALPNS",
    "FAILED",
    "HEADER",
    "HEADER_SIZE",
    "MAX_ACK",
    "MAX_DATA",
    "MAX_DATAGRAM",
    "MAX_GATES",
    "MAX_ID",
    "MAX_LENGTH",
    "MAX_NAME",
    "MAX_UDP",
    "MAX_UDP_ANY",
    "MAX_WINDOW",
    "TCP",
    "UDP",
    "WINDOW",
    "Address",
    "AddressType",
    "Direction",
    "Record",
    "RecordType",
    "UsherAck",
    "UsherCheckpoint",
    "UsherClose",
    "UsherCredit",
    "UsherEnd",
    "UsherOpen",
    "UsherOpenReply",
    "UsherPing",
    "UsherRst",
    "UsherSend",
    "UsherSendUdp",
    "UsherSendUdpAny",
    "UsherService",
    "UsherSettings",
    "UsherShutdown",
    "Version",
    "address_type_of",
    "check_header",
    "decode",
    "encode",
    "limits",
]

Record = BaseRecord | ExtensionRecord

ALPNS = (Version.V1_1.value, Version.V1.value)
"""In order of preference."""
HEADER = struct.Struct(">ihh")
"""LENGTH, TYPE, SESSION."""
HEADER_SIZE = HEADER.size
MAX_DATA = 262_144
"""Most DATA in one UsherSend."""
MAX_UDP = 65_519
"""Largest LENGTH of UsherSendUdp."""
MAX_DATAGRAM = MAX_UDP - 12
"""Most DATA in one UsherSendUdp: the largest payload that UDP over IPv4 has."""
MAX_UDP_ANY = 2 * (2 + MAX_NAME + 1 + 2) + MAX_DATAGRAM
"""Largest LENGTH of UsherSendUdpAny."""
MAX_LENGTH = 1_024
"""Largest LENGTH of any other record."""
WINDOW = 1_048_576
"""DATA bytes of one session that ``usher/1`` allows to be unacknowledged."""

_BASE: tuple[type[BaseRecord], ...] = (
    UsherOpen,
    UsherOpenReply,
    UsherSend,
    UsherAck,
    UsherClose,
    UsherSendUdp,
    UsherEnd,
    UsherRst,
)
_EXTENSIONS: tuple[type[ExtensionRecord], ...] = (
    UsherSettings,
    UsherPing,
    UsherShutdown,
    UsherSendUdpAny,
    UsherCredit,
    UsherService,
    UsherCheckpoint,
)
_READERS: dict[int, Callable[[bytes, Version], Record]] = {
    int(record.type): record.read for record in (*_BASE, *_EXTENSIONS)
}
_LIMITS: dict[int, int] = dict.fromkeys(_READERS, MAX_LENGTH)
_LIMITS[RecordType.SEND] = MAX_DATA
_LIMITS[RecordType.SEND_UDP] = MAX_UDP
_LIMITS[RecordType.SEND_UDP_ANY] = MAX_UDP_ANY
_LIMITS_OF: dict[Version, dict[int, int]] = {
    Version.V1: {int(record.type): _LIMITS[record.type] for record in _BASE},
    # Acknowledgements are offsets there.
    Version.V1_1: {kind: most for kind, most in _LIMITS.items() if kind != RecordType.ACK},
}


def limits(version: Version) -> dict[int, int]:
    """Largest LENGTH of each TYPE that ``version`` has."""
    return _LIMITS_OF[version]


def check_header(length: int, kind: int, version: Version) -> None:
    """Refuse a record by its header, before any of it is kept (rule X7).

    Raises `RemoteProtocolError` for an unknown type, a negative or too large LENGTH.
    """
    most = _LIMITS_OF[version].get(kind)
    if most is None:
        raise RemoteProtocolError(f"unknown record type {kind}")
    if not 0 <= length <= most:
        raise RemoteProtocolError(
            f"a record of type {kind} with LENGTH {length}; 0 to {most} are allowed"
        )


def decode(kind: int, body: bytes, version: Version) -> Record:
    """The record whose ``body`` followed a header that `check_header` let pass.

    Raises `RemoteProtocolError` naming the record, the field and what is wrong.
    """
    return _READERS[kind](body, version)


def encode(record: Record, session: int, version: Version) -> bytes:
    """Header and body.

    Raises `LocalProtocolError` for a record that ``version`` does not have or
    that is over its limit.
    """
    body = record.body()
    most = _LIMITS_OF[version].get(record.type)
    if most is None:
        raise LocalProtocolError(f"{version.value.decode()} has no record {record.type.name}")
    if len(body) > most:
        raise LocalProtocolError(f"{len(body)} bytes are too many for {record.type.name}")
    return HEADER.pack(len(body), record.type, session) + body
