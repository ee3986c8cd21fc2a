"""What X clients and servers say first, and the authority files that hold their cookies (F3).

The first packet on a connection to an X server (X Window System Protocol, section 8)::

    offset  size  field
    0       1     byte order of all that follows: ``B`` big-endian, ``l`` little-endian
    1       1     unused
    2       2     major version of the protocol, 11
    4       2     minor version
    6       2     n: length of the authorization's name
    8       2     d: length of the authorization's data
    10      2     unused
    12      n     the name, then padding to a multiple of 4
            d     the data, then padding to a multiple of 4

An authority file is a row of entries, in big-endian order whatever the machine's is::

    2 family, 2 + n address, 2 + n display number, 2 + n name, 2 + n data
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Writer

MIT_MAGIC_COOKIE = b"MIT-MAGIC-COOKIE-1"
"""The authorization whose data is a secret that both sides know."""

HEADER_SIZE = 12
MAX_SETUP = 65536
"""Bytes of a setup packet; what says that it is longer is refused by its header."""
MAX_REASON = 255
"""Bytes of a refusal's text."""

FAMILY_INTERNET = 0
"""The address is 4 bytes."""
FAMILY_INTERNET6 = 6
"""The address is 16 bytes."""
FAMILY_LOCAL = 256
"""The address is the machine's host name; unix sockets and TCP on loopback."""
FAMILY_WILD = 65535
"""The entry is for every address."""

_BIG, _LITTLE = 0x42, 0x6C
_HEADERS = {True: struct.Struct(">BxHHHHxx"), False: struct.Struct("<BxHHHHxx")}
_REFUSALS = {True: struct.Struct(">BBHHH"), False: struct.Struct("<BBHHH")}


@attrs.frozen
class Setup:
    """The first packet of an X client."""

    big_endian: bool
    major: int = 11
    minor: int = 0
    auth_name: bytes = b""
    """How it wants to be let in, e.g. `MIT_MAGIC_COOKIE`; empty: without."""
    auth_data: bytes = attrs.field(default=b"", repr=False)


class SetupReader:
    """Takes the first packet as it comes, cut anywhere, and nothing behind it."""

    __slots__ = ("_buffer", "_need", "setup")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = HEADER_SIZE
        self.setup: Setup | None = None
        """The packet, once it is all there."""

    @property
    def big_endian(self) -> bool | None:
        """The client's byte order; None before its first byte, or if that is none."""
        return {_BIG: True, _LITTLE: False}.get(self._buffer[0]) if self._buffer else None

    def receive(self, data: bytes | memoryview) -> int:
        """How many bytes at the beginning of ``data`` belonged to the packet.

        Raises `RemoteProtocolError` if it cannot be one or is longer than `MAX_SETUP`.
        """
        taken = 0
        while self.setup is None and taken < len(data):
            piece = data[taken : taken + self._need - len(self._buffer)]
            self._buffer += piece
            taken += len(piece)
            if self.big_endian is None:
                raise RemoteProtocolError("not an X client: its first byte is neither B nor l")
            if len(self._buffer) == self._need:
                self._complete()
        return taken

    def _complete(self) -> None:
        big_endian = bool(self.big_endian)
        _, major, minor, name_size, data_size = _HEADERS[big_endian].unpack_from(self._buffer)
        start = HEADER_SIZE + _padded(name_size)
        total = start + _padded(data_size)
        if total > MAX_SETUP:
            raise RemoteProtocolError(f"the X setup packet is longer than {MAX_SETUP} bytes")
        if len(self._buffer) < total:
            self._need = total
            return
        self.setup = Setup(
            big_endian,
            major,
            minor,
            bytes(self._buffer[HEADER_SIZE : HEADER_SIZE + name_size]),
            bytes(self._buffer[start : start + data_size]),
        )


def encode_setup(setup: Setup) -> bytes:
    """The packet that `SetupReader` reads; raises `LocalProtocolError` if it would be too long."""
    name, data = setup.auth_name, setup.auth_data
    if HEADER_SIZE + _padded(len(name)) + _padded(len(data)) > MAX_SETUP:
        raise LocalProtocolError(f"an X setup packet longer than {MAX_SETUP} bytes")
    head = _HEADERS[setup.big_endian].pack(
        _BIG if setup.big_endian else _LITTLE, setup.major, setup.minor, len(name), len(data)
    )
    return head + _pad(name) + _pad(data)


def encode_failed(big_endian: bool, reason: str) -> bytes:
    """The X server's refusal; the client prints ``reason``, which is cut after `MAX_REASON` bytes.

    ======  ====================================
    bytes   field
    ======  ====================================
    1       0: failed
    1       length of the reason
    2, 2    version of the protocol
    2       length of what follows, in 4 bytes
    n       the reason, padded
    ======  ====================================
    """
    text = reason.encode("ascii", "replace")[:MAX_REASON]
    body = _pad(text)
    return _REFUSALS[big_endian].pack(0, len(text), 11, 0, len(body) // 4) + body


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# -- authority files ------------------------------------------------------


@attrs.frozen
class AuthorityEntry:
    """What lets clients into one display."""

    family: int
    address: bytes
    """By family: 4 or 16 bytes, or a host name."""
    number: bytes
    """The display's number in decimal; empty: every display."""
    name: bytes
    data: bytes = attrs.field(repr=False)

    def is_for(self, family: int, address: bytes, number: int) -> bool:
        """Whether it is for that display, by itself or by being for all."""
        return (
            self.family == FAMILY_WILD or (self.family, self.address) == (family, address)
        ) and self.number in (b"", b"%d" % number)


def parse_authority(data: bytes) -> tuple[AuthorityEntry, ...]:
    """The entries of an authority file; raises `RemoteProtocolError` if it is damaged."""
    reader = Reader(data, "authority file")
    entries = []
    while reader.remaining:
        family = reader.u16()
        address, number, name, secret = (reader.block16() for _ in range(4))
        entries.append(AuthorityEntry(family, address, number, name, secret))
    return tuple(entries)


def encode_authority(entries: Iterable[AuthorityEntry]) -> bytes:
    """The authority file that holds ``entries``."""
    writer = Writer()
    for entry in entries:
        writer.u16(entry.family)
        for field in (entry.address, entry.number, entry.name, entry.data):
            writer.block16(field)
    return writer.done()
