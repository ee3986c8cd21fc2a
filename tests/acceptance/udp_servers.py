"""UDP servers on loopback, each in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

Answer = Callable[[bytes], bytes | None]


class UdpServer:
    """Answers datagrams with what ``answer`` makes of them, until it is closed."""

    def __init__(self, answer: Answer, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.host = host
        self.port = int(self.sock.getsockname()[1])
        self.clients: list[tuple[str, int]] = []
        """Who has sent something, in order."""
        self._answer = answer
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, client = self.sock.recvfrom(65_535)
            if self._closing:
                return
            self.clients.append(client[:2])
            answer = self._answer(data)
            if answer is not None:
                self.sock.sendto(answer, client)

    def close(self) -> None:
        """Stop."""
        self._closing = True
        with socket.socket(self.sock.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (self.host, self.port))
        self._thread.join(5)
        self.sock.close()


def reversed_bytes(data: bytes) -> bytes:
    """What is obviously not what was sent."""
    return data[::-1]


def name_server(query: bytes) -> bytes:
    """Answers every question with the address 192.0.2.77."""
    end = query.index(b"\0", 12) + 5
    head = query[:2] + b"\x81\x80" + b"\0\1\0\1\0\0\0\0"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes((192, 0, 2, 77))
    return head + query[12:end] + answer
