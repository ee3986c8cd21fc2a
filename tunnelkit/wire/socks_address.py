"""A host and a port as SOCKS 5 writes them (RFC 1928, section 5): type, address, port.

Datagrams of LSTP and Usher begin with one too.
"""

from __future__ import annotations

import ipaddress

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader

IPV4, NAME, IPV6 = 1, 3, 4
"""The address types (ATYP)."""


def text_of_name(name: bytes, what: str) -> str:
    if not name:
        raise RemoteProtocolError(f"{what} is empty")
    if any(byte <= 0x20 or byte >= 0x7F for byte in name):
        raise RemoteProtocolError(f"{what} has bytes that no host name has")
    return name.decode("ascii")


def name_bytes(host: str) -> bytes:
    try:
        name = host.encode("ascii")
    except UnicodeEncodeError:
        raise LocalProtocolError(f"host name {host!r} is not ASCII") from None
    if not 0 < len(name) <= 255 or any(byte <= 0x20 or byte == 0x7F for byte in name):
        raise LocalProtocolError(f"{host[:300]!r} cannot be sent as a host name")
    return name


def port_bytes(port: int) -> bytes:
    if not 0 <= port <= 0xFFFF:
        raise LocalProtocolError(f"port {port} is not within 0 to 65535")
    return port.to_bytes(2, "big")


def packed_ip(host: str) -> tuple[int, bytes] | None:
    """ATYP and bytes if ``host`` is an IP address; zones (``%eth0``) cannot be sent at all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if "%" in host:
        raise LocalProtocolError(f"{host}: an address with a zone means nothing to another machine")
    return (IPV4 if address.version == 4 else IPV6), address.packed


def encode_address(host: str, port: int) -> bytes:
    """ATYP, address, port: as in SOCKS 5 messages, UDP headers and datagrams of ``udp:*``."""
    packed = packed_ip(host)
    if packed is None:
        name = name_bytes(host)
        return bytes((NAME, len(name))) + name + port_bytes(port)
    kind, address = packed
    return bytes((kind,)) + address + port_bytes(port)


def read_address(reader: Reader) -> tuple[str, int]:
    kind = reader.u8()
    if kind == IPV4:
        host = dotted(reader.take(4))
    elif kind == IPV6:
        host = str(ipaddress.IPv6Address(reader.take(16)))
    elif kind == NAME:
        host = text_of_name(reader.block8(), "the host name")
    else:
        raise RemoteProtocolError(f"address type {kind} is none of 1 (IPv4), 3 (name), 4 (IPv6)")
    return host, reader.u16()


def dotted(raw: bytes) -> str:
    return ".".join(map(str, raw))


def split_address(datagram: bytes | memoryview, offset: int = 0) -> tuple[str, int, int]:
    """Host, port and the offset behind the address that stands at ``offset`` of a whole datagram.

    Raises `RemoteProtocolError`, also when the datagram ends within the address.
    """
    reader = Reader(datagram[offset:], "the datagram's address")
    host, port = read_address(reader)
    return host, port, offset + reader.offset
