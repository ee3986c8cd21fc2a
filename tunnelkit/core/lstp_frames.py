"""Cuts a stream of bytes into LSTP messages, however it comes in pieces.

SERVICE_DATA is passed on as it arrives, piece by piece and uncopied, once its
header has been accepted; the body of any other message is collected first.
"""

from __future__ import annotations

from typing import Protocol

from tunnelkit.wire.lstp import HEADER, HEADER_SIZE, MessageType, check_header

_DATA = int(MessageType.SERVICE_DATA)


class FrameSink(Protocol):
    """Who is told of the messages."""

    def data_begins(self, length: int, flags: int, channel: int) -> None:
        """Header of a SERVICE_DATA; its body follows."""

    def data(self, piece: memoryview) -> None:
        """Part of its body."""

    def data_ended(self) -> None:
        """All of its body has come."""

    def message(self, kind: int, flags: int, channel: int, body: bytes) -> None:
        """Any other message, whole."""


class FrameCutter:
    """``closed`` set by the sink stops it: the rest of the bytes is ignored."""

    __slots__ = ("_body", "_data_left", "_header", "_waiting", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._header = bytearray()
        self._body: bytearray | None = None
        self._waiting = (0, 0, 0, 0)
        """length, type, flags and channel of the message whose body is being collected."""
        self._data_left = 0

    def cut(self, data: memoryview, sink: FrameSink) -> None:
        """Tell ``sink`` of what ``data`` completes.

        Raises `RemoteProtocolError` for a header that no message may have, and
        whatever the sink raises.
        """
        position, end = 0, len(data)
        while position < end and not self.closed:
            if self._data_left:
                size = min(self._data_left, end - position)
                self._data_left -= size
                sink.data(data[position : position + size])
                position += size
                if not self._data_left:
                    sink.data_ended()
                continue
            if self._body is not None:
                length, kind, flags, channel = self._waiting
                size = min(length - len(self._body), end - position)
                self._body += data[position : position + size]
                position += size
                if len(self._body) == length:
                    body = bytes(self._body)
                    self._body = None
                    sink.message(kind, flags, channel, body)
                continue
            if self._header or end - position < HEADER_SIZE:
                size = min(HEADER_SIZE - len(self._header), end - position)
                self._header += data[position : position + size]
                position += size
                if len(self._header) < HEADER_SIZE:
                    return
                length, kind, flags, _, channel = HEADER.unpack(self._header)
                self._header.clear()
            else:
                length, kind, flags, _, channel = HEADER.unpack_from(data, position)
                position += HEADER_SIZE
            check_header(length, kind)
            if kind == _DATA:
                sink.data_begins(length, flags, channel)
                self._data_left = length
                if not length:
                    sink.data_ended()
            elif length <= end - position:
                body = bytes(data[position : position + length])
                position += length
                sink.message(kind, flags, channel, body)
            else:
                self._waiting = (length, kind, flags, channel)
                self._body = bytearray()
