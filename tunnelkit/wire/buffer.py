"""Cutting a stream into messages with LSTP's header where not much is said (rules X4, X7).

The mux of a tunnel that is up has its own parser on its hot path; this one is
for the few messages before, and for the Secure Proxy's.
"""

from __future__ import annotations

from collections.abc import Callable
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

    At most ``most_bytes`` and ``most_messages`` in all (rule X7; None: no limit, for a peer that
    has proved who it is); a message that would exceed that, or that ``check`` refuses by its
    length and type, is refused when its header has come and before its body is kept. Bytes
    behind the last message taken are not looked at: they are `leftover` (rule X4).
    """

    __slots__ = ("_buffer", "_bytes", "_check", "_messages", "most_bytes", "most_messages")

    def __init__(
        self,
        check: Callable[[int, int], None] = check_header,
        most_bytes: int | None = MAX_SETUP_BYTES,
        most_messages: int | None = MAX_SETUP_MESSAGES,
    ) -> None:
        self._buffer = bytearray()
        self._bytes = 0
        self._messages = 0
        self._check = check
        self.most_bytes = most_bytes
        self.most_messages = most_messages

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes behind those that are there."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Take one message; None if it is not all there yet.

        Raises `RemoteProtocolError` for an unknown type or too much of anything.
        """
        buffer = self._buffer
        if len(buffer) < HEADER_SIZE:
            return None
        length, kind, flags, _, channel = HEADER.unpack_from(buffer)
        self._check(length, kind)
        end = HEADER_SIZE + length
        if self.most_bytes is not None and self._bytes + end > self.most_bytes:
            raise RemoteProtocolError(f"more than {self.most_bytes} bytes of setup")
        if self.most_messages is not None and self._messages >= self.most_messages:
            raise RemoteProtocolError(f"more than {self.most_messages} messages of setup")
        if len(buffer) < end:
            return None
        body = bytes(memoryview(buffer)[HEADER_SIZE:end])
        del buffer[:end]
        self._bytes += end
        self._messages += 1
        return Frame(kind, flags, channel, body)

    def uncount(self, frame: Frame) -> None:
        """Leave ``frame`` out of the totals: a keepalive, of which a long wait brings many."""
        self._bytes -= HEADER_SIZE + len(frame.body)
        self._messages -= 1

    @property
    def held(self) -> int:
        """Bytes behind the last message taken."""
        return len(self._buffer)

    @property
    def leftover(self) -> bytes:
        """Exactly the bytes behind the last message taken."""
        return bytes(self._buffer)
