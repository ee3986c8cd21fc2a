"""The loads that the measuring process runs itself, against ``host:port`` of a forward.

They check what comes back: LoadError says that it differs from what was sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from bench.traffic import ECHO, HASH, ONCE, Address, LoadError, open_mode

__all__ = [
    "Address",
    "Latency",
    "LoadError",
    "ask_once",
    "check_content",
    "many_connections",
    "new_connections",
    "ping",
    "quantile",
    "receive_exactly",
    "request_response",
]

MESSAGE = 64
"""Bytes of a request and of its answer."""


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
    with contextlib.ExitStack() as connections, select.epoll() as poll:
        echoes: dict[int, tuple[Callable[[int], bytes], Callable[[bytes], int], bytes]] = {}
        partial: dict[int, bytes] = {}
        for index in range(count):
            connection = connections.enter_context(open_mode(address, ECHO))
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
        return answered / elapsed


def new_connections(
    address: Address, seconds: float, lanes: int = 8, at_most: int = 12000
) -> float:
    """Connections per second, each one byte both ways and closed, ``lanes`` of them at a time.

    ``at_most`` keeps the local ports of a fast path from running out.
    """
    open_now: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack, select.epoll() as poll:

        @stack.callback
        def close_all() -> None:
            for connection in open_now.values():
                connection.close()

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
        if not done:
            raise LoadError("no new connection got an answer")
        elapsed = time.perf_counter() - start
        return done / elapsed


PING = struct.Struct("!Qd")


def ping(address: Address, seconds: float, streams: int = 1, interval: float = 0.05) -> list[float]:
    """Round trips in seconds: on each stream one small message per ``interval``.

    A message is sent when its time has come, whether or not the one before has been answered.
    One that has no answer 10 seconds after the last was sent counts as that old.
    """
    with contextlib.ExitStack() as stack, select.epoll() as poll:
        connections = {}
        # At the same time: far away, one after the other would take many round trips.
        with ThreadPoolExecutor(min(streams, 32)) as pool:
            opened = list(pool.map(lambda _: open_mode(address, ECHO), range(streams)))
        for connection in opened:
            stack.enter_context(connection)
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
        now = time.perf_counter()
        times.extend(now - sent for unanswered in waiting.values() for sent in unanswered.values())
        return times
