"""Where bodies of HTTP/1.1 messages end (RFC 9112, section 6).

A request whose end two programs could see at different places is refused: that is
what request smuggling lives on. A response is refused only if its end is in doubt
here: behind it comes nothing, and its framing is written anew for the client.
"""

from __future__ import annotations

import re

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.http_head import MAX_HEAD, RequestHead, ResponseHead

MAX_CHUNK_LINE = 4096
"""Bytes of the line before a chunk, its extensions included."""

_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LENIENT_CHUNK_LINE = re.compile(rb"0*" + _CHUNK_LINE.pattern)
_LAST_CHUNK = b"0\r\n\r\n"


class Body:
    """Takes the body off a stream of bytes; this one has none."""

    done = True
    """Nothing of the stream belongs to it any more."""
    length: int | None = 0
    """Bytes in all, if that is known from the beginning."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """The payload in ``data``, and what stands behind the body."""
        return b"", data

    def end(self) -> bool:
        """The stream has ended; whether the body is complete."""
        return self.done


class LengthBody(Body):
    """As long as Content-Length says."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._left = length
        self.done = length == 0

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`."""
        if len(data) <= self._left:
            payload, rest = data, b""
        else:
            payload, rest = data[: self._left], data[self._left :]
        self._left -= len(payload)
        self.done = self._left == 0
        return payload, rest


class UntilClose(Body):
    """Everything until the connection ends; only of responses."""

    done = False
    length = None

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`."""
        return data, b""

    def end(self) -> bool:
        """See `Body`."""
        self.done = True
        return True


class ChunkedBody(Body):
    """Chunks; their extensions and the trailer fields are dropped, as a proxy may."""

    length = None

    def __init__(self, lenient: bool = False) -> None:
        """``lenient``: a size may have any number of zeros before it."""
        self._size_line = _LENIENT_CHUNK_LINE if lenient else _CHUNK_LINE
        self.done = False
        self._buffer = b""
        self._left = 0
        self._want_end = False
        self._trailer = 0
        """Bytes of the trailer section so far, at least 1 once it has begun."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`; raises `RemoteProtocolError`."""
        data, self._buffer = self._buffer + data, b""
        payload = []
        at = 0
        while not self.done:
            if self._left:
                piece = data[at : at + self._left]
                if not piece:
                    break
                payload.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._want_end = True
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                self._keep(data[at:])
                at = len(data)
                break
            self._line(data[at:line_end])
            at = line_end + 2
        return b"".join(payload), data[at:]

    def _keep(self, rest: bytes) -> None:
        longest = 1 if self._want_end else MAX_CHUNK_LINE
        if len(rest) > longest or b"\n" in rest:
            raise RemoteProtocolError("a chunk of the HTTP body is malformed")
        self._buffer = rest

    def _line(self, line: bytes) -> None:
        if self._trailer:
            self._trailer += len(line) + 2
            if self._trailer > MAX_HEAD or b"\n" in line or b"\r" in line:
                raise RemoteProtocolError("the trailer of the HTTP body is malformed")
            self.done = not line
        elif self._want_end:
            if line:
                raise RemoteProtocolError("a chunk of the HTTP body is longer than it says")
            self._want_end = False
        else:
            match = self._size_line.fullmatch(line[: MAX_CHUNK_LINE + 1])
            if match is None or len(line) > MAX_CHUNK_LINE:
                raise RemoteProtocolError("a chunk of the HTTP body has no size")
            self._left = int(match[1], 16)
            if not self._left:
                self._trailer = 1


def chunk(payload: bytes) -> bytes:
    """``payload``, not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def last_chunk() -> bytes:
    """What ends a chunked body."""
    return _LAST_CHUNK


def request_body(head: RequestHead) -> Body:
    """What follows the head of a request; raises `RemoteProtocolError` if that is not certain."""
    lengths = list(head.values("Content-Length"))
    codings = _codings(head)
    if codings:
        if lengths:
            raise RemoteProtocolError("an HTTP message with both a length and a transfer encoding")
        _demand_chunked(codings, head)
        return ChunkedBody()
    if not lengths:
        return Body()
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise RemoteProtocolError("an HTTP message without one clear length")
    return LengthBody(int(lengths[0]))


def response_body(head: ResponseHead, method: str) -> Body:
    """What follows the head of a response to ``method``; raises `RemoteProtocolError`.

    Chunks count more than a length; lengths that differ are refused all the same.
    """
    length = response_length(head)
    codings = [coding for coding in _codings(head) if coding != "identity"]
    if codings:
        _demand_chunked(codings, head)
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return Body()
    if codings:
        return ChunkedBody(lenient=True)
    return UntilClose() if length is None else LengthBody(length)


def response_length(head: ResponseHead) -> int | None:
    """What Content-Length says, however often it says the same; None: nothing.

    Raises `RemoteProtocolError` for lengths that differ, or are none.
    """
    texts = [
        text.strip(" \t") for value in head.values("Content-Length") for text in value.split(",")
    ]
    if not all(map(_LENGTH.fullmatch, texts)) or len(set(map(int, texts))) > 1:
        raise RemoteProtocolError("an HTTP message without one clear length")
    return int(texts[0]) if texts else None


def _codings(head: RequestHead | ResponseHead) -> list[str]:
    return [value.strip().lower() for value in head.values("Transfer-Encoding")]


def _demand_chunked(codings: list[str], head: RequestHead | ResponseHead) -> None:
    if codings != ["chunked"] or head.version == "1.0":
        raise RemoteProtocolError("an HTTP message with a transfer encoding other than chunked")
