"""TLS records, cut out of a byte stream without looking into them (RFC 8446 5.1).

A TLS session that is taken off its carrier must not be fed a byte of what follows
it. In TLS 1.3 close_notify looks like any other record, so records are fed one at
a time; what has not been fed when the session has ended belongs to the next stage.
"""

from __future__ import annotations

HEADER_SIZE = 5
"""Bytes of a header: type 1, version 2, length 2."""
_LONGEST = (1 << 14) + 256
"""Bytes that a record may have behind its header; a longer one is passed on as it comes, and TLS
refuses it by its header."""


class RecordCutter:
    """Holds at most one record that is not complete, and what came behind it at once."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def add(self, data: memoryview) -> None:
        """Bytes that have come, cut anywhere; they are copied."""
        self._held += data

    def next(self) -> bytes:
        """The next record, header included; empty if none is complete."""
        held = self._held
        if len(held) < HEADER_SIZE:
            return b""
        length = int.from_bytes(held[3:5], "big")
        size = HEADER_SIZE + length
        if length > _LONGEST:
            size = len(held)
        if len(held) < size:
            return b""
        record = bytes(held[:size])
        del held[:size]
        return record

    def rest(self) -> bytes:
        """Everything that is held, which is given away."""
        rest = bytes(self._held)
        self._held.clear()
        return rest
