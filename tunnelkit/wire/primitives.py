"""The one bounds-checked reader, and the writer, of binary fields; every integer is big-endian.

A codec that finds its input too short gets `Truncated`: one that reads a whole
message lets it pass (it is a `RemoteProtocolError`), one that reads from a
stream catches it and waits for more.
"""

from __future__ import annotations

import struct

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


class Truncated(RemoteProtocolError):
    """A message ended before all of its fields had come."""


class Reader:
    """Takes fields one after the other from ``data``; ``what`` names it in errors.

    Nothing is copied or allocated beyond the field asked for, and a length is
    compared with what is there first (rule X7). Every method raises
    `Truncated` if the data ends too early.
    """

    __slots__ = ("_data", "_what", "offset")

    def __init__(self, data: bytes | bytearray | memoryview, what: str) -> None:
        self._data = memoryview(data)
        self._what = what
        self.offset = 0
        """Bytes taken so far."""

    @property
    def remaining(self) -> int:
        """Bytes not taken yet."""
        return len(self._data) - self.offset

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        start = self.offset
        if size > len(self._data) - start:
            raise Truncated(
                f"{self._what}: {size} bytes expected at offset {start},"
                f" {len(self._data) - start} are there"
            )
        self.offset = start + size
        return bytes(self._data[start : self.offset])

    def u8(self) -> int:
        """An unsigned byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """2 bytes, unsigned."""
        return int(_U16.unpack(self.take(2))[0])

    def u32(self) -> int:
        """4 bytes, unsigned."""
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        """8 bytes, unsigned."""
        return int(_U64.unpack(self.take(8))[0])

    def block8(self) -> bytes:
        """A length of 1 byte, then that many bytes."""
        return self.take(self.u8())

    def block16(self) -> bytes:
        """A length of 2 bytes, then that many bytes."""
        return self.take(self.u16())

    def until(self, mark: int, most: int) -> bytes:
        """The bytes before the next byte ``mark``, which is taken too; at most ``most``.

        Raises `Truncated` if there is no mark yet and one could still come,
        `RemoteProtocolError` if it does not come in time.
        """
        start = self.offset
        window = bytes(self._data[start : start + most + 1])
        end = window.find(mark)
        if end >= 0:
            self.offset = start + end + 1
            return window[:end]
        if len(window) > most:
            raise RemoteProtocolError(f"{self._what}: a field is longer than {most} bytes")
        raise Truncated(f"{self._what}: the end of a field is missing")

    def rest(self) -> bytes:
        """Everything not taken yet."""
        return self.take(self.remaining)

    def finish(self) -> None:
        """The message ends here; raises `RemoteProtocolError` if bytes are left."""
        if self.remaining:
            raise RemoteProtocolError(f"{self._what}: {self.remaining} bytes too many")


class Writer:
    """Builds a message from fields; a value that does not fit is a `LocalProtocolError`."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def _integer(self, value: int, size: int) -> Writer:
        try:
            self._buffer += value.to_bytes(size, "big")
        except OverflowError:
            raise LocalProtocolError(f"{value} does not fit {size} unsigned bytes") from None
        return self

    def u8(self, value: int) -> Writer:
        """An unsigned byte."""
        return self._integer(value, 1)

    def u16(self, value: int) -> Writer:
        """2 bytes, unsigned."""
        return self._integer(value, 2)

    def u32(self, value: int) -> Writer:
        """4 bytes, unsigned."""
        return self._integer(value, 4)

    def u64(self, value: int) -> Writer:
        """8 bytes, unsigned."""
        return self._integer(value, 8)

    def put(self, data: bytes | bytearray | memoryview) -> Writer:
        """Bytes as they are."""
        self._buffer += data
        return self

    def block8(self, data: bytes) -> Writer:
        """A length of 1 byte, then ``data``."""
        return self.u8(len(data)).put(data)

    def block16(self, data: bytes) -> Writer:
        """A length of 2 bytes, then ``data``."""
        return self.u16(len(data)).put(data)

    def done(self) -> bytes:
        """The message so far."""
        return bytes(self._buffer)
