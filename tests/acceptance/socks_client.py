"""A small SOCKS 5 client, written from RFC 1928: BIND and UDP ASSOCIATE."""

from __future__ import annotations

import socket

LIMIT = 10.0
"""Seconds that any answer may take."""

BIND, UDP_ASSOCIATE = 2, 3


class SocksClient:
    """One connection to a SOCKS 5 server at ``HOST:PORT``."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self.control = socket.create_connection((host, int(port)), LIMIT)
        self.control.sendall(b"\x05\x01\x00")
        assert self._exactly(2) == b"\x05\x00"

    def request(self, command: int, host: str, port: int) -> tuple[int, tuple[str, int]]:
        """The reply code and the address in the reply."""
        address = socket.inet_aton(host) + port.to_bytes(2, "big")
        self.control.sendall(bytes((5, command, 0, 1)) + address)
        return self.reply()

    def reply(self) -> tuple[int, tuple[str, int]]:
        """The next reply."""
        head = self._exactly(4)
        assert head[0] == 5
        assert head[3] == 1
        host = socket.inet_ntoa(self._exactly(4))
        return head[1], (host, int.from_bytes(self._exactly(2), "big"))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.control.recv(size - len(data))
            assert piece, "the server closed the connection"
            data += piece
        return data

    def close(self) -> None:
        """Leave."""
        self.control.close()


def wrapped(host: str, port: int, data: bytes, fragment: int = 0) -> bytes:
    """A datagram for the relay."""
    return bytes((0, 0, fragment, 1)) + socket.inet_aton(host) + port.to_bytes(2, "big") + data


def unwrapped(datagram: bytes) -> tuple[tuple[str, int], bytes]:
    """The sender, and what it sent."""
    assert datagram[:4] == b"\0\0\0\1"
    address = socket.inet_ntoa(datagram[4:8]), int.from_bytes(datagram[8:10], "big")
    return address, datagram[10:]
