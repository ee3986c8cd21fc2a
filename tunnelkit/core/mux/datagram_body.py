"""One SERVICE_DATA on a channel for UDP, collected whole, and the address in front of it."""

from __future__ import annotations

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.socks_address import split_address

ANYWHERE = "udp:*"
MAX_DATAGRAM = 65_535
"""Bytes of the largest datagram."""
MAX_ADDRESS = 1 + 1 + 255 + 2
"""Bytes of the longest SOCKS 5 address."""


class DatagramBody:
    """What a channel that carries datagrams has besides its offsets.

    ``remote`` is the far address of all its datagrams; None: each names its own.
    """

    __slots__ = ("_body", "_length", "_whole", "remote")

    def __init__(self, remote: tuple[str, int] | None) -> None:
        self.remote = remote
        self._length = 0
        self._whole: memoryview | None = None
        self._body = bytearray()

    @classmethod
    def of(cls, destination: str) -> DatagramBody | None:
        """For a channel to ``destination``; None if it is a stream."""
        if destination == ANYWHERE:
            return cls(None)
        kind, _, rest = destination.partition(":")
        if kind != "udp":
            return None
        host, _, port = rest.rpartition(":")
        # What is no address at all is refused by whoever is asked for it.
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
        return cls((host.removeprefix("[").removesuffix("]"), number))

    def begins(self, length: int) -> None:
        """A datagram of ``length`` bytes, address included, follows."""
        most = MAX_DATAGRAM if self.remote is not None else MAX_DATAGRAM + MAX_ADDRESS
        if length > most:
            raise RemoteProtocolError(f"a datagram of {length} bytes; at most {most} are possible")
        self._length = length

    @property
    def is_empty(self) -> bool:
        """What has begun has no bytes at all."""
        return not self._length

    def piece(self, data: memoryview) -> None:
        """Part of it."""
        if len(data) == self._length:
            self._whole = data
        else:
            self._body += data

    def ended(self) -> tuple[tuple[str, int], memoryview, int]:
        """The far address, the payload, and the size of both on the wire."""
        body = self._whole if self._whole is not None else memoryview(self._body)
        self._whole = None
        self._body = bytearray()
        if self.remote is not None:
            return self.remote, body, len(body)
        host, port, offset = split_address(body)
        return (host, port), body[offset:], len(body)
