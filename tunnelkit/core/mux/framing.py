"""Cuts a stream of bytes into messages, however it comes in pieces.

Data is passed on as it arrives, piece by piece and uncopied, once its
header has been accepted; the body of any other message is collected first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from types import MappingProxyType
from typing import Protocol

from tunnelkit.core.mux.contract import Data, Event

_NO_LIMITS: Mapping[int, int] = MappingProxyType({})


class FrameSink(Protocol):
    """Who is told of the messages."""

    def takes(self, size: int, flags: int, channel: int) -> bool:
        """Account for a data message of ``size`` bytes that has come in one piece, plain data of a
        channel that may send it: the fast path. False: nothing has been done about it, and it
        comes by the three methods that follow."""

    def data_begins(self, length: int, flags: int, channel: int) -> None:
        """Header of a data message; its body follows."""

    def data(self, piece: memoryview) -> None:
        """Part of its body."""

    def data_ended(self) -> None:
        """All of its body has come."""

    def message(self, kind: int, flags: int, channel: int, body: bytes) -> None:
        """Any other message, whole."""


class FrameCutter:
    """Reads headers of the form ``header``: length and type first, the channel last.

    The field after the type is passed on as ``flags``, whatever it is. ``data_kind`` is the type
    of data and ``max_data`` its largest length; ``check`` refuses a length or type by raising. It
    need not be asked about types that ``limits`` has with a length of at least the message's.
    ``closed`` set by the sink stops it: the rest of the bytes is ignored.
    """

    __slots__ = (
        "_body",
        "_check",
        "_data_kind",
        "_data_left",
        "_form",
        "_header",
        "_header_size",
        "_limits",
        "_max_data",
        "_partial",
        "_waiting",
        "closed",
    )

    def __init__(
        self,
        header: Struct,
        data_kind: int,
        max_data: int,
        check: Callable[[int, int], None],
        limits: Mapping[int, int] = _NO_LIMITS,
    ) -> None:
        self.closed = False
        self._form = header
        self._header_size = header.size
        self._data_kind = data_kind
        self._max_data = max_data
        self._check = check
        self._limits = limits
        self._header = bytearray()
        self._body: bytearray | None = None
        self._waiting = (0, 0, 0, 0)
        """length, type, flags and channel of the message whose body is being collected."""
        self._data_left = 0
        self._partial = False
        """Part of a message has come."""

    def only_data(self, data: memoryview, sink: FrameSink) -> int:
        """The channel, if ``data`` is exactly one data message that ``sink`` takes, and nothing of
        another one has come before; otherwise 0. See `contract.Mux.receive_data`."""
        size = len(data) - self._header_size
        if size <= 0 or self._partial:
            return 0
        fields = self._form.unpack_from(data)
        if fields[0] != size or fields[1] != self._data_kind or size > self._max_data:
            return 0
        channel: int = fields[-1]
        return channel if sink.takes(size, fields[2], channel) else 0

    def cut(self, data: memoryview, sink: FrameSink, events: list[Event]) -> None:
        """Tell ``sink`` of what ``data`` completes; ``events`` is its own list of what happened.

        Raises `RemoteProtocolError` for a header that no message may have, and
        whatever the sink raises.
        """
        self._partial = True
        position, end = 0, len(data)
        header_size = self._header_size
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
            if self._header or end - position < header_size:
                size = min(header_size - len(self._header), end - position)
                self._header += data[position : position + size]
                position += size
                if len(self._header) < header_size:
                    return
                fields = self._form.unpack(self._header)
                self._header.clear()
            else:
                fields = self._form.unpack_from(data, position)
                position += header_size
            length, kind, flags, channel = fields[0], fields[1], fields[2], fields[-1]
            if kind == self._data_kind:
                if not 0 <= length <= self._max_data:
                    self._check(length, kind)
                after = position + length
                if position < after <= end and sink.takes(length, flags, channel):
                    events.append(Data(channel, data[position:after]))
                    position = after
                    continue
                sink.data_begins(length, flags, channel)
                self._data_left = length
                if not length:
                    sink.data_ended()
                continue
            if not 0 <= length <= self._limits.get(kind, -1):
                self._check(length, kind)
            if length <= end - position:
                body = bytes(data[position : position + length])
                position += length
                sink.message(kind, flags, channel, body)
            else:
                self._waiting = (length, kind, flags, channel)
                self._body = bytearray()
        self._partial = bool(self._data_left) or self._body is not None
