"""The hellos of a TLS handshake as both sides must have seen them, by their digest (row S15)."""

from __future__ import annotations

import hashlib

from tunnelkit.errors import RemoteProtocolError

CLIENT_HELLO = 1
SERVER_HELLO = 2
"""Types of handshake messages (RFC 8446 4); a HelloRetryRequest is a ServerHello."""

MAX_HELLO = 64 * 1024
"""Bytes of the message; a browser's has about 2,000."""
MAX_RECORDS = 64
_HANDSHAKE = 22
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4


class HelloDigest:
    """SHA-256 of the first handshake message of one direction, which must be of type ``kind``.

    The message without the headers of the TLS records that it came in: those
    may be cut anew on the way. Each byte is looked at once (rule X24).
    """

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._header = bytearray()
        """Of the record that has just begun."""
        self._left = 0
        """Bytes of the record that have not come."""
        self._records = 0
        self._start = bytearray()
        """The header of the message."""
        self._wanted: int | None = None
        """Bytes of the message that have not come."""
        self._hash = hashlib.sha256()

    def feed(self, data: bytes | bytearray | memoryview) -> str | None:
        """Take bytes, cut anywhere; the digest in hex once the message is complete.

        What comes behind it is not looked at. Raises `RemoteProtocolError` if this is no such
        message.
        """
        view = memoryview(data)
        while len(view):
            if not self._left:
                size = min(_RECORD_HEADER - len(self._header), len(view))
                self._header += view[:size]
                view = view[size:]
                if len(self._header) == _RECORD_HEADER:
                    self._begin_record()
                continue
            size = min(self._left, len(view))
            self._left -= size
            if self._take(view[:size]):
                return self._hash.hexdigest()
            view = view[size:]
        return None

    def _begin_record(self) -> None:
        self._left = int.from_bytes(self._header[3:], "big")
        self._records += 1
        if self._header[0] != _HANDSHAKE or not self._left or self._records > MAX_RECORDS:
            raise RemoteProtocolError("this is no hello of TLS")
        self._header.clear()

    def _take(self, piece: memoryview) -> bool:
        """Part of the message, and perhaps of the next: whether it is complete."""
        if self._wanted is None:
            size = min(_MESSAGE_HEADER - len(self._start), len(piece))
            self._start += piece[:size]
            piece = piece[size:]
            if len(self._start) < _MESSAGE_HEADER:
                return False
            self._wanted = int.from_bytes(self._start[1:], "big")
            if self._start[0] != self._kind or self._wanted > MAX_HELLO:
                raise RemoteProtocolError("another message of TLS comes first")
            self._hash.update(self._start)
        part = piece[: self._wanted]
        self._hash.update(part)
        self._wanted -= len(part)
        return not self._wanted
