"""Compression: what ``--compress`` costs for random data, and what it gains for text.

The same tunnel twice, without and with compression, in turn. Random data tells what is lost
where nothing can be gained (at most 5 %), on loopback, where the processor is the limit. Text is
the sources of Python's library, through a slow leg before the middle, where the link is. A ratio
above 1 means that compression gains.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from bench.interactive import Scene, network
from bench.link import congestion_controls
from bench.loads import LoadError
from bench.own import CompressedLstp, Lstp
from bench.parties import PartyFailed, prepared
from bench.report import as_json, median, number, table, verdict
from bench.rig import Bulk, Rig, describe

MIB = float(1 << 20)
MOST_LOST = 0.05
"""Share of the rate that compression may cost where it gains nothing."""
TEXT_GAIN = 2.0
"""Times the rate that text has to come to on a slow link."""
LOADS = (
    ("random", Scene("loopback", "random data, loopback"), False, 1 - MOST_LOST),
    ("text", Scene("slow", "text, 10 Mbit/s, 40 ms", 10e6, 0.040), True, TEXT_GAIN),
)


def measure(scene: Scene, text: bool, options: argparse.Namespace) -> tuple[list[Bulk], list[Bulk]]:
    """The runs without and those with compression. Raises PartyFailed or LoadError."""
    with contextlib.ExitStack() as stack:
        layout = stack.enter_context(network(scene, options.congestion_control))
        both = [Rig(system, layout) for system in (Lstp(), CompressedLstp())]
        for rig in both:
            stack.callback(rig.stop)
            rig.start()
        runs: tuple[list[Bulk], list[Bulk]] = ([], [])
        for _ in range(options.runs):
            for rig, outcomes in zip(both, runs, strict=True):
                outcomes.append(rig.bulk(options.seconds, text=text))
    return runs


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    loads = [name for name, *_ in LOADS]
    parser.add_argument("--only", choices=loads, help="just this load")
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="a load's time (default 2)")
    parser.add_argument("--congestion-control", default="reno", choices=congestion_controls())
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    figures: dict[str, dict[str, list[Bulk]]] = {}
    rows = []
    for name, scene, text, aim in LOADS:
        if options.only not in (None, name):
            continue
        try:
            plain, packed = measure(scene, text, options)
        except (PartyFailed, LoadError, OSError) as error:
            print(f"{scene.title}: {describe(error)}", file=sys.stderr)
            return 1
        figures[name] = {"without": plain, "with": packed}
        before, after = (median([run.rate for run in runs]) for runs in (plain, packed))
        costs = (median([run.cpu for run in runs]) for runs in (plain, packed))
        ratio = after / before
        rates = map(number, (before / MIB, after / MIB, ratio))
        rows.append([scene.title, *rates, verdict(ratio, aim), *map(number, costs)])
    if options.json:
        print(as_json({"runs": figures}))
    else:
        head = ["MiB/s that arrive", "without", "with", "ratio", "", "CPU s/GiB without", "with"]
        print(table(head, rows))
    return 0


if __name__ == "__main__":
    with prepared():
        sys.exit(main())
