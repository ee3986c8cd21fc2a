"""The applications at both sides of a tunnel, as plain sockets and threads."""

from __future__ import annotations

import hashlib
import resource
import selectors
import socket
import threading
from collections.abc import Callable
from types import TracebackType

PIECE = 1 << 16
_PERIOD = (1 << 20) + 7
_STREAM = hashlib.shake_128(b"application data").digest(_PERIOD)
_TWICE = _STREAM + _STREAM


def expected(offset: int, size: int) -> bytes:
    """``size`` bytes, at most 1 MiB, of the stream that `pour` sends, from ``offset`` on."""
    start = offset % _PERIOD
    return _TWICE[start : start + size]


def pour(sock: socket.socket, size: int | None = None) -> int:
    """Send that much of the stream, endlessly by default; how much went before it broke."""
    sent = 0
    try:
        while size is None or sent < size:
            left = PIECE if size is None else min(PIECE, size - sent)
            sent += sock.send(expected(sent, left))
    except OSError:
        pass
    return sent


class Received:
    """What came of a stream that `pour` sent, compared as it comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.size = 0
        self.exact = True
        """Everything so far is what was sent, in its place."""

    def more(self) -> int:
        """Take what comes next; how much, 0 at the clean end. Raises OSError for a reset."""
        data = self.sock.recv(PIECE)
        if data != expected(self.size, len(data)):
            self.exact = False
        self.size += len(data)
        return len(data)

    def at_least(self, size: int) -> None:
        """Take until so much has come."""
        while self.size < size:
            assert self.more(), f"the stream ended after {self.size} bytes"

    def to_the_end(self) -> str:
        """Take everything; ``clean`` or ``reset``."""
        try:
            while self.more():
                pass
        except ConnectionError:
            return "reset"
        return "clean"


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    found = bytearray()
    while len(found) < size:
        data = sock.recv(size - len(found))
        assert data, f"the stream ended after {len(found)} of {size} bytes"
        found += data
    return bytes(found)


class Application:
    """A TCP server that hands each connection to ``talk`` in a thread of its own.

    It listens on a free port of 127.0.0.1 unless it is given a ``listener``.
    A context manager. ``accepted`` counts connections.
    """

    def __init__(
        self, talk: Callable[[socket.socket], object], listener: socket.socket | None = None
    ) -> None:
        self._talk = talk
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=128)
        self.host, self.port = self._listener.getsockname()
        self.accepted = 0
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def destination(self) -> str:
        """Where it is, as rules and channel requests say it."""
        return f"tcp:{self.host}:{self.port}"

    def __enter__(self) -> Application:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for sock in [self._listener, *self._sockets]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._listener.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._sockets.append(sock)
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        try:
            with sock:
                sock.settimeout(30)
                self._talk(sock)
        except OSError:
            pass
        finally:
            self._sockets.remove(sock)


def echo(sock: socket.socket) -> None:
    """Send back what comes, and end when the other side has ended."""
    while data := sock.recv(PIECE):
        sock.sendall(data)


class EchoOfMany:
    """An echo server for thousands of connections in one thread. A context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._near, self._far = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.open = 0

    @property
    def destination(self) -> str:
        """Where it is, as rules and channel requests say it."""
        return f"tcp:127.0.0.1:{self.port}"

    def __enter__(self) -> EchoOfMany:
        for sock in (self._listener, self._far):
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._near.close()
        self._thread.join(10)
        for key in list(self._selector.get_map().values()):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            sock.close()
        self._selector.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._far:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._echo(key.fileobj)

    def _accept(self) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                self._selector.register(sock, selectors.EVENT_READ)
                self.open += 1
        except BlockingIOError:
            pass

    def _echo(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(PIECE)
            if data:
                sock.sendall(data)
                return
        except OSError:
            pass
        self._selector.unregister(sock)
        sock.close()
        self.open -= 1


def wait_until(condition: Callable[[], bool], limit: float = 40.0) -> bool:
    """Look twenty times a second until it holds; whether it did within so many seconds."""
    never = threading.Event()
    for _ in range(int(limit * 20)):
        if condition():
            return True
        never.wait(0.05)
    return condition()


def raise_open_files() -> None:
    """Let this process and those that it starts have as many open files as the system allows."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
