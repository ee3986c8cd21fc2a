"""Load generators: the applications at the two sides of a tunnel.

One target (``serve``) answers on one port whatever the tunnel under test forwards to it; the
first byte of a connection says what it is for. The generators are built to cost little: bulk
data leaves by ``sendfile`` from memory and is discarded inside the kernel (``MSG_TRUNC``), so that
the tunnel is the bottleneck. What arrives is counted at the receiver, in a small shared
file, so that data resting in buffers does not count.

The file runs on its own, without the rest of this package: ``loads.py serve|send|fetch``.
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
from typing import NamedTuple

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
MESSAGE = 64
"""Bytes of a request and of its answer."""


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


def _memory_file() -> int:
    """A descriptor of PIECE random bytes in memory (random: nobody gains by compressing)."""
    descriptor = os.memfd_create("bulk")
    os.write(descriptor, os.urandom(PIECE))
    return descriptor


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


def send_bulk(address: Address, seconds: float, streams: int) -> None:
    """Send on ``streams`` connections at once, as fast as they take it, for ``seconds``."""
    memory = _memory_file()
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


# -- loads that the measuring process runs itself ------------------------------------


class Latency(NamedTuple):
    """Result of a request/response load."""

    rate: float
    """Requests answered per second."""
    median: float
    """Median round trip in seconds."""
    p99: float
    """99th percentile of the round trips in seconds."""


def quantile(values: list[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``values`` lie; nan if there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Read ``count`` bytes or raise LoadError."""
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise LoadError(f"the connection ended after {len(data)} of {count} bytes")
        data += piece
    return data


def check_content(address: Address, size: int = 8 << 20) -> None:
    """Send ``size`` random bytes and compare their hash; echo some and compare them.

    Raises LoadError if anything differs.
    """
    data = os.urandom(size)
    with open_mode(address, HASH + struct.pack("!Q", size)) as connection:
        connection.sendall(data)
        if receive_exactly(connection, 32) != hashlib.sha256(data).digest():
            raise LoadError("the hash of what arrived differs")
    with open_mode(address, ECHO) as connection:
        for start in range(0, min(size, 1 << 20), 32768):
            piece = data[start : start + 32768]
            connection.sendall(piece)
            if receive_exactly(connection, len(piece)) != piece:
                raise LoadError("the echo differs")


def ask_once(address: Address, timeout: float = 10.0) -> None:
    """Open a connection, exchange one byte each way, close; LoadError if the answer is wrong."""
    with open_mode(address, ONCE, timeout) as connection:
        if connection.recv(1) != ONCE:
            raise LoadError("no answer")


def request_response(address: Address, seconds: float) -> Latency:
    """One connection, one request at a time."""
    times: list[float] = []
    with open_mode(address, ECHO) as connection:
        send, receive, clock = connection.send, connection.recv, time.perf_counter
        start = before = clock()
        end = start + seconds
        number = 0
        while before < end:
            number += 1
            message = number.to_bytes(MESSAGE, "big")
            send(message)
            answer = receive(MESSAGE)
            after = clock()
            if answer != message:
                answer += receive_exactly(connection, MESSAGE - len(answer))
                if answer != message:
                    raise LoadError("the echo differs")
            times.append(after - before)
            before = after
    return Latency(len(times) / (before - start), quantile(times, 0.5), quantile(times, 0.99))


def many_connections(address: Address, seconds: float, count: int = 50) -> float:
    """Requests answered per second on ``count`` connections, one outstanding on each."""
    poll = select.epoll()
    connections = []
    echoes: dict[int, tuple[Callable[[int], bytes], Callable[[bytes], int], bytes]] = {}
    partial: dict[int, bytes] = {}
    for index in range(count):
        connection = open_mode(address, ECHO)
        connections.append(connection)
        message = index.to_bytes(MESSAGE // 2, "big") + os.urandom(MESSAGE // 2)
        echoes[connection.fileno()] = connection.recv, connection.send, message
        poll.register(connection, select.EPOLLIN)
    answered = 0
    start = time.perf_counter()
    end = start + seconds
    for _, send, message in echoes.values():
        send(message)
    while time.perf_counter() < end:
        events = poll.poll(1.0)
        if not events:
            raise LoadError("no answer for a second")
        for descriptor, _ in events:
            receive, send, message = echoes[descriptor]
            answer = receive(MESSAGE)
            if answer != message:
                answer = partial.pop(descriptor, b"") + answer
                if not message.startswith(answer) or not answer:
                    raise LoadError("the echo differs")
                if len(answer) < MESSAGE:
                    partial[descriptor] = answer
                    continue
            answered += 1
            send(message)
    elapsed = time.perf_counter() - start
    for connection in connections:
        connection.close()
    return answered / elapsed


def new_connections(
    address: Address, seconds: float, lanes: int = 8, at_most: int = 12000
) -> float:
    """Connections per second, each one byte both ways and closed, ``lanes`` of them at a time.

    ``at_most`` keeps the local ports of a fast path from running out.
    """
    poll = select.epoll()
    open_now: dict[int, socket.socket] = {}

    def begin() -> None:
        connection = open_mode(address, ONCE)
        open_now[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)

    done = 0
    start = time.perf_counter()
    end = start + seconds
    for _ in range(lanes):
        begin()
    while time.perf_counter() < end and done < at_most:
        for descriptor, _ in poll.poll(0.1):
            with open_now.pop(descriptor) as connection:
                if connection.recv(1) != ONCE:
                    raise LoadError("a new connection got no answer")
            done += 1
            begin()
    elapsed = time.perf_counter() - start
    for connection in open_now.values():
        connection.close()
    return done / elapsed


PING = struct.Struct("!Qd")


def ping(address: Address, seconds: float, streams: int = 1, interval: float = 0.05) -> list[float]:
    """Round trips in seconds: on each stream one small message per ``interval``.

    A message is sent when its time has come, whether or not the one before has been answered.
    One that has no answer 10 seconds after the last was sent counts as that old.
    """
    poll = select.epoll()
    connections = {}
    for _ in range(streams):
        connection = open_mode(address, ECHO)
        connections[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    waiting: dict[int, dict[int, float]] = {descriptor: {} for descriptor in connections}
    unread = dict.fromkeys(connections, b"")
    times: list[float] = []
    start = time.perf_counter()
    # The streams take turns, so that their messages are spread over the interval.
    turns = [(start + interval * i / streams, d) for i, d in enumerate(connections)]
    number = 0
    end = start + seconds
    outstanding = 0
    while True:
        now = time.perf_counter()
        while turns and turns[0][0] <= now:
            due, descriptor = turns.pop(0)
            number += 1
            sent = time.perf_counter()
            connections[descriptor].sendall(PING.pack(number, sent))
            waiting[descriptor][number] = sent
            outstanding += 1
            if due + interval < end:
                turns.append((due + interval, descriptor))
        if not turns and (not outstanding or now > end + 10):
            break
        pause = max(0.0, turns[0][0] - now) if turns else 0.1
        for descriptor, _ in poll.poll(pause):
            data = connections[descriptor].recv(65536)
            arrived = time.perf_counter()
            if not data:
                raise LoadError("an interactive stream ended early")
            data = unread[descriptor] + data
            whole = len(data) // PING.size * PING.size
            for answered, sent in PING.iter_unpack(data[:whole]):
                if waiting[descriptor].pop(answered, None) != sent:
                    raise LoadError("the echo differs")
                times.append(arrived - sent)
                outstanding -= 1
            unread[descriptor] = data[whole:]
    for descriptor, connection in connections.items():
        times.extend(time.perf_counter() - sent for sent in waiting[descriptor].values())
        connection.close()
    return times


def main() -> None:
    """Run one load as a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("load", choices=("serve", "send", "fetch"))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--counter", default="", help="file that holds the bytes received")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--streams", type=int, default=1)
    options = parser.parse_args()
    address = options.host, options.port
    if options.load == "serve":
        Target(listen(*address), Counter(options.counter)).serve_forever()
    elif options.load == "send":
        send_bulk(address, options.seconds, options.streams)
    else:
        fetch_bulk(address, options.seconds, options.streams, Counter(options.counter))


if __name__ == "__main__":
    main()
