"""The server name in a TLS ClientHello, read without taking part in TLS (RFC 8446, RFC 6066; U17).

A ClientHello with a post-quantum key share is longer than a TCP segment, and
may be cut anywhere, also into several TLS records.
"""

from __future__ import annotations

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Truncated

MAX_HELLO = 16 * 1024
"""Bytes of TLS records in which the ClientHello has to be complete; ours has about 1,700."""

UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
"""The fatal alert for a server name that leads nowhere."""

_HANDSHAKE = 22
_MAX_RECORD = 1 << 14
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_WHAT = "ClientHello"
_NAME_SIGNS = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")
_MAX_NAME = 255


def server_name(data: bytes | bytearray | memoryview) -> str:
    """The name that the client asks for, in lower case; empty if it asks for none.

    ``data``: everything that the client has sent so far. Raises `Truncated`
    while the ClientHello is incomplete, `RemoteProtocolError` if ``data``
    begins with anything else, or after `MAX_HELLO` bytes of it.
    """
    try:
        message = Reader(_client_hello(data), _WHAT)
    except Truncated:
        if len(data) >= MAX_HELLO:
            raise RemoteProtocolError(f"{_WHAT}: not complete within {MAX_HELLO} bytes") from None
        raise
    try:
        return _name_in(message)
    except Truncated as error:
        # The message is complete: a field in it says it is longer.
        raise RemoteProtocolError(str(error)) from None


def _client_hello(data: bytes | bytearray | memoryview) -> bytes:
    """The body of the message that the records hold; raises `Truncated`."""
    records = Reader(data, _WHAT)
    message = bytearray()
    while True:
        if records.u8() != _HANDSHAKE:
            raise RemoteProtocolError(f"{_WHAT}: this is not TLS")
        if records.u8() != 3:
            raise RemoteProtocolError(f"{_WHAT}: an unknown version of TLS")
        records.u8()
        size = records.u16()
        if not 0 < size <= _MAX_RECORD:
            raise RemoteProtocolError(f"{_WHAT}: a record of {size} bytes")
        # What of the record has come tells early that this is no hello.
        message += records.take(min(size, records.remaining))
        if message[:1] not in (b"", bytes([_CLIENT_HELLO])):
            raise RemoteProtocolError(f"{_WHAT}: another message of TLS comes first")
        if len(message) >= 4:
            length = int.from_bytes(message[1:4], "big")
            if length > MAX_HELLO:
                raise RemoteProtocolError(f"{_WHAT}: {length} bytes are too many")
            if len(message) == 4 + length:
                return bytes(message[4:])
            if len(message) > 4 + length:
                raise RemoteProtocolError(f"{_WHAT}: more follows it in its record")


def _name_in(hello: Reader) -> str:
    hello.u16()  # legacy_version
    hello.take(32)  # random
    if len(hello.block8()) > 32:
        raise RemoteProtocolError(f"{_WHAT}: the session id is too long")
    suites = hello.block16()
    if not suites or len(suites) % 2:
        raise RemoteProtocolError(f"{_WHAT}: not a list of cipher suites")
    if not hello.block8():
        raise RemoteProtocolError(f"{_WHAT}: no compression methods")
    if not hello.remaining:
        return ""
    extensions = Reader(hello.block16(), _WHAT)
    hello.finish()
    found: set[int] = set()
    name = ""
    while extensions.remaining:
        kind = extensions.u16()
        content = extensions.block16()
        if kind in found:
            raise RemoteProtocolError(f"{_WHAT}: extension {kind} comes twice")
        found.add(kind)
        if kind == _SERVER_NAME:
            name = _host_name(content)
    return name


def _host_name(content: bytes) -> str:
    extension = Reader(content, _WHAT)
    names = Reader(extension.block16(), _WHAT)
    extension.finish()
    if names.u8() != _HOST_NAME:
        raise RemoteProtocolError(f"{_WHAT}: the server name is not a host name")
    name = names.block16().lower()
    names.finish()
    if not 0 < len(name) <= _MAX_NAME or not _NAME_SIGNS.issuperset(name):
        raise RemoteProtocolError(f"{_WHAT}: the server name is not a name")
    return name.decode("ascii")
