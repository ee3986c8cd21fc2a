"""The whole job: application, end, middle, end, application, on one machine's loopback.

Every system is started once and all are measured in turn, again and again (A B A B ...), so that
a change in the machine hits them alike. Figures are medians. CPU is that of the system's own
processes, not of the applications.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bench import loads
from bench.link import congestion_controls
from bench.parties import PartyFailed, loopback, prepared
from bench.report import as_json, median, number, table, verdict
from bench.rig import Rig, describe, rigs
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

OURS = ("lstp", "usher")

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


def measure(rig: Rig, seconds: float, down: bool) -> dict[str, float]:
    """Each load once on one system."""
    short = seconds / 2
    one = rig.bulk(seconds, 1, warm=short, down=down)
    sixteen = rig.bulk(seconds, 16, warm=short, down=down)
    single = rig.here(lambda: loads.request_response(rig.entry, short))
    fifty = rig.here(lambda: loads.many_connections(rig.entry, short))
    new = rig.here(lambda: loads.new_connections(rig.entry, short))
    return {
        "bulk": one.rate / MIB,
        "bulk_cpu": one.cpu,
        "bulk16": sixteen.rate / MIB,
        "bulk16_cpu": sixteen.cpu,
        "single": single.rate,
        "single_us": single.median * 1e6,
        "single_p99": single.p99 * 1e6,
        "fifty": fifty,
        "new": new,
    }


def measure_all(
    running: list[Rig],
    runs: int,
    seconds: float,
    down: bool,
    notes: list[str],
    progress: Callable[[str], None],
) -> Results:
    """All systems in turn, ``runs`` times."""
    results: Results = {rig.system.name: {column: [] for column in COLUMNS} for rig in running}
    for run in range(runs):
        for rig in running:
            progress(f"run {run + 1} of {runs}: {rig.system.name}")
            try:
                figures = measure(rig, seconds, down)
            except (PartyFailed, loads.LoadError) as error:
                notes.append(f"{rig.system.name}: run {run + 1} failed: {describe(error)}")
                continue
            for column, value in figures.items():
                results[rig.system.name][column].append(value)
    return results


def ratios(medians: dict[str, dict[str, float]]) -> list[list[str]]:
    """Rows of the table of aims: each of ours against the peers that were run."""
    rows = []
    for ours in OURS:
        for column, peer, aim, at_most in AIMS:
            if ours in medians and peer in medians:
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


def main() -> int:
    """Run it; 0 if every system that is installed could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.whole_job", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="under a minute in all, rougher")
    parser.add_argument("--only", default="", metavar="NAME,...", help="just these systems")
    parser.add_argument("--runs", type=int, help="rounds (default 5, quick 2)")
    parser.add_argument("--seconds", type=float, help="bulk load's time (default 2, quick 0.8)")
    parser.add_argument("--down", action="store_true", help="bulk from the target to the client")
    parser.add_argument("--congestion-control", default="reno", choices=congestion_controls())
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    runs = options.runs or (2 if options.quick else 5)
    seconds = options.seconds or (0.8 if options.quick else 2.0)
    systems = choose(options.only)
    notes: list[str] = []

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text:60}", end="", file=sys.stderr, flush=True)

    with (
        prepared(),
        loopback(options.congestion_control) as (layout, setting),
        rigs(systems, layout, notes) as running,
    ):
        results = measure_all(running, runs, seconds, options.down, notes, progress)
    progress("")
    medians = {
        name: {column: median(figures) for column, figures in columns.items()}
        for name, columns in results.items()
    }
    if options.json:
        print(as_json({"setting": setting, "notes": notes, "runs": results}))
    else:
        print(f"Medians of {runs} alternating runs. {setting}.\n")
        head = ["system", *COLUMNS.values()]
        rows = [[name, *map(number, figures.values())] for name, figures in medians.items()]
        print(table(head, rows))
        compared = ratios(medians)
        if compared:
            print("\n" + table(["ratio", "to", "measured", "aim", ""], compared))
        print()
        for system in systems:
            if system.name in results:
                print(f"{system.name}: {system.legs}")
        for note in notes:
            print(note)
    return 1 if any("not installed" not in note for note in notes) else 0


if __name__ == "__main__":
    sys.exit(main())
