"""Questions for the addresses of a host, and what an answer says (RFC 1035, 3596)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.dns import HEADER, LONGEST_NAME, POINTER, skip_name

A, CNAME, AAAA = 1, 5, 28
LONGEST_LABEL = 63
RECORDS = 256
"""Records of an answer that are looked at."""
ALIASES = 16
"""Names that may stand for each other in a row."""

_IN = 1
_RECURSION_DESIRED = 0x0100
_COUNTS = struct.Struct(">6H")
_FIXED = struct.Struct(">HHIH")
_SIZES = {A: 4, AAAA: 16}


def encode_name(host: str) -> bytes:
    """``host`` as labels; raises `LocalProtocolError` for what cannot be a name."""
    labels = host.removesuffix(".").split(".")
    if not host.isascii() or not all(0 < len(label) <= LONGEST_LABEL for label in labels):
        raise LocalProtocolError(f"{host!r} is not a name that DNS can carry")
    name = b"".join(bytes([len(label)]) + label.encode("ascii") for label in labels) + b"\0"
    if len(name) > LONGEST_NAME:
        raise LocalProtocolError(f"{host!r} is longer than DNS can carry")
    return name


def address_query(host: str, kind: int, number: int = 0) -> bytes:
    """A query for the records of ``kind`` (`A` or `AAAA`) of ``host``."""
    head = _COUNTS.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0)
    return head + encode_name(host) + struct.pack(">HH", kind, _IN)


def read_name(message: bytes, at: int) -> bytes:
    """The name at ``at``, its labels in lower case, whatever it points to.

    Pointers only lead back, so this ends. Raises `RemoteProtocolError`.
    """
    labels: list[bytes] = []
    size, limit = 0, len(message)
    while True:
        if at >= limit:
            raise RemoteProtocolError("DNS message: a name does not end")
        length = message[at]
        if length & POINTER == POINTER:
            if at + 2 > len(message):
                raise RemoteProtocolError("DNS message: a name does not end")
            target = (length & ~POINTER) << 8 | message[at + 1]
            if target >= at:
                raise RemoteProtocolError("DNS message: a name points forward")
            # What is pointed to ends before the pointer: no byte is read twice.
            limit, at = at, target
            continue
        if length & POINTER:
            raise RemoteProtocolError("DNS message: a label of an unknown kind")
        size += 1 + length
        if at + 1 + length > limit or size > LONGEST_NAME:
            raise RemoteProtocolError("DNS message: a name does not end")
        if not length:
            return b"".join(labels) + b"\0"
        labels.append(message[at : at + 1 + length].lower())
        at += 1 + length


def dotted(name: bytes) -> str:
    """Labels as text with dots between them; ``.`` for none. What is not ASCII is escaped."""
    labels, at = [], 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]].decode("ascii", "backslashreplace"))
        at += 1 + name[at]
    return ".".join(labels) or "."


def is_within(name: bytes, domain: bytes) -> bool:
    """Whether ``name`` is ``domain`` or below it; both as labels in lower case."""
    at = len(name) - len(domain)
    start = 0
    while start < at:
        start += 1 + name[start]
    return start == at and name[at:] == domain


def read_addresses(answer: bytes, kind: int) -> list[str]:
    """The addresses that ``answer`` gives for the name of its question, through aliases.

    ``kind`` is `A` or `AAAA`. Records of other names are not looked at. Raises
    `RemoteProtocolError`.
    """
    if len(answer) < HEADER:
        raise RemoteProtocolError("DNS message: shorter than its header")
    _, _, questions, count, _, _ = _COUNTS.unpack_from(answer)
    if questions != 1:
        raise RemoteProtocolError("DNS message: not one question")
    name = read_name(answer, HEADER)
    at = skip_name(answer, HEADER) + 4
    aliases: dict[bytes, bytes] = {}
    found: dict[bytes, list[str]] = {}
    for _ in range(min(count, RECORDS)):
        start = at
        at = skip_name(answer, at)
        if at + _FIXED.size > len(answer):
            raise RemoteProtocolError("DNS message: a record does not end")
        of_kind, of_class, _, size = _FIXED.unpack_from(answer, at)
        at += _FIXED.size
        data = answer[at : at + size]
        if len(data) < size:
            raise RemoteProtocolError("DNS message: a record does not end")
        if of_class == _IN and of_kind == CNAME:
            aliases.setdefault(read_name(answer, start), read_name(answer, at))
        elif of_class == _IN and of_kind == kind:
            if size != _SIZES[kind]:
                raise RemoteProtocolError("DNS message: an address of a wrong length")
            address = IPv4Address(data) if kind == A else IPv6Address(data)
            found.setdefault(read_name(answer, start), []).append(str(address))
        at += size
    for _ in range(ALIASES):
        if name in found:
            return found[name]
        if name not in aliases:
            return []
        name = aliases[name]
    return []
