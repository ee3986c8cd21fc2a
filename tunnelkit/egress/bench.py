"""The far side of ``tunnelkit bench``: channels to the service ``@bench``, for whom a rule allows
it.

It connects to nothing. What it costs is bounded: how long a channel may last, what it may carry,
and how many one peer may have.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from typing import Any

from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest, refuse
from tunnelkit.errors import Code, NotAuthorized, RemoteProtocolError
from tunnelkit.net.channels.contracts import END, ChannelHandle, HasOrigin
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import CONNECT
from tunnelkit.policy.destination import BENCH_SERVICE, SERVICE, Destination
from tunnelkit.policy.printable import printable
from tunnelkit.wire.measurement import DOWN, ECHO, LONGEST_LINE, UP, Asked, Report

CHANNELS_PER_PEER = 64
"""Measurements of one peer at once; more are refused."""
MOST_BYTES = 32 << 30
"""That one channel carries in either direction; it ends as if its time were over."""
ASKING = 10.0
"""Seconds to say what is to be measured."""
SETTLING = 30.0
"""Seconds beyond those asked for, in which a slow path may deliver what is under way."""
REPORTS = 0.25
"""Seconds between two reports of what has been taken."""
_ECHO_QUEUE = 65_536
"""Bytes to be sent back, from which on no more are taken."""
_PIECE = 1 << 20


@cache
def random_piece() -> memoryview:
    """What is sent again and again: nobody gains by compressing it."""
    return memoryview(os.urandom(_PIECE))


class BenchEgress:
    """Answers requests for `BENCH_SERVICE` at ``egress``, if a rule allows it to the peer."""

    def __init__(self, egress: Egress) -> None:
        self.reactor = egress.reactor
        self._policy = egress.policy
        self._denials = egress.denials
        self._open: Counter[str] = Counter()
        egress.answer_with(BENCH_SERVICE, self.answer)

    def answer(self, request: EgressRequest, destination: Destination) -> None:
        """A `tunnelkit.egress.dial.Handler`."""
        peer = request.peer
        try:
            rule = self._policy.authorize(peer, CONNECT, SERVICE, destination.host, 0).rule
        except NotAuthorized as error:
            self._denials.not_authorized(peer, error)
            refuse(request, Code.NOT_ALLOWED, str(error))
            return
        if self._open[peer] >= CHANNELS_PER_PEER:
            refuse(request, Code.LIMIT, f"{printable(peer)} has {CHANNELS_PER_PEER} measurements")
            return
        self._open[peer] += 1
        request.attach(BenchSide(self, peer), "", rule)

    def over(self, peer: str) -> None:
        """A channel of ``peer`` is over."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]


class BenchSide(HasOrigin):
    """One measurement: the `LocalSide` of its channel."""

    __slots__ = (
        "_asked",
        "_began",
        "_bench",
        "_channel",
        "_clock",
        "_count",
        "_ended",
        "_last",
        "_limit",
        "_line",
        "_outbound",
        "_over",
        "_peer",
        "_position",
        "_reported",
        "_reports",
    )

    def __init__(self, bench: BenchEgress, peer: str) -> None:
        reactor: Any = bench.reactor
        self._bench = bench
        self._peer = peer
        self._clock = reactor.seconds
        self._channel: ChannelHandle | None = None
        self._asked: Asked | None = None
        self._line = b""
        self._began = self._last = 0.0
        """When the first and the last bytes were moved."""
        self._count = 0
        self._reported = 0
        self._position = 0
        self._outbound = bytearray()
        self._ended = False
        """Nothing comes behind what is in ``_outbound``."""
        self._over = False
        self._limit = Timer(reactor, self._too_long)
        self._reports = Timer(reactor, self._report)

    # -- LocalSide --------------------------------------------------------

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""
        self._channel = channel
        self._limit.start(ASKING)

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`."""
        if self._asked is not None and self._asked.verb == DOWN and not self._ended and view:
            now = self._clock()
            if now < self._began + self._asked.milliseconds / 1000 and self._count < MOST_BYTES:
                self._last = now
                return self._fill(view)
            self._end(b"\n")
        if not self._outbound:
            return END if self._ended else 0
        size = min(len(view), len(self._outbound))
        full = len(self._outbound) >= _ECHO_QUEUE
        view[:size] = self._outbound[:size]
        del self._outbound[:size]
        assert self._channel is not None
        if self._ended:
            self._channel.ready()
        if full and size:
            self._channel.drained()
        return size

    def push(self, view: memoryview) -> int:
        """See `LocalSide`."""
        if self._asked is None:
            return self._ask(view)
        if self._asked.verb == ECHO and not self._ended:
            size = min(len(view), _ECHO_QUEUE - len(self._outbound))
            self._outbound += view[:size]
            self._count += size
            if self._count > MOST_BYTES:
                self._ended = True
            self._ready()
            return size
        if self._asked.verb == UP and not self._ended:
            self._last = self._clock()
            if not self._count:
                self._began = self._last
                self._reports.start(REPORTS)
            self._count += len(view)
            if self._count >= MOST_BYTES:
                self._end()
        return len(view)

    def finish(self) -> None:
        """See `LocalSide`."""
        if self._asked is None:
            self._abort(Code.PROTOCOL, "nothing was asked for")
        elif self._asked.verb == UP and not self._ended:
            self._end()
            self._ready()
        elif self._asked.verb == ECHO:
            self._ended = True
            self._ready()

    def close(self) -> None:
        """See `LocalSide`."""
        self._stop()

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        self._stop()

    # -- the measurement --------------------------------------------------

    def _ask(self, view: memoryview) -> int:
        """The line at the beginning."""
        data = self._line + bytes(view[: LONGEST_LINE - len(self._line)])
        line, newline, _ = data.partition(b"\n")
        if not newline and len(data) < LONGEST_LINE:
            self._line = data
            return len(view)
        try:
            self._asked = Asked.read(line + newline)
        except RemoteProtocolError as error:
            self._abort(error.code, "no such measurement")
            return len(view)
        self._limit.start(self._asked.milliseconds / 1000 + SETTLING)
        used = len(line) + 1 - len(self._line)
        self._began = self._last = self._clock()
        if self._asked.verb == DOWN:
            self._ready()
        rest = view[used:]
        return used + (self.push(rest) if rest else 0)

    def _fill(self, view: memoryview) -> int:
        """All of it: who gives less than was asked for is not asked again."""
        piece, used = random_piece(), 0
        while used < len(view):
            size = min(len(view) - used, _PIECE - self._position)
            view[used : used + size] = piece[self._position : self._position + size]
            self._position = (self._position + size) % _PIECE
            used += size
        self._count += used
        return used

    def _end(self, before: bytes = b"") -> None:
        """The last report, and no more."""
        self._ended = True
        self._reports.stop()
        microseconds = round((self._last - self._began) * 1e6)
        self._outbound += before + bytes(Report(self._count, microseconds))

    def _report(self) -> None:
        """How far it is, for who watches."""
        if self._count != self._reported and not self._outbound:
            self._reported = self._count
            microseconds = round((self._last - self._began) * 1e6)
            self._outbound += bytes(Report(self._count, microseconds))
            self._ready()
        self._reports.start(REPORTS)

    def _ready(self) -> None:
        if self._channel is not None:
            self._channel.ready()

    def _too_long(self) -> None:
        self._abort(Code.LIMIT, "the measurement took too long")

    def _abort(self, code: Code, reason: str) -> None:
        if self._channel is not None:
            self._channel.abort(code, reason)

    def _stop(self) -> None:
        self._channel = None
        self._limit.stop()
        self._reports.stop()
        if not self._over:
            self._over = True
            self._bench.over(self._peer)
