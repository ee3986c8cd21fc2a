"""Two muxes on a simulated slow path, in virtual time: what `tunnelkit.core.mux.path` is judged by.

The sender's socket takes everything at once and the path's bottleneck has a
queue without end, as where the slow leg is behind the middle: whatever is too
much in flight is seen as delay.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux import contract as t

_FRAME = 16 * 1024


class Direction:
    """One way of the path: ``rate`` bytes per second, ``delay`` seconds, first in first out."""

    def __init__(self, world: World, rate: float, delay: float) -> None:
        self._world = world
        self.rate = rate
        self.delay = delay
        self._free_at = 0.0
        self.carried = 0
        self.longest_queue = 0.0

    def send(self, data: bytes, receiver: End) -> None:
        """Carry ``data`` in packets, so that it arrives bit by bit."""
        for start in range(0, len(data), 1400):
            piece = data[start : start + 1400]
            begins = max(self._world.now, self._free_at)
            self.longest_queue = max(self.longest_queue, begins - self._world.now)
            self._free_at = begins + len(piece) / self.rate
            self.carried += len(piece)
            self._world.at(self._free_at + self.delay, partial(receiver.arrives, piece))


class World:
    """The clock and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call at the virtual time ``when``."""
        heapq.heappush(self._agenda, (when, next(self._numbers), call))

    def run(self, until: float) -> None:
        """Let the time pass."""
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, call = heapq.heappop(self._agenda)
            call()
        self.now = until


class End:
    """One end: a mux, what its applications want to send, and what they took."""

    def __init__(self, world: World, master: bool) -> None:
        self.world = world
        self.mux = LstpMux(master, MuxConfig(), world.now)
        self.out: Direction | None = None
        self.other: End | None = None
        self.bulk: set[int] = set()
        """Channels with no end of data."""
        self.pending: dict[int, bytes] = {}
        self.received: dict[int, int] = {}
        self.arrivals: dict[int, list[float]] = {}
        self.stuck: set[int] = set()
        """Channels whose application takes nothing."""
        self._due: float | None = None

    def arrives(self, data: bytes) -> None:
        """Bytes from the path."""
        self.handle(self.mux.receive(memoryview(data), self.world.now))
        self.pump()

    def handle(self, events: Sequence[t.Event]) -> None:
        """Applications take at once whatever comes."""
        for event in events:
            if isinstance(event, t.ChannelRequested):
                self.handle(self.mux.opened(event.channel, ""))
            elif isinstance(event, t.Data):
                size = len(event.data)
                self.received[event.channel] = self.received.get(event.channel, 0) + size
                self.arrivals.setdefault(event.channel, []).append(self.world.now)
                if event.channel not in self.stuck:
                    self.handle(self.mux.consumed(event.channel, size, self.world.now))

    def say(self, channel: int, size: int) -> None:
        """An interactive message."""
        self.pending[channel] = self.pending.get(channel, b"") + bytes(size)
        self.pump()

    def pump(self) -> None:
        """Send what may be sent, in batches as the path says."""
        assert self.out is not None
        assert self.other is not None
        while True:
            batch = bytearray(self.mux.data_to_send())
            limit = len(batch) + self.mux.path.batch
            for channel in [*self.pending, *self.bulk]:
                while len(batch) < limit:
                    size = min(self.mux.sendable(channel), _FRAME)
                    if channel in self.pending:
                        size = min(size, len(self.pending[channel]))
                    if size <= 0:
                        break
                    offset = len(batch)
                    batch += bytes(self.mux.header_size + size)
                    self.mux.frame_into(batch, offset, channel, size, self.world.now)
                    if channel in self.pending:
                        del self.pending[channel]
                        break
            if not batch:
                break
            self.out.send(bytes(batch), self.other)
        if not any(self.mux.waits_for_path(channel) for channel in self.bulk):
            self.mux.path.app_limited()
        self._set_timer()

    def _set_timer(self) -> None:
        due = self.mux.next_deadline()
        if due is not None and (self._due is None or due < self._due - 1e-9):
            self._due = max(due, self.world.now)
            self.world.at(self._due, self._deadline)

    def _deadline(self) -> None:
        self._due = None
        due = self.mux.next_deadline()
        if due is not None and due <= self.world.now:
            self.handle(self.mux.deadline_passed(self.world.now))
        self.pump()


def connect(rate: float, round_trip: float) -> tuple[World, End, End, Direction]:
    """A sender and a receiver, the path between them, and its way from the first to the second."""
    world = World()
    sender, receiver = End(world, True), End(world, False)
    there = Direction(world, rate, round_trip / 2)
    back = Direction(world, rate, round_trip / 2)
    sender.out, sender.other = there, receiver
    receiver.out, receiver.other = back, sender
    sender.pump()
    receiver.pump()
    world.run(0.5)
    return world, sender, receiver, there
