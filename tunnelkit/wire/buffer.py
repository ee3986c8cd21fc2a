"""Cutting a stream into LSTP messages while nobody is authenticated yet (rules X4, X7).

The mux of a tunnel that is up has its own parser on its hot path; this one is
for the few messages before.
"""

from __future__ import annotations

from typing import NamedTuple

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.lstp import HEADER, HEADER_SIZE, check_header

MAX_SETUP_BYTES = 65536
MAX_SETUP_MESSAGES = 32


class Frame(NamedTuple):
    """One message, not decoded: its header's fields and its body."""

    type: int
    flags: int
    channel: int
    body: bytes


class FrameReader:
    """Takes bytes as they come, cut anywhere, and gives whole messages one at a time.

    At most 64 KiB and 32 messages in all (rule X7); a message that would
    exceed that, or its own limit, is refused when its header has come and
    before its body is kept. Bytes behind the last message taken are not
    looked at: they are `leftover` (rule X4).
    """

    __slots__ = ("_buffer", "_bytes", "_messages")

    def __init__(self) -> None:
        self._buffer = b""
        self._bytes = 0
        self._messages = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes behind those that are there."""
        self._buffer = self._buffer + data if self._buffer else bytes(data)

    def next_frame(self) -> Frame | None:
        """Take one message; None if it is not all there yet.

        Raises `RemoteProtocolError` for an unknown type or too much of anything.
        """
        buffer = self._buffer
        if len(buffer) < HEADER_SIZE:
            return None
        length, kind, flags, _, channel = HEADER.unpack_from(buffer)
        check_header(length, kind)
        end = HEADER_SIZE + length
        if self._bytes + end > MAX_SETUP_BYTES:
            raise RemoteProtocolError(f"more than {MAX_SETUP_BYTES} bytes of setup")
        if self._messages >= MAX_SETUP_MESSAGES:
            raise RemoteProtocolError(f"more than {MAX_SETUP_MESSAGES} messages of setup")
        if len(buffer) < end:
            return None
        self._buffer = buffer[end:]
        self._bytes += end
        self._messages += 1
        return Frame(kind, flags, channel, buffer[HEADER_SIZE:end])

    def uncount(self, frame: Frame) -> None:
        """Leave ``frame`` out of the totals: a keepalive, of which a long wait brings many."""
        self._bytes -= HEADER_SIZE + len(frame.body)
        self._messages -= 1

    @property
    def leftover(self) -> bytes:
        """Exactly the bytes behind the last message taken."""
        return self._buffer
