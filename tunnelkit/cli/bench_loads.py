"""What `tunnelkit bench` does with channels, each in a thread of its own.

Each channel is a connection to the running end's control socket, so what is measured is what a
program here gets, the way through the end included.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import attrs

from tunnelkit.errors import ChannelRefused, Code, RemoteProtocolError, TunnelkitError
from tunnelkit.wire.measurement import DOWN, ECHO, LONGEST_LINE, UP, Asked, last_report

PATIENCE = 20.0
"""Seconds without a byte after which it is given up."""
TICK = 0.25
"""Seconds between two looks at how far it is."""
PING = bytes(range(32))
_PIECE = 1 << 20
_LONGEST_ANSWER = 4096

Tick = Callable[[float, int], object]
"""Told now and then: seconds since the beginning, and bytes (or channels) so far."""


class BrokenOff(TunnelkitError):
    """The measurement broke off: the tunnel has ended, or the far side has."""


@attrs.frozen
class Place:
    """Where channels come from."""

    control: str
    """The end's control socket."""
    peer: str
    """To whom they lead."""


class Load:
    """One channel at a time, and what is done with it."""

    def __init__(self, place: Place, seconds: float) -> None:
        self._place = place
        self.seconds = seconds
        self.count = 0
        """Bytes, or whatever this load counts, so far."""
        self._sock: socket.socket | None = None
        self._cut = False

    def open(self, verb: str) -> socket.socket:
        """A new channel for that; raises `ChannelRefused` and `BrokenOff`."""
        sock = self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE)
        asked = Asked(verb, max(1, round(self.seconds * 1000)))
        sock.connect(self._place.control)
        sock.sendall(f"bench {self._place.peer}\n".encode() + bytes(asked))
        answer = b""
        # What follows the line belongs to the measurement.
        while not answer.endswith(b"\n") and len(answer) < _LONGEST_ANSWER:
            piece = sock.recv(1)
            if not piece:
                raise BrokenOff
            answer += piece
        said = json.loads(answer)
        if "error" in said:
            raise ChannelRefused(Code.read(str(said.get("code", ""))), str(said["error"]))
        return sock

    def begin(self) -> None:
        """Open what has to be there when all begin at once."""

    def work(self) -> None:
        """Do it."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the channel back, wherever the work is."""
        self._cut = True
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()


class Download(Load):
    """What the far side sends."""

    began = last = 0.0
    """When it was asked for, and when the last piece came."""

    def begin(self) -> None:
        """See `Load`."""
        self._channel = self.open(DOWN)
        self.began = time.monotonic()

    def work(self) -> None:
        """See `Load`."""
        buffer = memoryview(bytearray(_PIECE))
        receive, clock = self._channel.recv_into, time.monotonic
        end = b""
        while size := receive(buffer):
            self.last = clock()
            self.count += size
            end = (end + bytes(buffer[max(0, size - LONGEST_LINE) : size]))[-LONGEST_LINE:]
        report, length = last_report(end)
        self.count -= length + 1
        _agree(self.count, report.count)


class Upload(Load):
    """What the far side takes."""

    took = 0.0
    """Seconds, from the first to the last piece there; of a single one, till it was reported."""

    def begin(self) -> None:
        """See `Load`."""
        self._channel = self.open(UP)

    def work(self) -> None:
        """See `Load`."""
        piece = memoryview(os.urandom(_PIECE))
        send, clock = self._channel.send, time.monotonic
        began = clock()
        while clock() < began + self.seconds:
            sent = send(piece[self.count % _PIECE :])
            self.count += sent
        self._channel.shutdown(socket.SHUT_WR)
        end = b""
        while said := self._channel.recv(_PIECE):
            end = (end + said)[-LONGEST_LINE:]
        report, _ = last_report(end)
        self.took = report.microseconds / 1e6 or clock() - began
        _agree(report.count, self.count)


class Pings(Load):
    """Messages there and back, one after the other, ``pause`` seconds between two of them."""

    def __init__(self, place: Place, seconds: float, pause: float = 0.0) -> None:
        super().__init__(place, seconds)
        self._pause = pause
        self.round_trips: list[float] = []

    def begin(self) -> None:
        """See `Load`."""
        self._channel = self.open(ECHO)

    def work(self) -> None:
        """See `Load`."""
        clock = time.monotonic
        until = clock() + self.seconds
        while not self.round_trips or clock() < until:
            began = clock()
            _ping(self._channel)
            self.round_trips.append(clock() - began)
            self.count += 1
            if self._pause:
                time.sleep(max(0.0, min(began + self._pause, until) - clock()))
        _finish(self._channel)


class Connections(Load):
    """Channels that are opened, say one thing and are closed, one after the other."""

    def work(self) -> None:
        """See `Load`."""
        until = time.monotonic() + self.seconds
        while not self._cut and (not self.count or time.monotonic() < until):
            with self.open(ECHO) as channel:
                _ping(channel)
                _finish(channel)
            self.count += 1


def run_all(loads: Sequence[Load], tick: Tick) -> float:
    """All of them at once, until they are over; how many seconds it took.

    Raises `ChannelRefused` and `BrokenOff`. The channels are closed, whatever happens.
    """
    with ThreadPoolExecutor(len(loads)) as threads:
        try:
            for load in loads:
                load.begin()
            began = time.monotonic()
            works = [threads.submit(load.work) for load in loads]
            waiting = True
            while waiting:
                done, pending = wait(works, TICK, FIRST_EXCEPTION)
                for work in done:
                    work.result()
                waiting = bool(pending)
                tick(time.monotonic() - began, sum(load.count for load in loads))
            return time.monotonic() - began
        except TimeoutError:
            raise BrokenOff(f"nothing has come through the tunnel for {PATIENCE:.0f} s") from None
        except (OSError, ValueError, RemoteProtocolError):
            raise BrokenOff from None
        finally:
            for load in loads:
                load.close()


def _ping(channel: socket.socket) -> None:
    channel.sendall(PING)
    answer = b""
    while len(answer) < len(PING):
        piece = channel.recv(len(PING) - len(answer))
        if not piece:
            raise BrokenOff
        answer += piece
    _agree(answer, PING)


def _finish(channel: socket.socket) -> None:
    """An end in both directions, so that the access logs have a clean one."""
    channel.shutdown(socket.SHUT_WR)
    _agree(channel.recv(1), b"")


def _agree(came: object, expected: object) -> None:
    if came != expected:
        raise BrokenOff("what came through the tunnel is not what was sent")
