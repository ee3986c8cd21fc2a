"""The records of ``usher/1``, written from its specification alone; strict about what it reads."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

HEADER = struct.Struct(">ihh")
"""LENGTH int32 (bytes after the header), TYPE int16, SESSION int16; big-endian."""
MAX_DATA = 262_144
"""Bytes of DATA in one UsherSend."""
MAX_UDP = 65_519
"""LENGTH of a UsherSendUdp: 12 bytes of addresses, and the largest datagram, 65,507 bytes."""
MAX_OTHER = 1_024
MAX_ID = 32_767
WINDOW = 1_048_576
MAX_ACK = 65_535
TCP = 6
UDP = 17


class PeerViolation(Exception):
    """The other end broke a rule."""


class Kind(enum.IntEnum):
    """TYPE."""

    OPEN = 1
    OPEN_REPLY = -1
    SEND = 3
    ACK = 5
    CLOSE = 2
    SEND_UDP = 4
    END = 6
    RST = 7


class Direction(enum.IntEnum):
    """DIRECTION of a UsherClose."""

    READ = 0
    WRITE = 1
    BOTH = 2


@dataclass(frozen=True)
class Open:
    """UsherOpen."""

    protocol: int
    host: str
    port: int


@dataclass(frozen=True)
class Reply:
    """UsherOpenReply: the id to send to, or -1 and why not."""

    code: int
    reason: str


@dataclass(frozen=True)
class Datagram:
    """UsherSendUdp: ``(address, port)`` of the datagram's sender and of its receiver."""

    sender: tuple[str, int]
    receiver: tuple[str, int]
    data: bytes


Body = Open | Reply | Datagram | bytes | int | Direction | str


@dataclass(frozen=True)
class Record:
    """One record: DATA, SIZE, DIRECTION and REASON stand for themselves."""

    kind: Kind
    session: int
    body: Body


def require(fact: bool, what: str) -> None:
    """Raise `PeerViolation` saying ``what`` unless it is so."""
    if not fact:
        raise PeerViolation(what)


# -- writing: right or wrong, as it is asked ----------------------------------


def encode(kind: int, session: int, body: bytes) -> bytes:
    """Header and body."""
    return HEADER.pack(len(body), kind, session) + body


def text(reason: str) -> bytes:
    """NUL-terminated UTF-8."""
    return reason.encode("utf-8") + b"\0"


def open_body(host: str, port: int, protocol: int = TCP) -> bytes:
    """An IPv4 address goes as its 4 bytes, all else as a name."""
    parts = host.split(".")
    if len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts):
        return struct.pack(">hhH", protocol, 1, port) + _packed(host)
    return struct.pack(">hhH", protocol, 2, port) + text(host)


def udp_body(sender: tuple[str, int], receiver: tuple[str, int], data: bytes) -> bytes:
    """Addresses and data of one datagram."""
    ends = b"".join(_packed(host) + port.to_bytes(2, "big") for host, port in (sender, receiver))
    return ends + data


def _packed(host: str) -> bytes:
    return bytes(int(part) for part in host.split("."))


# -- reading ------------------------------------------------------------------


def read_header(data: bytes) -> tuple[int, Kind, int]:
    """LENGTH, TYPE, SESSION, each possible on its own."""
    length, number, session = HEADER.unpack(data)
    try:
        kind = Kind(number)
    except ValueError:
        raise PeerViolation(f"unknown TYPE {number}") from None
    most = {Kind.SEND: MAX_DATA, Kind.SEND_UDP: MAX_UDP}.get(kind, MAX_OTHER)
    require(0 <= length <= most, f"{kind.name} of LENGTH {length}")
    if kind is Kind.END:
        require(0 <= session <= MAX_ID, f"END for session {session}")
    elif kind is not Kind.SEND_UDP:
        require(0 < session <= MAX_ID, f"{kind.name} for session {session}")
    return length, kind, session


def read_body(kind: Kind, body: bytes) -> Body:
    """What stands after the header, all of it and nothing else."""
    if kind is Kind.SEND:
        return body
    if kind is Kind.OPEN:
        return _read_open(body)
    if kind is Kind.OPEN_REPLY:
        return _read_reply(body)
    if kind is Kind.SEND_UDP:
        require(len(body) >= 12, f"SEND_UDP of {len(body)} bytes")
        return Datagram(_end(body[:6]), _end(body[6:12]), body[12:])
    if kind is Kind.ACK:
        size = _short(body, "ACK")
        require(size > 0, "ACK of nothing")
        return size
    if kind is Kind.CLOSE:
        direction = _short(body, "CLOSE")
        require(direction <= Direction.BOTH, f"DIRECTION {direction}")
        return Direction(direction)
    return _text(body)


def _read_open(body: bytes) -> Open:
    require(len(body) >= 6, f"OPEN of {len(body)} bytes")
    protocol, kind, port = struct.unpack(">hhH", body[:6])
    require(protocol in (TCP, UDP), f"PROTOCOL {protocol}")
    require(kind in (1, 2), f"ADDRTYPE {kind}")
    if kind == 2:
        host = _text(body[6:])
        require(bool(host), "empty host name")
        return Open(protocol, host, port)
    require(len(body) == 10, f"IPv4 address of {len(body) - 6} bytes")
    return Open(protocol, ".".join(map(str, body[6:])), port)


def _read_reply(body: bytes) -> Reply:
    require(len(body) >= 2, f"OPEN_REPLY of {len(body)} bytes")
    code = int.from_bytes(body[:2], "big", signed=True)
    require(code == -1 or code > 0, f"RC {code}")
    if code == -1:
        return Reply(code, _text(body[2:]))
    require(len(body) == 2, f"OPEN_REPLY with RC {code} and {len(body) - 2} bytes behind it")
    return Reply(code, "")


def _end(raw: bytes) -> tuple[str, int]:
    return ".".join(map(str, raw[:4])), int.from_bytes(raw[4:], "big")


def _short(body: bytes, what: str) -> int:
    require(len(body) == 2, f"{what} of {len(body)} bytes")
    return int.from_bytes(body, "big")


def _text(body: bytes) -> str:
    require(body.count(b"\0") == 1 and body.endswith(b"\0"), f"text without one NUL: {body!r}")
    try:
        return body[:-1].decode("utf-8")
    except UnicodeDecodeError:
        raise PeerViolation(f"text that is not UTF-8: {body!r}") from None
