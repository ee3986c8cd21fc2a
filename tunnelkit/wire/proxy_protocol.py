"""The PROXY protocol, versions 1 and 2: who is behind a proxy (haproxy's proxy-protocol.txt).

In front of a stranger's bytes, so each byte is looked at once and the whole is short (rule X24).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import attrs

from tunnelkit.errors import RemoteProtocolError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""How version 2 begins."""
MAX_V1 = 107
"""Bytes of a version 1 header, its line end included."""
MAX_V2 = 16 + 536
"""Bytes of a version 2 header; what is longer carries things that nobody here asks for."""

_V1 = b"PROXY "
_V2_HEADER = struct.Struct(">BBH")
_V2_SIZES = {0x11: 4, 0x21: 16}
_WHAT = "PROXY header"


@attrs.frozen
class Source:
    """Who connected to the proxy; empty and 0 where it speaks for itself (health checks)."""

    address: str = ""
    port: int = 0


class ProxyHeaderReader:
    """Takes the first bytes of a connection as they come, cut anywhere."""

    __slots__ = ("_buffer", "_size")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._size = 0
        """Of a whole version 2 header, once that is known."""

    def feed(self, data: bytes | bytearray | memoryview) -> tuple[Source, bytes] | None:
        """The source, and the bytes behind the header, once it is complete.

        Raises `RemoteProtocolError` for anything that is no header.
        """
        buffer = self._buffer
        seen = len(buffer)
        buffer += data
        if buffer.startswith(_V1[: len(buffer)]):
            end = buffer.find(b"\n", max(0, seen - 1), MAX_V1)
            if end < 0:
                if len(buffer) >= MAX_V1:
                    raise RemoteProtocolError(f"{_WHAT}: its line is too long")
                return None
            return _read_v1(bytes(buffer[: end + 1])), bytes(buffer[end + 1 :])
        if not buffer.startswith(SIGNATURE[: len(buffer)]):
            raise RemoteProtocolError(f"{_WHAT}: there is none")
        if len(buffer) < 16:
            return None
        if not self._size:
            self._size = 16 + _V2_HEADER.unpack_from(buffer, 12)[2]
            if self._size > MAX_V2:
                raise RemoteProtocolError(f"{_WHAT}: {self._size} bytes are too many")
        if len(buffer) < self._size:
            return None
        return _read_v2(bytes(buffer[: self._size])), bytes(buffer[self._size :])


def _read_v1(line: bytes) -> Source:
    if not line.endswith(b"\r\n"):
        raise RemoteProtocolError(f"{_WHAT}: the line does not end with CR LF")
    words = line[:-2].decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return Source()
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise RemoteProtocolError(f"{_WHAT}: not PROXY TCP4 or TCP6 with four fields")
    try:
        address = ip_address(words[2])
        ip_address(words[3])
        ports = [int(word) for word in words[4:] if word.isascii() and word.isdigit()]
    except ValueError:
        raise RemoteProtocolError(f"{_WHAT}: an address is none") from None
    if len(ports) != 2 or max(ports) > 65535 or address.version != int(words[1][3]):
        raise RemoteProtocolError(f"{_WHAT}: the fields do not fit together")
    return Source(str(address), ports[0])


def _read_v2(header: bytes) -> Source:
    command, family, _ = _V2_HEADER.unpack_from(header, 12)
    if command not in (0x20, 0x21):
        raise RemoteProtocolError(f"{_WHAT}: an unknown version or command")
    if command == 0x20:
        return Source()
    size = _V2_SIZES.get(family)
    if size is None:
        raise RemoteProtocolError(f"{_WHAT}: not TCP over IPv4 or IPv6")
    if len(header) < 16 + 2 * size + 4:
        raise RemoteProtocolError(f"{_WHAT}: the addresses are missing")
    raw = header[16 : 16 + size]
    address: IPv4Address | IPv6Address = IPv4Address(raw) if size == 4 else IPv6Address(raw)
    address = getattr(address, "ipv4_mapped", None) or address
    return Source(str(address), int.from_bytes(header[16 + 2 * size :][:2], "big"))


def v2_header(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """A version 2 header that says where a connection comes from, and where it went to."""
    near, far = ip_address(source[0]), ip_address(destination[0])
    if near.version != far.version:
        near, far = _as_v6(near), _as_v6(far)
    family = 0x11 if near.version == 4 else 0x21
    body = near.packed + far.packed + struct.pack(">HH", source[1], destination[1])
    return SIGNATURE + _V2_HEADER.pack(0x21, family, len(body)) + body


def _as_v6(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")
