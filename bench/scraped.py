"""How long scrapes hold an end up: turns of its reactor with many channels open (row O7).

Idle channels are opened through an LSTP tunnel, and a few that are in use. For a while nobody asks
the ends anything, then their metrics, state and channels are fetched several times a second, in
turn. A turn is measured by the CPU time of the reactor's thread, so that other programs of the
machine do not count; the garbage collector's share is told apart.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from bench import loads
from bench.checkout import ROOT
from bench.counting import say
from bench.memory import check_channels, idle_channels
from bench.own import Lstp
from bench.parties import Layout, Party, PartyFailed, loopback, prepared
from bench.report import as_json, number, table, verdict
from bench.rig import Rig, describe, rigs

AIM = 20.0
"""Milliseconds of CPU time that a turn may take while scraped."""
ENDS = ("lstp-server-end", "lstp-client-end")
PATHS = ("/metrics", "/status.json", "/channels", "/channels?filter=tcp")
IN_USE = 20
"""Channels that exchange messages meanwhile."""
EVERY = 0.2
"""Seconds between two fetches."""
STATUS = "status"
"""The socket of an end's --status, in the directory of its process."""

Turns = list[tuple[float, float]]
"""Seconds, and the garbage collector's share of them."""


class Watched(Lstp):
    """LSTP ends that show their status."""

    def __init__(self, channels: int) -> None:
        super().__init__(tree=ROOT)
        self.options = ("--status", f"unix:{STATUS}", "--max-channels", str(channels))


class Scene(NamedTuple):
    """What was measured of both ways, by party."""

    quiet: dict[str, Turns]
    scraped: dict[str, Turns]
    sizes: dict[str, int]
    """Bytes of the largest answer."""

    def scrape(self, party: Party) -> None:
        """Ask for all that is measured."""
        for path in PATHS:
            self.sizes[party.name] = max(self.sizes.get(party.name, 0), fetch(party, path))


def leave(party: Party) -> None:
    """Ask nothing."""


def fetch(party: Party, path: str) -> int:
    """Ask an end; how long its answer is. LoadError if that is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(str(party.log.with_name(STATUS)))
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())
        answer = b""
        while piece := sock.recv(1 << 16):
            answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise loads.LoadError(f"{party.name} does not answer {path}")
    return len(answer)


def ends(rig: Rig) -> Iterator[Party]:
    """Those that are measured."""
    return (party for party in rig.parties.running if party.name in ENDS)


def watch(
    rig: Rig, used: list[socket.socket], seconds: float, scrape: Callable[[Party], object]
) -> dict[str, Turns]:
    """Turns by party while messages pass, and ``scrape`` is called with each now and then."""
    for party in ends(rig):
        say(party, "turns")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        check_channels(used)
        for party in ends(rig):
            scrape(party)
        time.sleep(EVERY)
    return {party.name: [tuple(turn) for turn in say(party, "turns")] for party in ends(rig)}


def measure(layout: Layout, channels: int, runs: int, seconds: float, notes: list[str]) -> Scene:
    """Both ways in turn, ``runs`` times."""
    scene = Scene({name: [] for name in ENDS}, {name: [] for name in ENDS}, {})
    with rigs([Watched(channels)], layout, notes) as running, contextlib.ExitStack() as opened:
        for rig in running:
            try:
                connections = rig.here(partial(idle_channels, rig.entry, 0, channels - IN_USE))
                used = rig.here(partial(idle_channels, rig.entry, 0, IN_USE))
                for connection in (*connections, *used):
                    opened.enter_context(connection)
                for _ in range(runs):
                    for found, way in ((scene.quiet, leave), (scene.scraped, scene.scrape)):
                        for name, turns in watch(rig, used, seconds, way).items():
                            found[name] += turns
            except (PartyFailed, loads.LoadError, OSError) as error:
                notes.append(describe(error))
    return scene


def row(name: str, turns: Turns) -> list[str]:
    """Figures of one party, in ms."""
    worst = max(turns, default=(float("nan"), float("nan")))
    own = max((taken - collected for taken, collected in turns), default=float("nan"))
    return [name, str(len(turns)), *(number(1e3 * figure) for figure in (*worst, own))]


def main() -> int:
    """Run it; 0 if nothing failed and no turn took too long."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scraped", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--channels", type=int, default=10_000, help="open (default 10000)")
    parser.add_argument("--runs", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each way and round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    notes: list[str] = []
    with prepared(), loopback("reno") as (layout, _):
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200
        channels = max(2 * IN_USE, min(options.channels, room))
        scene = measure(layout, channels, options.runs, options.seconds, notes)
    longest = {
        name: 1e3 * max(turns, default=(0.0, 0.0))[0] for name, turns in scene.scraped.items()
    }
    if options.json:
        print(as_json({"channels": channels, **scene._asdict(), "notes": notes}))
    else:
        heads = [f"{channels} channels", "turns", "longest ms", "collector's", "without it"]
        rows = []
        for name in ENDS:
            rows.append(row(name, scene.quiet[name]))
            shown = verdict(longest[name], AIM, at_most=True)
            rows.append([*row("  scraped", scene.scraped[name]), shown])
        print(table([*heads, ""], [[*cells, ""][: len(heads) + 1] for cells in rows]))
        print(f"(aim: a turn while scraped takes at most {AIM:g} ms; answers: {scene.sizes})")
        print("\n".join(notes))
    return 1 if notes or max(longest.values()) > AIM else 0


if __name__ == "__main__":
    sys.exit(main())
