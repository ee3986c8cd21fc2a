"""Interactive traffic beside bulk: one bulk stream and small messages in the same tunnel.

Round trips are those of a small message on a stream of its own, one per 50 ms, first with nothing
else in the tunnel (idle), then beside a bulk stream (loaded). On an emulated link the bulk rate is
also given as share of what plain TCP gets on the same link. Further cases on loopback: 100
interactive streams beside one bulk stream, and bulk streams beside one whose reader has stalled.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import attrs

from bench import loads, traffic
from bench.link import Link, Namespace, congestion_controls, permitted
from bench.parties import Layout, PartyFailed, Place, loopback, prepared
from bench.report import as_json, median, number, table, verdict
from bench.rig import Rig, describe, rigs
from bench.system import System
from bench.systems import choose

MIB = float(1 << 20)
DEFAULT = ("ssh-pair", "chisel", "lstp")


@attrs.frozen
class Scene:
    """One network to measure on."""

    name: str
    title: str
    rate: float = 0.0
    """Bits per second of the slow leg; 0: all on loopback."""
    round_trip: float = 0.0
    """Seconds, of the slow leg."""
    behind: bool = False
    """The slow leg is between middle and receiving end, not between sending end and middle."""
    interactive: int = 1
    """Interactive streams."""


SCENES = (
    Scene("loopback", "loopback"),
    Scene("before", "100 Mbit/s, 20 ms, slow leg before the middle", 100e6, 0.020),
    Scene("behind", "100 Mbit/s, 20 ms, slow leg behind the middle", 100e6, 0.020, behind=True),
    Scene("slow", "10 Mbit/s, 40 ms, slow leg before the middle", 10e6, 0.040),
    Scene("hundred", "loopback, 100 interactive streams", interactive=100),
    Scene("hundred-far", "100 Mbit/s, 200 ms, 100 interactive", 100e6, 0.200, interactive=100),
)
STALLED = "stalled"


class Outcome(NamedTuple):
    """What one system came to in one scene; times in seconds, rate in bytes per second."""

    idle: float
    idle_p99: float
    loaded: float
    loaded_p99: float
    rate: float
    share: float
    """Of the rate of plain TCP on the same link; nan on loopback."""


@contextlib.contextmanager
def network(scene: Scene, congestion_control: str) -> Iterator[Layout]:
    """The places of a scene."""
    if not scene.rate:
        with loopback(congestion_control) as (layout, _):
            yield layout
        return
    with (
        Namespace(congestion_control) as near,
        Namespace(congestion_control) as far,
        Link(near, far, rate=scene.rate, round_trip=scene.round_trip),
    ):
        client, server = Place(near, near.address), Place(far, far.address)
        yield Layout(client, client if scene.behind else server, server)


def measure(rig: Rig, scene: Scene, seconds: float, down: bool) -> Outcome:
    """Idle, then loaded; the share is still to be filled in."""

    def pings(duration: float) -> list[float]:
        return rig.here(lambda: loads.ping(rig.entry, duration, scene.interactive))

    warm = 0.5 if not scene.rate else 1.0 + 20 * scene.round_trip
    idle = pings(seconds / 2)
    with rig.sending(warm + seconds + 30, down=down) as received:
        time.sleep(warm)
        # The rate is taken over the time in which pings are sent, and until the last is answered.
        bulk, loaded = rig.sample(received, lambda: pings(seconds))
    return Outcome(
        median(idle),
        loads.quantile(idle, 0.99),
        median(loaded),
        loads.quantile(loaded, 0.99),
        bulk.rate,
        math.nan,
    )


def run_scene(
    scene: Scene,
    systems: list[System],
    runs: int,
    seconds: float,
    options: argparse.Namespace,
    notes: list[str],
) -> dict[str, Outcome]:
    """All systems in turn on one network, ``runs`` times; medians of each figure."""
    results: dict[str, list[Outcome]] = {}
    with (
        network(scene, options.congestion_control) as layout,
        rigs(systems, layout, notes, quiet_if_missing=True) as running,
    ):
        for _ in range(runs):
            for rig in running:
                try:
                    outcome = measure(rig, scene, seconds, options.down)
                except (PartyFailed, loads.LoadError) as error:
                    notes.append(f"{rig.system.name}, {scene.title}: {describe(error)}")
                    continue
                results.setdefault(rig.system.name, []).append(outcome)
    medians = {name: Outcome(*map(median, zip(*o, strict=True))) for name, o in results.items()}
    if scene.rate and "none" in medians:
        plain = medians["none"].rate
        medians = {name: o._replace(share=o.rate / plain) for name, o in medians.items()}
    return medians


def stall_one(rig: Rig) -> Callable[[], None]:
    """Fill a stream whose reader has stalled; returns what ends it."""

    def fill() -> Callable[[], None]:
        connection = traffic.open_mode(rig.entry, traffic.STALL)
        connection.setblocking(False)
        data = bytes(1 << 20)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            _, writable, _ = select.select([], [connection], [], 0.3)
            if not writable:
                break
            connection.send(data)
        return connection.close

    return rig.here(fill)


def run_stalled(
    systems: list[System], runs: int, seconds: float, options: argparse.Namespace, notes: list[str]
) -> dict[str, tuple[float, float]]:
    """Rate of 8 bulk streams alone (before and after), and beside a stalled one, in bytes/s."""
    results: dict[str, list[tuple[float, float]]] = {}
    with (
        loopback(options.congestion_control) as (layout, _),
        rigs(systems, layout, notes, quiet_if_missing=True) as running,
    ):
        for _ in range(runs):
            for rig in running:
                try:
                    before = rig.bulk(seconds, 8).rate
                    release = stall_one(rig)
                    beside = rig.bulk(seconds, 8).rate
                    release()
                    alone = (before + rig.bulk(seconds, 8).rate) / 2
                except (PartyFailed, loads.LoadError) as error:
                    notes.append(f"{rig.system.name}, stalled: {describe(error)}")
                    continue
                results.setdefault(rig.system.name, []).append((alone, beside))
    return {
        name: (median([a for a, _ in pairs]), median([b for _, b in pairs]))
        for name, pairs in results.items()
    }


def milliseconds(value: float) -> str:
    """Seconds as milliseconds."""
    return number(value * 1e3)


def judge(scene: Scene, name: str, outcome: Outcome) -> str:
    """What the aims say about it."""
    if name == "none":
        return ""
    if scene.interactive > 1:
        # R12: 50 ms on loopback, the round trip and 100 ms far away, at p99.
        limit = scene.round_trip + 0.100 if scene.rate else 0.050
        return verdict(outcome.loaded_p99, limit, at_most=True)
    late = verdict(outcome.loaded, outcome.idle + 0.010, at_most=True)
    if scene.rate and late == "ok":
        return verdict(outcome.share, 0.95)
    return late


def show(scene: Scene, medians: dict[str, Outcome]) -> None:
    """One table."""
    if scene.interactive > 1:
        limit = scene.round_trip + 0.100 if scene.rate else 0.050
        aim = f"aim: loaded p99 at most {limit * 1e3:.0f} ms"
    else:
        aim = "aim: loaded at most idle + 10 ms"
        aim += " at 95 % of the plain-TCP rate" if scene.rate else ""
    head = [scene.title, "idle ms", "p99", "loaded ms", "p99", "bulk MiB/s", "of plain TCP", ""]
    rows = [
        [
            name,
            *map(milliseconds, outcome[:4]),
            number(outcome.rate / MIB),
            number(outcome.share * 100, " %") if not math.isnan(outcome.share) else "-",
            judge(scene, name, outcome),
        ]
        for name, outcome in medians.items()
    ]
    print(f"{table(head, rows)}\n({aim})\n")


def main() -> int:
    """Run it; 0 if nothing failed."""
    names = [*(scene.name for scene in SCENES), STALLED]
    parser = argparse.ArgumentParser(
        prog="python -m bench.interactive", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="one round and shorter")
    parser.add_argument("--only", default="", metavar="NAME,...", help="just these systems")
    parser.add_argument("--scenes", default="", metavar="NAME,...", help=", ".join(names))
    parser.add_argument("--runs", type=int, help="rounds (default 3, quick 1)")
    parser.add_argument("--seconds", type=float, help="time under load (default 5, quick 3)")
    parser.add_argument("--down", action="store_true", help="bulk from the target to the client")
    parser.add_argument("--congestion-control", default="reno", choices=congestion_controls())
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    runs = options.runs or (1 if options.quick else 3)
    seconds = options.seconds or (3.0 if options.quick else 5.0)
    wanted = options.scenes.split(",") if options.scenes else names
    for name in wanted:
        if name not in names:
            parser.error(f"no scene {name!r}; known: {', '.join(names)}")
    systems = choose(options.only, DEFAULT)
    notes = [f"{s.name}: not installed: {', '.join(s.missing())}" for s in systems if s.missing()]
    compared = [*choose("none"), *(system for system in systems if system.name != "none")]
    failures: list[str] = []
    collected: dict[str, object] = {}
    with prepared():
        for scene in SCENES:
            if scene.name not in wanted:
                continue
            if scene.rate and not permitted():
                failures.append(f"{scene.title}: needs root for its network namespaces")
                continue
            medians = run_scene(scene, compared, runs, seconds, options, failures)
            collected[scene.name] = {name: o._asdict() for name, o in medians.items()}
            if not options.json:
                show(scene, medians)
        if STALLED in wanted:
            rates = run_stalled(systems, runs, seconds / 2, options, failures)
            collected[STALLED] = rates
            if not options.json:
                head = ["8 bulk streams, loopback", "alone MiB/s", "one more stalled", "kept", ""]
                rows = [
                    [
                        name,
                        number(alone / MIB),
                        number(beside / MIB),
                        number(100 * beside / alone, " %"),
                        verdict(beside / alone, 0.8),
                    ]
                    for name, (alone, beside) in rates.items()
                ]
                print(f"{table(head, rows)}\n(aim: the others keep 80 %)\n")
    failures = list(dict.fromkeys(failures))
    if options.json:
        print(as_json({"scenes": collected, "notes": notes + failures}))
    else:
        print(f"Medians of {runs} runs, TCP congestion control {options.congestion_control}.")
        print("\n".join(notes + failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
