"""The whole job: application, end, middle, end, application, on one machine's loopback.

Every system is started once and all are measured in turn, again and again (A B A B ...), so that
a change in the machine hits them alike. Figures are medians. CPU is that of the system's own
processes, not of the applications. ``--repeat`` starts everything anew so many times.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import sys
from collections.abc import Callable

from bench import loads
from bench.busy import busy
from bench.checkout import ROOT, checkout
from bench.link import congestion_controls
from bench.own import Lstp, Own, Usher
from bench.parties import Layout, PartyFailed, loopback, prepared
from bench.report import as_json, median, number, pairwise, spread, table, verdict
from bench.rig import Rig, describe, rigs
from bench.system import System
from bench.systems import choose

MIB = float(1 << 20)

Results = dict[str, dict[str, list[float]]]
"""By system, then by column: one figure per run."""

COLUMNS = {
    "bulk": "1 stream MiB/s",
    "bulk_cpu": "CPU s/GiB",
    "bulk16": "16 streams MiB/s",
    "bulk16_cpu": "CPU s/GiB",
    "single": "1 conn req/s",
    "single_us": "p50 us",
    "single_p99": "p99 us",
    "fifty": "50 conn req/s",
    "new": "new conn/s",
}

LOADS = ("single", "fifty", "new", "bulk", "bulk16")
"""In this order: bulk leaves some systems busy. Their figures are the columns named like them."""

OURS: dict[str, type[Own]] = {"lstp": Lstp, "usher": Usher}

AIMS = (
    ("bulk", "ssh-pair", 2.0, False),
    ("bulk", "chisel", 8.0, False),
    ("bulk16", "ssh-pair", 2.0, False),
    ("bulk_cpu", "ssh-pair", 0.5, True),
    ("bulk16_cpu", "ssh-pair", 0.5, True),
    ("single", "ssh-pair", 1.0, False),
    ("fifty", "ssh-pair", 1.4, False),
    ("fifty", "chisel", 4.5, False),
    ("new", "ssh-pair", 35.0, False),
    ("new", "chisel", 3.5, False),
)
"""Column, peer, ratio to it that is aimed at, and whether that is an upper limit."""


def load_of(column: str) -> str:
    """The load that a column is a figure of."""
    return column.partition("_")[0]


def measure(rig: Rig, load: str, seconds: float, down: bool) -> dict[str, float]:
    """One load on one system. Raises PartyFailed and LoadError."""
    short = seconds / 2
    if load in ("bulk", "bulk16"):
        bulk = rig.bulk(seconds, 1 if load == "bulk" else 16, warm=short, down=down)
        return {load: bulk.rate / MIB, f"{load}_cpu": bulk.cpu}
    if load == "single":
        single = rig.here(lambda: loads.request_response(rig.entry, short))
        return {load: single.rate, "single_us": single.median * 1e6, "single_p99": single.p99 * 1e6}
    many = loads.many_connections if load == "fifty" else loads.new_connections
    return {load: rig.here(lambda: many(rig.entry, short))}


def measure_all(
    running: list[Rig],
    options: argparse.Namespace,
    results: Results,
    notes: list[str],
    progress: Callable[[str], None],
) -> None:
    """Every load on all systems in turn, ``runs`` times; their figures are added to ``results``."""
    for run in range(options.runs):
        for rig, load in itertools.product(running, options.loads):
            name = rig.system.name
            progress(f"run {run + 1} of {options.runs}: {name}, {load}")
            try:
                figures = measure(rig, load, options.seconds, options.down)
            except (PartyFailed, loads.LoadError) as error:
                notes.append(f"{name}, {load}: run {run + 1} failed: {describe(error)}")
                figures = {}
            for column, values in results[name].items():
                if load_of(column) == load:
                    values.append(figures.get(column, math.nan))


def ratios(medians: dict[str, dict[str, float]]) -> list[list[str]]:
    """Rows of the table of aims: each of ours against the peers that were run."""
    rows = []
    for ours in OURS:
        for column, peer, aim, at_most in AIMS:
            if ours in medians and peer in medians and column in medians[peer]:
                ratio = medians[ours][column] / medians[peer][column]
                unit = "at most " if at_most else "at least "
                label = COLUMNS["bulk" if column.startswith("bulk_") else column.split("_")[0]]
                if column.endswith("_cpu"):
                    label = f"{label.rpartition(' ')[0]} CPU per GiB"
                rows.append(
                    [
                        f"{ours}: {label}",
                        peer,
                        number(ratio, "x"),
                        unit + number(aim, "x"),
                        verdict(ratio, aim, at_most=at_most),
                    ]
                )
    return rows


def against_rows(results: Results, revision: str) -> list[list[str]]:
    """Rows of the table that compares ours with another revision, run by run."""
    rows = []
    for name in OURS:
        other = results.get(f"{name}@{revision}", {})
        for column, figures in results.get(name, {}).items():
            if column in other:
                ratios = pairwise(figures, other[column])
                rows.append([f"{name}: {COLUMNS[column]}", spread(ratios, "x")])
    return rows


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.whole_job", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="under a minute in all, rougher")
    parser.add_argument("--only", default="", metavar="NAME,...", help="just these systems")
    parser.add_argument(
        "--against", metavar="REVISION", help="this revision of lstp and usher as further systems"
    )
    parser.add_argument(
        "--loads", default=",".join(LOADS), metavar="LOAD,...", help="of %(default)s"
    )
    parser.add_argument("--runs", type=int, help="rounds (default 5, quick 2, with --repeat 1)")
    parser.add_argument(
        "--repeat",
        type=int,
        metavar="N",
        help="start everything anew N times; print lowest, median and highest of all rounds",
    )
    parser.add_argument("--seconds", type=float, help="bulk load's time (default 2, quick 0.8)")
    parser.add_argument("--down", action="store_true", help="bulk from the target to the client")
    parser.add_argument(
        "--busy", type=int, default=0, metavar="N", help="N busy loops per core meanwhile"
    )
    parser.add_argument("--congestion-control", default="reno", choices=congestion_controls())
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    options.loads = options.loads.split(",")
    for load in options.loads:
        if load not in LOADS:
            parser.error(f"no load {load!r}; known: {', '.join(LOADS)}")
    options.runs = options.runs or (1 if options.repeat else 2 if options.quick else 5)
    options.seconds = options.seconds or (0.8 if options.quick else 2.0)
    return options


def with_revision(
    systems: list[System], revision: str, stack: contextlib.ExitStack
) -> list[System]:
    """The systems with ours from this source tree, and from ``revision`` beside it."""
    tree = stack.enter_context(checkout(revision))
    both: list[System] = []
    for system in systems:
        if kind := OURS.get(system.name):
            both += [kind(tree=ROOT), kind(revision, tree)]
        else:
            both.append(system)
    return both


def run(
    systems: list[System], layout: Layout, options: argparse.Namespace, notes: list[str]
) -> Results:
    """Everything that was asked for."""

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text:60}", end="", file=sys.stderr, flush=True)

    columns = [column for column in COLUMNS if load_of(column) in options.loads]
    results: Results = {}
    for _ in range(options.repeat or 1):
        with rigs(systems, layout, notes) as running, busy(options.busy):
            for rig in running:
                results.setdefault(rig.system.name, {column: [] for column in columns})
            measure_all(running, options, results, notes, progress)
    progress("")
    return results


def main() -> int:
    """Run it; 0 if every system that is installed could be measured."""
    options = parse()
    systems = choose(options.only)
    notes: list[str] = []
    with prepared(), contextlib.ExitStack() as stack:
        if options.against:
            systems = with_revision(systems, options.against, stack)
        layout, setting = stack.enter_context(loopback(options.congestion_control))
        results = run(systems, layout, options, notes)
    notes = list(dict.fromkeys(notes))
    if options.busy:
        setting += f"; {options.busy} busy loops per core beside them"
    if options.json:
        print(as_json({"setting": setting, "notes": notes, "runs": results}))
    else:
        show(systems, results, options, setting)
        for note in notes:
            print(note)
    return 1 if any("not installed" not in note for note in notes) else 0


def show(
    systems: list[System], results: Results, options: argparse.Namespace, setting: str
) -> None:
    """Print the tables."""
    medians = {
        name: {column: median(figures) for column, figures in columns.items()}
        for name, columns in results.items()
    }
    rounds = options.runs * (options.repeat or 1)
    what = "Lowest, median and highest" if options.repeat else "Medians"
    print(f"{what} of {rounds} alternating runs. {setting}.\n")

    def cell(figures: list[float]) -> str:
        return spread(figures) if options.repeat else number(median(figures))

    titles = [title for column, title in COLUMNS.items() if load_of(column) in options.loads]
    rows = [[name, *map(cell, columns.values())] for name, columns in results.items()]
    print(table(["system", *titles], rows))
    if compared := ratios(medians):
        print("\n" + table(["ratio", "to", "measured", "aim", ""], compared))
    if changed := against_rows(results, options.against):
        print("\n" + table([f"ratio to {options.against}", "lowest, median, highest"], changed))
    print()
    for system in systems:
        if system.name in results:
            print(f"{system.name}: {system.legs}")


if __name__ == "__main__":
    sys.exit(main())
