"""The page of figures, made anew from the result files: ``python -m bench.page``.

It draws the graphs and writes the tables of docs/design/performance.md from the files in
``bench/results``. With ``--measure`` these are measured first, which takes ten minutes;
what the page says about the figures is written by hand, and has to be read again then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

import attrs

from bench.checkout import ROOT
from bench.graphs import Runs, drawing, known
from bench.report import median, number

PAGE = ROOT / "docs" / "design" / "performance.md"
COLUMNS = {
    "bulk": "1 stream MiB/s",
    "bulk_cpu": "CPU s/GiB",
    "bulk16": "16 streams MiB/s",
    "single": "1 connection req/s",
    "single_us": "p50 us",
    "fifty": "50 connections req/s",
    "new": "new connections/s",
}
"""Of the tables."""


@attrs.frozen
class Scene:
    """One set of measurements: ``bench/results/NAME-machine.json`` and what is made of it."""

    name: str
    title: str
    """For those who cannot see the graph."""
    options: tuple[str, ...]
    """Of ``bench.whole_job``."""
    without: tuple[str, ...] = ()
    """Systems that are not drawn."""

    @property
    def result(self) -> str:
        """The file, from the root of the source tree."""
        return f"bench/results/{self.name}-machine.json"

    @property
    def graph(self) -> str:
        """The same of the drawing."""
        return f"docs/images/performance-{self.name}.svg"

    def runs(self) -> Runs:
        """What was measured."""
        found: Runs = json.loads((ROOT / self.result).read_text())["runs"]
        return found

    def drawn(self) -> str:
        """The graph."""
        shown = {name: runs for name, runs in self.runs().items() if name not in self.without}
        return drawing(shown, self.title)

    def table(self) -> str:
        """Median, lowest and highest of each figure, in Markdown."""
        lines = [row(["", *COLUMNS.values()]), row(["---"] * (1 + len(COLUMNS)))]
        for name, columns in self.runs().items():
            cells = [spread(known(columns.get(column, ()))) for column in COLUMNS]
            lines.append(row([f"`{name}`", *cells]))
        return "\n".join(lines)

    def measure(self) -> None:
        """Measure it; raises CalledProcessError."""
        command = [sys.executable, "-m", "bench.whole_job", *self.options, "--json"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        (ROOT / self.result).write_text(done.stdout)


SCENES = (
    Scene(
        "shared",
        "The whole job on a shared machine",
        ("--runs", "3", "--seconds", "1.5"),
        ("none",),
    ),
    Scene(
        "busy",
        "The whole job beside two busy loops per core",
        ("--runs", "5", "--busy", "2", "--only", "ssh-pair,ssh-leg,stunnel,lstp,usher"),
    ),
)


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |".replace("|  |", "| |", 1)


def spread(figures: Sequence[float]) -> str:
    """``MEDIAN (LOWEST to HIGHEST)``; empty if there are none."""
    if not figures:
        return ""
    return f"{number(median(figures))} ({number(min(figures))} to {number(max(figures))})"


def begin_of(scene: Scene) -> str:
    """What stands before the scene's table."""
    return f"<!-- made by bench.page from {scene.result} -->\n"


def end_of(scene: Scene) -> str:
    """What stands behind it."""
    return f"\n<!-- end of {scene.result} -->"


def written(page: str) -> str:
    """The page with its tables made anew. Raises ValueError if there is no place for one."""
    for scene in SCENES:
        before, _, rest = page.partition(begin_of(scene))
        _, _, after = rest.partition(end_of(scene))
        if not after:
            raise ValueError(f"{PAGE.name} has no place for the table of {scene.result}")
        page = before + begin_of(scene) + scene.table() + end_of(scene) + after
    return page


def main() -> None:
    """Make everything anew."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.page", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--measure", action="store_true", help="measure first: ten minutes")
    options = parser.parse_args()
    for scene in SCENES:
        if options.measure:
            scene.measure()
        (ROOT / scene.graph).write_text(scene.drawn())
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
