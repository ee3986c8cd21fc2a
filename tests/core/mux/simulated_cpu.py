"""Virtual time, and processes that do not run all of it: stopped now and then, or sharing cores."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from typing import Protocol

_NEVER = 1e9
_SLICE = 0.003


class World:
    """The clock, in seconds, and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call at the virtual time ``when``."""
        heapq.heappush(self._agenda, (when, next(self._numbers), call))

    def run(self, until: float) -> None:
        """Let the time pass."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            self.now, _, call = heapq.heappop(agenda)
            call()
        self.now = until


class Cpu(Protocol):
    """What one process runs on."""

    def begin(self, call: Callable[[], None]) -> None:
        """The process has been idle: call as soon as it runs."""

    def spend(self, cost: float, call: Callable[[], None]) -> None:
        """Call when the process has run for ``cost`` seconds more."""

    def end(self) -> None:
        """The process is idle."""


class Stops:
    """A core of its own, except in intervals ``(start, end)`` in order of time."""

    def __init__(self, world: World, stops: Iterable[tuple[float, float]] = ()) -> None:
        self._world = world
        self._stops = iter(stops)
        self._next = next(self._stops, (_NEVER, _NEVER))

    def _running_from(self, when: float) -> float:
        """The first time from ``when`` on at which the process runs."""
        while self._next[0] <= when:
            when = max(when, self._next[1])
            self._next = next(self._stops, (_NEVER, _NEVER))
        return when

    def begin(self, call: Callable[[], None]) -> None:
        """See `Cpu`."""
        self._world.at(self._running_from(self._world.now), call)

    def spend(self, cost: float, call: Callable[[], None]) -> None:
        """See `Cpu`."""
        when = self._running_from(self._world.now)
        while when + cost > self._next[0]:
            cost -= self._next[0] - when
            when = self._running_from(self._next[0])
        self._world.at(when + cost, call)

    def end(self) -> None:
        """See `Cpu`."""


def periodic(stopped: float, every: float, first: float = 0.3) -> Iterator[tuple[float, float]]:
    """Stopped for so long at regular times."""
    return ((first + n * every, first + n * every + stopped) for n in count())


def at_random(stopped: float, every: float, seed: int) -> Iterator[tuple[float, float]]:
    """Stopped for up to twice ``stopped``, on average once in ``every`` seconds."""
    dice = random.Random(seed)
    end = 0.3
    while True:
        start = end + dice.expovariate(1 / max(every - stopped, 0.001))
        end = start + dice.uniform(0, 2 * stopped)
        yield start, end


class Machine:
    """A few cores for all processes and some busy loops, shared fairly in slices of time."""

    def __init__(
        self, world: World, cores: int, loops: int, slices: Callable[[], float] = lambda: _SLICE
    ) -> None:
        self.world = world
        self.slices = slices
        self._free = cores
        self._ready: list[Seat] = []
        self._least = 0.0
        for _ in range(loops):
            seat = Seat(self)
            seat.begin(partial(seat.spend, _NEVER, seat.end))

    def wait(self, seat: Seat, slept: bool) -> None:
        """The process of ``seat`` wants to run; sleeping does not save up time."""
        if slept:
            seat.used = max(seat.used, self._least - _SLICE)
        self._ready.append(seat)
        self._turn()

    def leave(self) -> None:
        """A core is free."""
        self._free += 1
        self._turn()

    def _turn(self) -> None:
        while self._free and self._ready:
            seat = min(self._ready, key=lambda ready: ready.used)
            self._ready.remove(seat)
            self._free -= 1
            self._least = max(self._least, seat.used)
            seat.run(self.slices())


class Seat:
    """One process of a `Machine`, see `Cpu`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.used = 0.0
        self._slice = 0.0
        self._left = 0.0
        self._call: Callable[[], None] = self.end

    def begin(self, call: Callable[[], None]) -> None:
        """See `Cpu`."""
        self._left, self._call = 0.0, call
        self._machine.wait(self, True)

    def run(self, length: float) -> None:
        """A core is there for at most so long."""
        self._slice = length
        self.spend(self._left, self._call)

    def spend(self, cost: float, call: Callable[[], None]) -> None:
        """See `Cpu`."""
        part = min(cost, self._slice)
        self._slice -= part
        self.used += part
        self._left, self._call = cost - part, call
        self._machine.world.at(self._machine.world.now + part, self._spent)

    def _spent(self) -> None:
        if self._left > 0:
            self._machine.leave()
            self._machine.wait(self, False)
        else:
            self._call()

    def end(self) -> None:
        """See `Cpu`."""
        self._machine.leave()
