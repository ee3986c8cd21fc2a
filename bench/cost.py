"""What a message and a channel cost: calls, byte codes, system calls and CPU, party by party.

Two operations, each again and again: a round trip (64 bytes and their answer on a connection that
is open), and a channel's life (opened, one byte said and answered, closed). Calls, byte codes and
system calls hardly depend on the machine; CPU does: compare what was measured in one run.
``--against`` measures another revision in turn with this tree.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from bench import loads
from bench.checkout import ROOT, checkout
from bench.counting import FIGURES, OPERATIONS, Counts, Operation, cannot_trace, measure
from bench.own import Lstp, Own, Usher
from bench.parties import Layout, PartyFailed, loopback, prepared
from bench.report import as_json, median, number, pairwise, spread, table
from bench.rig import describe, rigs

KINDS: dict[str, type[Own]] = {"lstp": Lstp, "usher": Usher}

ALL = "all together"
"""The row of the sum of all parties."""

Runs = dict[str, dict[str, list[dict[str, Counts]]]]
"""By system, then by operation: for each run what each party needed."""


def with_sum(counts: dict[str, Counts]) -> dict[str, Counts]:
    """The same with the sum of all parties."""
    figures = {name: sum(each.figures[name] for each in counts.values()) for name in FIGURES}
    return {**counts, ALL: Counts(figures, {}, {}, {})}


def measure_all(
    systems: Sequence[Own], operations: Sequence[Operation], runs: int, layout: Layout
) -> tuple[Runs, list[str]]:
    """All systems in turn, ``runs`` times, and what went wrong."""
    notes: list[str] = []
    with rigs(systems, layout, notes) as running:
        results: Runs = {
            rig.system.name: {operation.name: [] for operation in operations} for rig in running
        }
        for run in range(runs):
            for rig in running:
                name = rig.system.name
                for operation in operations:
                    if sys.stderr.isatty():
                        text = f"run {run + 1} of {runs}: {name}, {operation.name}"
                        print(f"\r{text:60}", end="", file=sys.stderr, flush=True)
                    try:
                        counts = rig.here(partial(measure, rig, operation))
                    except (PartyFailed, loads.LoadError) as error:
                        notes.append(f"{name}, {operation.name}: {describe(error)}")
                        continue
                    results[name][operation.name].append(with_sum(counts))
    if sys.stderr.isatty():
        print(f"\r{'':60}\r", end="", file=sys.stderr, flush=True)
    return results, notes


def column(runs: Iterable[dict[str, Counts]], party: str, figure: str) -> list[float]:
    """One figure of each run in which the party was."""
    return [counts[party].figures[figure] for counts in runs if party in counts]


def show(title: str, mine: list[dict[str, Counts]], other: list[dict[str, Counts]] | None) -> str:
    """One operation through one system: medians, and the ratios of the runs to the other's."""
    rows = []
    for party in dict.fromkeys(party for counts in mine for party in counts):
        medians = [median(column(mine, party, figure)) for figure in FIGURES]
        rows.append([party, *map(number, medians)])
        if other is not None:
            medians = [median(column(other, party, figure)) for figure in FIGURES]
            rows.append(["  against", *map(number, medians)])
            ratios = [
                pairwise(column(mine, party, figure), column(other, party, figure))
                for figure in FIGURES
            ]
            rows.append(["  ratio", *map(spread, ratios)])
    return table([title, *FIGURES.values()], rows)


def most_called(title: str, runs: list[dict[str, Counts]], most: int) -> str:
    """What each party calls most often, medians of the runs."""
    lines = []
    for party in runs[0] if runs else ():
        for kind in ("functions", "built_in", "system"):
            counts = [getattr(run[party], kind) for run in runs if party in run]
            often = {
                name: median([each.get(name, 0.0) for each in counts])
                for name in set().union(*counts)
            }
            ordered = sorted(often.items(), key=lambda item: (-item[1], item[0]))[:most]
            if ordered:
                lines.append(f"{title}, {party}, {FIGURES.get(kind, kind)}:")
                lines += [f"{times:8.2f}  {name}" for name, times in ordered]
    return "\n".join(lines)


def by_file(title: str, runs: list[dict[str, Counts]]) -> str:
    """Calls in Python by the file that the function is in, medians of the runs."""
    lines = []
    for party in runs[0] if runs else ():
        files: dict[str, list[float]] = {}
        for run in runs:
            sums: dict[str, float] = {}
            for name, times in run[party].functions.items() if party in run else ():
                file = name.partition(":")[0]
                sums[file] = sums.get(file, 0.0) + times
            for file, times in sums.items():
                files.setdefault(file, []).append(times)
        if files:
            lines.append(f"{title}, {party}, calls by file:")
        ordered = sorted(files.items(), key=lambda item: (-median(item[1]), item[0]))
        lines += [f"{median(each):8.2f}  {file}" for file, each in ordered]
    return "\n".join(lines)


def main() -> int:
    """Run it; 0 if everything could be counted."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--against", metavar="REVISION", help="measure this revision in turn")
    parser.add_argument("--only", choices=sorted(KINDS), help="just this system")
    parser.add_argument("--runs", type=int, help="rounds (default 3, with --against 10)")
    parser.add_argument(
        "--functions", type=int, default=0, metavar="N", help="and the N most called"
    )
    parser.add_argument("--files", action="store_true", help="and the calls by file")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual repetitions")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    runs = options.runs or (10 if options.against else 3)
    kinds = [kind for name, kind in KINDS.items() if options.only in (None, name)]
    operations = [operation.scaled(options.share) for operation in OPERATIONS]
    with prepared(), contextlib.ExitStack() as stack:
        trees: list[tuple[str, Path]] = [("", ROOT)]
        if options.against:
            trees.append((options.against, stack.enter_context(checkout(options.against))))
        layout, _ = stack.enter_context(loopback("reno"))
        systems = [kind(revision, tree) for kind in kinds for revision, tree in trees]
        results, notes = measure_all(systems, operations, runs, layout)
    if options.json:
        print(as_json({"notes": notes, "runs": results}))
        return 1 if notes else 0
    print(f"Medians of {runs} runs, per operation.", end="")
    if options.against:
        print(f" Against {options.against}; ratios lowest, median, highest.", end="")
    print("\n")
    for system in systems:
        if system.tree == ROOT and system.name in results:
            other = results.get(f"{system.name}@{options.against}")
            for operation, mine in results[system.name].items():
                beside = other[operation] if other else None
                print(show(f"{system.name}: {operation}", mine, beside) + "\n")
    for name, by_operation in results.items():
        for operation, mine in by_operation.items():
            if options.files:
                print(by_file(f"{name}: {operation}", mine) + "\n")
            if options.functions:
                print(most_called(f"{name}: {operation}", mine, options.functions) + "\n")
    for note in notes:
        print(note)
    if reason := cannot_trace():
        print(f"System calls were not counted: {reason}.")
    return 1 if notes else 0


if __name__ == "__main__":
    sys.exit(main())
