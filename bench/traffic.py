"""The applications at the two sides of a tunnel: the target, and the bulk clients.

One target (``serve``) answers on one port whatever the tunnel under test forwards to it; the
first byte of a connection says what it is for. They are built to cost little: bulk data leaves by
``sendfile`` from memory and is discarded inside the kernel (``MSG_TRUNC``), so that the tunnel is
the bottleneck. What arrives is counted at the receiver, in a small shared file, so that
data resting in buffers does not count.

The file runs on its own, without the rest of this package: ``traffic.py serve|send|fetch``.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

Address = tuple[str, int]

SINK = b"S"
"""Everything that follows is counted and discarded."""
SOURCE = b"D"
"""The target sends until the connection ends."""
HASH = b"H"
"""An 8-byte big-endian length and that many bytes follow; the answer is their SHA-256."""
ECHO = b"E"
"""Everything that follows comes back."""
ONCE = b"1"
"""The answer is this byte; then the client closes."""
STALL = b"T"
"""The target never reads again."""

PIECE = 4 << 20
"""Bytes per system call of the bulk loads."""


class LoadError(Exception):
    """What came through the tunnel is not what was sent into it."""


class Counter:
    """Bytes received, in 8 bytes of a file that another process may read at any time."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, 8)
            self._map = mmap.mmap(descriptor, 8)
        finally:
            os.close(descriptor)

    def value(self) -> int:
        """Bytes so far."""
        return int.from_bytes(self._map[:8], "little")

    def set(self, value: int) -> None:
        """Store the sum; only one process may."""
        self._map[:8] = value.to_bytes(8, "little")


def _memory_file(text: bool = False) -> int:
    """A descriptor of PIECE bytes in memory: random ones, which nobody gains by compressing, or
    the sources of Python's library."""
    descriptor = os.memfd_create("bulk")
    os.write(descriptor, _text() if text else os.urandom(PIECE))
    return descriptor


def _text() -> bytes:
    data = b""
    for source in sorted(Path(os.__file__).parent.rglob("*.py")):
        data += source.read_bytes()
        if len(data) >= PIECE:
            break
    return data[:PIECE]


# -- the target ---------------------------------------------------------------


class Target:
    """The server application: one epoll loop for every kind of load."""

    def __init__(self, listener: socket.socket, counter: Counter) -> None:
        self._listener = listener
        self._counter = counter
        self._received = 0
        self._scratch = bytearray(PIECE)
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._memory = _memory_file()
        listener.setblocking(False)
        self._handlers[listener.fileno()] = self._accept
        self._poll.register(listener, select.EPOLLIN)

    def serve_forever(self) -> None:
        """Serve until the process ends."""
        handlers, poll = self._handlers, self._poll.poll
        while True:
            for descriptor, _ in poll():
                try:
                    handlers[descriptor]()
                except BlockingIOError:
                    pass
                except OSError:
                    self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        self._handlers.pop(descriptor, None)
        connection = self._sockets.pop(descriptor, None)
        if connection is not None:
            connection.close()  # which also takes it out of the epoll set

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = connection.fileno()
        self._sockets[descriptor] = connection
        self._handlers[descriptor] = lambda: self._begin(connection, descriptor)
        self._poll.register(descriptor, select.EPOLLIN)

    def _begin(self, connection: socket.socket, descriptor: int) -> None:
        mode = connection.recv(1)
        if mode == ONCE:
            connection.send(ONCE)  # and the next event reads the end
        elif mode == ECHO:
            self._handlers[descriptor] = self._echo(connection, descriptor)
        elif mode == SINK:
            self._handlers[descriptor] = self._sink(connection, descriptor)
        elif mode == HASH:
            self._handlers[descriptor] = self._hash(connection, descriptor)
        elif mode == SOURCE:
            self._handlers[descriptor] = self._source(connection, descriptor)
            self._poll.modify(descriptor, select.EPOLLOUT)
        elif mode == STALL:
            self._poll.modify(descriptor, 0)
        else:
            self._close(descriptor)

    def _echo(self, connection: socket.socket, descriptor: int) -> Callable[[], None]:
        receive, send = connection.recv, connection.send
        pending = b""

        def echo() -> None:
            nonlocal pending
            if pending:
                pending = pending[send(pending) :]
                if not pending:
                    self._poll.modify(descriptor, select.EPOLLIN)
                return
            data = receive(65536)
            if not data:
                self._close(descriptor)
                return
            try:
                sent = send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                pending = data[sent:]
                self._poll.modify(descriptor, select.EPOLLOUT)

        return echo

    def _sink(self, connection: socket.socket, descriptor: int) -> Callable[[], None]:
        receive_into, scratch = connection.recv_into, self._scratch

        def sink() -> None:
            count = receive_into(scratch, PIECE, socket.MSG_TRUNC)
            if count == 0:
                self._close(descriptor)
            self._received += count
            self._counter.set(self._received)

        return sink

    def _hash(self, connection: socket.socket, descriptor: int) -> Callable[[], None]:
        digest = hashlib.sha256()
        head = b""
        left = 0

        def take() -> None:
            nonlocal head, left
            if len(head) < 8:
                data = connection.recv(8 - len(head))
                head += data
                if len(head) == 8:
                    (left,) = struct.unpack("!Q", head)
            else:
                data = connection.recv(min(left, 1 << 20))
                digest.update(data)
                left -= len(data)
                if data and not left:
                    connection.send(digest.digest())
                    self._handlers[descriptor] = lambda: self._close(descriptor)
            if not data:
                self._close(descriptor)

        return take

    def _source(self, connection: socket.socket, descriptor: int) -> Callable[[], None]:
        position = 0

        def source() -> None:
            nonlocal position
            position += os.sendfile(descriptor, self._memory, position, PIECE - position)
            position %= PIECE

        return source


def listen(host: str, port: int = 0, backlog: int = 4096) -> socket.socket:
    """A listening TCP socket."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(backlog)
    return listener


# -- bulk clients, each its own process ------------------------------------------


def open_mode(address: Address, mode: bytes, timeout: float = 10.0) -> socket.socket:
    """A blocking connection to the target, through the tunnel, with its mode said."""
    connection = socket.create_connection(address, timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(mode)
    return connection


def send_bulk(address: Address, seconds: float, streams: int, text: bool = False) -> None:
    """Send on ``streams`` connections at once, as fast as they take it, for ``seconds``."""
    memory = _memory_file(text)
    poll = select.epoll()
    connections = [open_mode(address, SINK) for _ in range(streams)]
    position = {}
    for connection in connections:
        connection.setblocking(False)
        position[connection.fileno()] = 0
        poll.register(connection, select.EPOLLOUT)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for descriptor, _ in poll.poll(0.1):
            at = position[descriptor]
            try:
                sent = os.sendfile(descriptor, memory, at, PIECE - at)
            except BlockingIOError:
                continue
            position[descriptor] = (at + sent) % PIECE


def fetch_bulk(address: Address, seconds: float, streams: int, counter: Counter) -> None:
    """Receive on ``streams`` connections at once for ``seconds`` and count."""
    poll = select.epoll()
    scratch = bytearray(PIECE)
    connections = {}
    for _ in range(streams):
        connection = open_mode(address, SOURCE)
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    end = time.monotonic() + seconds
    total = counter.value()
    while time.monotonic() < end:
        for descriptor, _ in poll.poll(0.1):
            count = connections[descriptor].recv_into(scratch, PIECE, socket.MSG_TRUNC)
            if count == 0:
                raise LoadError("the bulk stream ended early")
            total += count
            counter.set(total)


def main() -> None:
    """Run one load as a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("load", choices=("serve", "send", "fetch"))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--counter", default="", help="file that holds the bytes received")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--text", action="store_true", help="send text, not random bytes")
    options = parser.parse_args()
    address = options.host, options.port
    if options.load == "serve":
        target = Target(listen(*address), Counter(options.counter))
        print("serving", flush=True)
        target.serve_forever()
    elif options.load == "send":
        send_bulk(address, options.seconds, options.streams, options.text)
    else:
        fetch_bulk(address, options.seconds, options.streams, Counter(options.counter))


if __name__ == "__main__":
    main()
