"""What a TLS ClientHello asks for, read without taking part in TLS (RFC 8446, 6066, 7301; U17, S1).

A ClientHello with a post-quantum key share is longer than a TCP segment, and
may be cut anywhere, also into several TLS records. It comes from a stranger, so
each byte of it is looked at once, however it is cut (rule X24).
"""

from __future__ import annotations

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Truncated

MAX_HELLO = 16 * 1024
"""Bytes of the handshake message, its header of 4 included; ours has about 1,700."""
MAX_RECORDS = 64
"""TLS records in which it has to be complete."""

UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
"""The fatal alert for a server name that leads nowhere."""

_HANDSHAKE = 22
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_MAX_RECORD = 1 << 14
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16
_HOST_NAME = 0
_WHAT = "ClientHello"
_NAME_SIGNS = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")
_MAX_NAME = 255


@attrs.frozen
class ClientHello:
    """What decides where a connection goes. Other extensions, 0xfe0d (ECH) too, change nothing."""

    name: str
    """The server name in lower case; empty if there is none."""
    alpn: tuple[bytes, ...] = ()
    """The protocols offered, the client's favourite first."""


class ClientHelloReader:
    """Takes the first bytes of a connection as they come, cut anywhere.

    At most `MAX_RECORDS` records and `MAX_HELLO` bytes of handshake are taken.
    """

    __slots__ = ("_header", "_left", "_length", "_message", "_records", "_seen")

    def __init__(self) -> None:
        self._seen = bytearray()
        self._header = bytearray()
        """Of the record that has just begun."""
        self._left = 0
        """Bytes of the record that have not come."""
        self._message = bytearray()
        self._length: int | None = None
        """Of the whole message, once its header has come."""
        self._records = 0

    @property
    def seen(self) -> bytes:
        """Everything that was fed: what whoever serves the connection has to get first."""
        return bytes(self._seen)

    def feed(self, data: bytes | bytearray | memoryview) -> ClientHello | None:
        """Take bytes; the hello once it is complete. What comes behind it is not looked at.

        Raises `RemoteProtocolError` for what is no ClientHello, or too much of one, and
        `LocalProtocolError` behind a complete one.
        """
        if self._length is not None and len(self._message) == self._length:
            raise LocalProtocolError(f"{_WHAT}: it is complete already")
        self._seen += data
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if not self._left:
                size = min(_RECORD_HEADER - len(self._header), end - at)
                self._header += view[at : at + size]
                at += size
                self._check_header()
                continue
            size = min(self._left, end - at)
            self._message += view[at : at + size]
            self._left -= size
            at += size
            if self._check_message():
                return _hello_in(Reader(self._message, _WHAT))
        return None

    def _check_header(self) -> None:
        """Refuse a record as early as its header shows that it is none."""
        header = self._header
        if header[0] != _HANDSHAKE:
            raise RemoteProtocolError(f"{_WHAT}: this is not TLS")
        if len(header) > 1 and header[1] != 3:
            raise RemoteProtocolError(f"{_WHAT}: an unknown version of TLS")
        if len(header) < _RECORD_HEADER:
            return
        size = int.from_bytes(header[3:], "big")
        if not 0 < size <= _MAX_RECORD:
            raise RemoteProtocolError(f"{_WHAT}: a record of {size} bytes")
        self._records += 1
        if self._records > MAX_RECORDS:
            raise RemoteProtocolError(f"{_WHAT}: not complete within {MAX_RECORDS} records")
        self._left = size
        header.clear()

    def _check_message(self) -> bool:
        """Whether the message is complete."""
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise RemoteProtocolError(f"{_WHAT}: another message of TLS comes first")
        if self._length is None:
            if len(message) < _MESSAGE_HEADER:
                return False
            self._length = _MESSAGE_HEADER + int.from_bytes(message[1:4], "big")
            if self._length > MAX_HELLO:
                raise RemoteProtocolError(f"{_WHAT}: {self._length} bytes are too many")
        if len(message) + self._left > self._length:
            raise RemoteProtocolError(f"{_WHAT}: more follows it in its record")
        return len(message) == self._length


def _hello_in(message: Reader) -> ClientHello:
    try:
        return _fields_of(message)
    except Truncated as error:
        # The message is complete: a field in it says it is longer.
        raise RemoteProtocolError(str(error)) from None


def _fields_of(hello: Reader) -> ClientHello:
    hello.take(_MESSAGE_HEADER)
    hello.u16()  # legacy_version
    hello.take(32)  # random
    if len(hello.block8()) > 32:
        raise RemoteProtocolError(f"{_WHAT}: the session id is too long")
    suites = hello.block16()
    if not suites or len(suites) % 2:
        raise RemoteProtocolError(f"{_WHAT}: not a list of cipher suites")
    if not hello.block8():
        raise RemoteProtocolError(f"{_WHAT}: no compression methods")
    return read_extensions(hello)


def read_extensions(hello: Reader) -> ClientHello:
    """What the extensions at the end of a hello ask for; ``hello`` has been read up to them."""
    if not hello.remaining:
        return ClientHello("")
    extensions = Reader(hello.block16(), _WHAT)
    hello.finish()
    found: set[int] = set()
    name = ""
    alpn: tuple[bytes, ...] = ()
    while extensions.remaining:
        kind = extensions.u16()
        content = extensions.block16()
        if kind in found:
            raise RemoteProtocolError(f"{_WHAT}: extension {kind} comes twice")
        found.add(kind)
        if kind == _SERVER_NAME:
            name = _host_name(content)
        elif kind == _ALPN:
            alpn = _protocols(content)
    return ClientHello(name, alpn)


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


def _protocols(content: bytes) -> tuple[bytes, ...]:
    extension = Reader(content, _WHAT)
    names = Reader(extension.block16(), _WHAT)
    extension.finish()
    protocols = []
    while names.remaining:
        protocols.append(names.block8())
    if not protocols or b"" in protocols:
        raise RemoteProtocolError(f"{_WHAT}: not a list of protocols (ALPN)")
    return tuple(protocols)
