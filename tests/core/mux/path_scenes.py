"""Scenes for `tests.core.mux.path_simulator`: fixed ones, and as many random ones as you like.

``python -m tests.core.mux.path_scenes [COUNT [FIRST]]`` plays random scenes and tells which did
worst, and why.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import attrs

from tests.core.mux.path_simulator import BEGIN, MBIT, MIB, Cpus, Outcome, Scene, capacity, run
from tests.core.mux.simulated_cpu import Cpu, Machine, Seat, Stops, World, at_random, periodic
from tunnelkit.core.mux.path import Path, Phase

OPEN = 0.5
"""Fill where the estimate is known to fall short: it cannot tell a middle that stops from a
receiver that does, and only the first is helped by more in flight."""
PARTIES = ("sender", "middle", "receiver")

StopTimes = Callable[[], Iterator[tuple[float, float]]]


def stopped(stops: dict[str, StopTimes]) -> Cpus:
    """Processors of which some are stopped now and then."""

    def cpus(world: World) -> Sequence[Cpu]:
        return [Stops(world, stops[who]() if who in stops else iter(())) for who in PARTIES]

    return cpus


def shared(
    loops: int, shortest: float = 0.003, longest: float = 0.003, seed: int | None = None
) -> Cpus:
    """Two cores for all and for busy loops, in slices of random length."""

    def cpus(world: World) -> Sequence[Cpu]:
        dice = random.Random(loops if seed is None else seed)
        machine = Machine(world, 2, loops, lambda: dice.uniform(shortest, longest))
        return [Seat(machine) for _ in PARTIES]

    return cpus


def _stops() -> Iterator[Scene]:
    for who in PARTIES:
        for gap in (0.002, 0.005, 0.010, 0.020, 0.050):
            fill = OPEN if who == "middle" else 0.9
            yield Scene(
                f"{who} stopped {gap * 1e3:.0f} of {gap * 2e3:.0f} ms",
                stopped({who: partial(periodic, gap, 2 * gap)}),
                gap,
                fill=fill,
            )
            yield Scene(
                f"{who} stopped {gap * 1e3:.0f} ms at random",
                stopped({who: partial(at_random, gap, 3 * gap, 7)}),
                2 * gap,
                fill=fill,
            )


def _first_seconds() -> Iterator[Scene]:
    """Streams of a second through a new tunnel on a busy machine, from their first byte on.

    The seeds are those of twenty with which less than a third came through while waits for a core
    were taken for a queue."""
    for loops, longest, seed, fill in (
        (2, 0.010, 0, 0.85),
        (2, 0.020, 3, 0.8),
        (4, 0.020, 1, 0.75),
        (6, 0.020, 0, 0.8),
        (8, 0.020, 3, 0.75),
    ):
        yield Scene(
            f"the first second, {loops} busy loops in slices of 1 to {longest * 1e3:.0f} ms",
            shared(loops, 0.001, longest, seed),
            # Each of the three processes waits for its turn, and reads what came meanwhile.
            3 * longest * (loops + 2) / 2 / 2 + 0.1,
            fill=fill,
            seconds=1 + BEGIN,
            settled=BEGIN,
        )


_FAR = Scene("100 Mbit/s, 20 ms", rate=100 * MBIT, round_trip=0.020)
_SLOW = Scene("10 Mbit/s, 40 ms", rate=10 * MBIT, round_trip=0.040, seconds=8)

SCENES = [
    Scene("a core for each"),
    Scene("two cores", shared(0)),
    Scene("two cores, 2 busy loops", shared(2), 0.006),
    Scene("two cores, 4 busy loops", shared(4), 0.009),
    Scene("nine processes in slices of 1 to 20 ms", shared(6, 0.001, 0.020), 0.060),
    *_first_seconds(),
    *_stops(),
    _FAR,
    attrs.evolve(_FAR, name="100 Mbit/s before the middle", before=True),
    _SLOW,
    attrs.evolve(_SLOW, name="10 Mbit/s before the middle", before=True),
    *(
        attrs.evolve(
            _FAR,
            name=f"100 Mbit/s, {who} stopped 20 of 40 ms",
            fill=OPEN if who == "middle" else 0.9,
            cpus=stopped({who: partial(periodic, 0.020, 0.040)}),
            gap=0.020,
        )
        for who in PARTIES
    ),
    *(
        attrs.evolve(
            _FAR,
            name=f"100 Mbit/s, {who} stopped 20 ms at random",
            fill=OPEN if who == "middle" else 0.9,
            cpus=stopped({who: partial(at_random, 0.020, 0.060, 3)}),
            gap=0.040,
        )
        for who in PARTIES
    ),
    Scene("16 streams", streams=16),
    attrs.evolve(_FAR, name="64 streams, 100 Mbit/s", streams=64, seconds=1.6),
    attrs.evolve(_SLOW, name="64 streams, 10 Mbit/s", streams=64, seconds=3, fill=0.7),
    Scene("1 Gbit/s, 1 ms", rate=1000 * MBIT, round_trip=0.001),
    Scene("100 Mbit/s, 200 ms", rate=100 * MBIT, round_trip=0.200, seconds=12),
    # With a twentieth of such a round trip for headroom.
    Scene("10 Mbit/s, 500 ms", rate=10 * MBIT, round_trip=0.500, gap=0.010, seconds=20),
    attrs.evolve(_FAR, name="cross traffic", cross=0.5, gap=0.010, seconds=8, fill=0.8),
    attrs.evolve(_FAR, name="losses", loss=0.001),
    attrs.evolve(
        _FAR, name="ten times faster after a second", rate=10 * MBIT, changes=((1.0, 100 * MBIT),)
    ),
    attrs.evolve(_FAR, name="ten times slower after a second", changes=((1.0, 10 * MBIT),)),
]


def random_scene(number: int) -> Scene:
    """One of as many as there are numbers."""
    dice = random.Random(number)
    gap = 0.0
    cpus: Cpus = shared(0)
    kind = dice.choice(("stops", "machine", "machine", "none"))
    if kind == "stops":
        stops: dict[str, StopTimes] = {}
        for who in dice.sample(PARTIES, dice.randint(1, 2)):
            length = dice.choice((0.002, 0.005, 0.010, 0.020, 0.050))
            every = length * dice.uniform(1.8, 8)
            if dice.random() < 0.5:
                stops[who] = partial(periodic, length, every)
                gap += length
            else:
                stops[who] = partial(at_random, length, every, number)
                gap += 2 * length
        cpus = stopped(stops)
    elif kind == "machine":
        loops = dice.randint(1, 6)
        longest = dice.choice((0.002, 0.003, 0.004, 0.010, 0.020))
        cpus = shared(loops, dice.choice((0.001, longest)), longest)
        # Each of the three processes may have to wait for its turn.
        gap = 3 * longest * (loops + 2) / 2 / 2
    far = dice.random() < 0.5
    rate = 10 ** dice.uniform(6.1, 8.2) if far else 2e9
    round_trip = 10 ** dice.uniform(-3, -0.3) if far else dice.uniform(0.0001, 0.001)
    end = dice.uniform(100, 600) * MIB
    return Scene(
        f"{number}: {kind}",
        cpus,
        gap,
        rate,
        round_trip,
        end,
        4 * end,
        before=dice.random() < 0.5,
        streams=dice.choice((1, 1, 1, 2, 4, 16, 64)),
        cross=0.3 if far and dice.random() < 0.2 else 0.0,
        loss=0.001 if far and dice.random() < 0.2 else 0.0,
        seed=number,
        seconds=4 + 30 * round_trip,
    )


@attrs.frozen
class Played:
    """A scene and what came of it."""

    scene: Scene
    capacity: float
    outcome: Outcome
    path: Path

    @property
    def fill(self) -> float:
        """Share of the capacity that was used."""
        return self.outcome.rate / self.capacity

    @property
    def queue(self) -> float:
        """Seconds that half of the small messages waited beyond what they had to."""
        return self.outcome.delay - self.scene.gap

    @property
    def cause(self) -> str:
        """What the estimate has wrong, in the end."""
        path = self.path
        if path.phase is Phase.STARTUP:
            return "still in startup"
        if path.min_rtt > 1.5 * self.scene.round_trip + 0.003:
            return f"takes the round trip for {path.min_rtt * 1e3:.1f} ms"
        if path.bandwidth < 0.8 * self.capacity:
            return "bandwidth too low: less in flight than the stops need"
        if path.bandwidth > 1.3 * self.capacity:
            return "bandwidth too high: bursts are taken for speed"
        return "bandwidth right: the allowance for pauses is short" if self.fill < 0.9 else "none"

    def __str__(self) -> str:
        scene, path = self.scene, self.path
        return (
            f"{scene.name}: {scene.streams} streams, {scene.rate / MBIT:.0f} Mbit/s, "
            f"{scene.round_trip * 1e3:.1f} ms, ends {scene.end / MIB:.0f} MiB/s: fills "
            f"{self.fill:.0%} of {self.capacity / MIB:.1f} MiB/s, delay "
            f"{self.outcome.delay * 1e3:.1f} ms ({self.outcome.late * 1e3:.1f}), of which "
            f"{scene.gap * 1e3:.0f} must be; bandwidth {path.bandwidth / MIB:.1f}, "
            f"{path.min_rtt * 1e3:.1f} ms, {path.phase.value}; {self.cause}"
        )


def play(scene: Scene) -> Played:
    """Run ``scene`` and find out what was possible."""
    path = Path()
    return Played(scene, capacity(scene), run(scene, path), path)


def main(count: int = 200, first: int = 0) -> None:
    """Play ``count`` random scenes and print the worst."""
    played = [play(random_scene(number)) for number in range(first, first + count)]
    played.sort(key=lambda each: each.fill)
    short = [each for each in played if each.fill < 0.9]
    print(f"{count} scenes, {len(short)} fill less than 90 %; the lowest:")
    for each in played[:8]:
        print(f"  {each}")
    late = [each for each in played if each.queue > 0.010]
    print(f"{len(late)} queue more than 10 ms; the longest:")
    for each in sorted(late, key=lambda each: -each.queue)[:8]:
        print(f"  {each}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
