"""A path whose ends are stopped now and then, in virtual time: what the estimate is judged by.

A sender, a middle and a receiver are processes (`tests.core.mux.simulated_cpu`) that need time
for each byte. Between them is a link with a rate that may change, cross traffic and losses. The
ends are the real `tunnelkit.core.mux.flow_control.FlowControl` with many streams; only bytes are
left out. Link and sockets take everything at once: whatever is too much in flight is seen as
delay.

Times are seconds, rates bytes per second.
"""

from __future__ import annotations

import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from tests.core.mux.simulated_cpu import Cpu, Stops, World
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.flow_control import ChannelFlowControl, FlowControl
from tunnelkit.core.mux.path import Path
from tunnelkit.core.mux.startup import CEILING

MIB = 1 << 20
MBIT = 125_000.0
_WINDOW = 262_144
_READ = 512 * 1024
"""Most that a process reads at once."""
_TURN = 30e-6
"""What each turn of a process costs beside its bytes."""
_LARGE_FRAME = 256 * 1024
BEGIN = 0.1
"""When the streams begin; small messages are there before."""
_PING = 64
_PING_EVERY = 0.0207
"""Not a multiple of what else happens at regular times."""

Cpus = Callable[[World], Sequence[Cpu]]


def quiet(world: World) -> Sequence[Cpu]:
    """Sender, middle and receiver have a core each."""
    return Stops(world), Stops(world), Stops(world)


@attrs.frozen
class Scene:
    """One path and what happens on it."""

    name: str
    cpus: Cpus = quiet
    """Processors of sender, middle and receiver."""
    gap: float = 0.0
    """What a small message must wait for, beside the round trip, whatever is in flight."""
    rate: float = 2e9
    """Of the link; the default is loopback."""
    round_trip: float = 0.0002
    end: float = 350 * MIB
    """What each end can do when it runs."""
    middle: float = 2000 * MIB
    before: bool = False
    """The link is before the middle, not behind it."""
    streams: int = 1
    cross: float = 0.0
    """Share of the link that other traffic takes, every other half second."""
    loss: float = 0.0
    """Chance that a piece of the stream is lost and sent again a round trip later."""
    changes: tuple[tuple[float, float], ...] = ()
    """``(time, rate)``"""
    seed: int = 1
    fill: float = 0.9
    """What of the capacity must be used."""
    seconds: float = 4.0
    settled: float | None = None
    """From when on it is judged; None: in the second half of the time."""


@attrs.frozen
class Outcome:
    """What came of it, from when it had settled."""

    rate: float
    delay: float
    """Median of what a small message took beyond the way alone."""
    late: float
    """The same for nine of ten."""


@attrs.define
class _Stream:
    """One channel, seen from both ends."""

    near: ChannelFlowControl
    far: ChannelFlowControl
    busy: bool
    waiting: int = 0
    """Bytes of small messages that wait to be sent; those of a busy stream have no end."""


@attrs.frozen
class _Piece:
    """Bytes of one stream on their way."""

    stream: _Stream
    size: int


class Process:
    """Takes what is there whenever it runs, and passes on what comes of it when that is done."""

    def __init__(self, world: World, cpu: Cpu) -> None:
        self.world = world
        self._cpu = cpu
        self._busy = False

    def wake(self) -> None:
        """There is something to do."""
        if not self._busy:
            self._busy = True
            self._cpu.begin(self._turn)

    def _turn(self) -> None:
        done = self.work()
        if done is None:
            self._busy = False
            self._cpu.end()
        else:
            cost, output = done
            self._cpu.spend(_TURN + cost, partial(self._done, output))

    def _done(self, output: Callable[[], None]) -> None:
        output()
        self._turn()

    def work(self) -> tuple[float, Callable[[], None]] | None:
        """One turn: what it costs, and what is done at its end; None if there is nothing."""
        raise NotImplementedError


class Link:
    """``rate`` and ``delay``, first in first out, in pieces."""

    def __init__(self, world: World, scene: Scene, delay: float, rate: float) -> None:
        self._world = world
        self._scene = scene
        self._dice = random.Random(scene.seed)
        self.rate = rate
        self.delay = delay
        self._free_at = 0.0
        self._in_order = 0.0

    def send(self, pieces: list[_Piece], to: Relay | Receiver) -> None:
        """Carry them."""
        share = self._scene.cross if int(self._world.now * 2) % 2 else 0.0
        rate = self.rate * (1 - share)
        step = max(1400, int(rate * 0.0005))
        for piece in pieces:
            left = piece.size
            while left > 0:
                size = min(left, step)
                left -= size
                self._free_at = max(self._free_at, self._world.now) + size / rate
                arrives = self._free_at + self.delay
                if self._dice.random() < self._scene.loss:
                    arrives += self._scene.round_trip
                # What comes behind a loss waits for it.
                self._in_order = max(self._in_order, arrives)
                self._world.at(self._in_order, partial(to.arrives, _Piece(piece.stream, size)))


class Taker(Process):
    """A process with pieces waiting for it."""

    def __init__(self, world: World, cpu: Cpu, speed: float) -> None:
        super().__init__(world, cpu)
        self.speed = speed
        self.inbox: deque[_Piece] = deque()

    def arrives(self, piece: _Piece) -> None:
        """Bytes are there to be read."""
        self.inbox.append(piece)
        self.wake()

    def read(self) -> tuple[list[_Piece], int]:
        """What one read gives."""
        pieces, size = [], 0
        while self.inbox and size < _READ:
            pieces.append(self.inbox.popleft())
            size += pieces[-1].size
        return pieces, size


class Relay(Taker):
    """The middle."""

    link: Link
    to: Relay | Receiver

    def work(self) -> tuple[float, Callable[[], None]] | None:
        """See `Process`."""
        pieces, size = self.read()
        if not pieces:
            return None
        return size / self.speed, partial(self.link.send, pieces, self.to)


class Receiver(Taker):
    """The end whose applications take everything at once."""

    back: float
    sender: Sender

    def __init__(self, world: World, cpu: Cpu, speed: float, heard: Callable[[], None]) -> None:
        super().__init__(world, cpu, speed)
        self.flow = FlowControl(Budget())
        self.taken = 0
        self._small = 0
        self._heard = heard
        self._timer = 0.0

    def work(self) -> tuple[float, Callable[[], None]] | None:
        """See `Process`."""
        pieces, size = self.read()
        if pieces:
            return size / self.speed, partial(self._take, pieces)
        due = list(self.flow.due_reports(self.world.now))
        if due:
            return 0.0, partial(self._report, due)
        when = self.flow.next_deadline(self.world.now)
        if when is not None and not self.world.now < self._timer <= when:
            self._timer = when
            self.world.at(when, self.wake)
        return None

    def _take(self, pieces: list[_Piece]) -> None:
        urgent: dict[int, ChannelFlowControl] = {}
        for piece in pieces:
            far = piece.stream.far
            far.inbound.arrived(piece.size)
            if self.flow.consumed(far, piece.size, self.world.now):
                urgent[id(far)] = far
            if piece.stream.busy:
                self.taken += piece.size
            else:
                # A message may come in parts, and several in one.
                self._small += piece.size
                while self._small >= _PING:
                    self._small -= _PING
                    self._heard()
        self._report([*urgent.values(), *self.flow.due_reports(self.world.now)])

    def _report(self, channels: list[ChannelFlowControl]) -> None:
        for channel in channels:
            channel.report_at = 0.0
        reports = [(channel, *channel.inbound.report()) for channel in channels]
        if reports:
            self.world.at(self.world.now + self.back, partial(self.sender.hears, reports))


class Sender(Process):
    """The end whose applications never run out of bytes."""

    link: Link
    to: Relay | Receiver

    def __init__(self, world: World, cpu: Cpu, speed: float, flow: FlowControl) -> None:
        super().__init__(world, cpu)
        self.speed = speed
        self.flow = flow
        self.ready: deque[_Stream] = deque()
        self.blocked: list[_Stream] = []
        self.streams: dict[int, _Stream] = {}
        self._reports: list[tuple[ChannelFlowControl, int, int]] = []
        self._timer = 0.0

    def hears(self, reports: list[tuple[ChannelFlowControl, int, int]]) -> None:
        """Reports have arrived."""
        self._reports += reports
        self.wake()

    def say(self, stream: _Stream) -> None:
        """A small message."""
        stream.waiting += _PING
        self.ready.append(stream)
        self.wake()

    def work(self) -> tuple[float, Callable[[], None]] | None:
        """See `Process`: reports first, then a batch as the scheduler makes it."""
        now = self.world.now
        flow = self.flow
        reports, self._reports = self._reports, []
        for far, taken, limit in reports:
            stream = self.streams[id(far)]
            news = stream.near.outbound.granted(taken, limit)
            if news:
                flow.reported(stream.near, news, now)
        flow.deadline_passed([stream.near for stream in self.streams.values()], now)
        batch = self._fill(now)
        if batch:
            return sum(p.size for p in batch) / self.speed, partial(self.link.send, batch, self.to)
        if reports:
            return 0.0, lambda: None
        if not self.blocked:
            flow.path.app_limited()
        when = flow.next_deadline(now)
        if when is not None and not now < self._timer <= when:
            self._timer = max(when, now + 1e-6)
            self.world.at(self._timer, self.wake)
        return None

    def _fill(self, now: float) -> list[_Piece]:
        flow, ready = self.flow, self.ready
        if self.blocked:
            ready.extend(self.blocked)
            self.blocked.clear()
        limit = flow.path.batch
        used = 0
        batch: list[_Piece] = []
        while ready and used < limit:
            stream = ready.popleft()
            allowed = flow.sendable(stream.near)
            if allowed <= 0:
                self.blocked.append(stream)
                continue
            share = max(flow.path.frame, min(_LARGE_FRAME, limit // (1 + len(ready))))
            size = min(allowed, share)
            if not stream.busy:
                size = min(size, stream.waiting)
                stream.waiting -= size
            if size:
                flow.sent(stream.near, size, now)
                batch.append(_Piece(stream, size))
                used += size
            if stream.busy or stream.waiting:
                ready.append(stream)
        return batch


class Unbounded(Path):
    """A path that is always sent as much as a receiver can grant."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self._aim()

    def _aim(self) -> None:
        self.inflight_target = self._goal = CEILING


def run(scene: Scene, path: Path | None = None) -> Outcome:
    """Play ``scene``; ``path`` is the sender's estimate, if not a new one."""
    world = World()
    cpus = scene.cpus(world)
    said: deque[float] = deque()
    delays: list[float] = []
    settled = scene.seconds / 2 if scene.settled is None else scene.settled

    def heard() -> None:
        when = said.popleft()
        if when > settled:
            delays.append(world.now - when - scene.round_trip / 2)

    flow = FlowControl(Budget())
    if path is not None:
        flow.path = path
    sender = Sender(world, cpus[0], scene.end, flow)
    middle = Relay(world, cpus[1], scene.middle)
    receiver = Receiver(world, cpus[2], scene.end, heard)
    slow = Link(world, scene, scene.round_trip / 2, scene.rate)
    fast = Link(world, Scene("one machine"), 0.00001, 2e9)
    sender.link, middle.link = (slow, fast) if scene.before else (fast, slow)
    sender.to, middle.to = middle, receiver
    receiver.sender, receiver.back = sender, scene.round_trip / 2
    for number in range(scene.streams + 1):
        near, far = (ChannelFlowControl(_WINDOW, _WINDOW, Budget()) for _ in range(2))
        sender.streams[id(far)] = _Stream(near, far, number > 0)
    small, *bulk = sender.streams.values()

    def say() -> None:
        said.append(world.now)
        sender.say(small)
        world.at(world.now + _PING_EVERY, say)

    def begin() -> None:
        # As the answer to the request for a channel has told.
        flow.path.round_trip_seen(scene.round_trip + 0.0002)
        sender.ready.extend(bulk)
        sender.wake()

    world.at(0.01, say)
    world.at(BEGIN, begin)
    for when, rate in scene.changes:
        world.at(when, partial(setattr, slow, "rate", rate))
    world.run(settled)
    before = receiver.taken
    world.run(scene.seconds)
    taken = (receiver.taken - before) / (scene.seconds - settled)
    # Those that have not arrived are late too.
    delays += [world.now - when for when in said if when > settled]
    return Outcome(taken, statistics.median(delays), statistics.quantiles(delays, n=10)[-1])


def capacity(scene: Scene) -> float:
    """What the path of ``scene`` carries if nobody minds the delay."""
    return run(scene, Unbounded()).rate
