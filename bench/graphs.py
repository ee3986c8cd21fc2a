"""Graphs of the whole job, as SVG: ``python -m bench.graphs RESULT.json GRAPH.svg``.

RESULT.json is what ``python -m bench.whole_job --json`` printed. One panel for each figure, one bar
for each system: the bar is the median, the thin line reaches from the lowest to the highest run.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from bench.report import median, number
from bench.whole_job import OURS

PANELS = {
    "bulk": ("Bulk, 1 stream", "MiB/s, more is better"),
    "bulk16": ("Bulk, 16 streams", "MiB/s, more is better"),
    "bulk_cpu": ("CPU for bulk, 1 stream", "s/GiB, less is better"),
    "single": ("Requests on 1 connection", "per second, more is better"),
    "fifty": ("Requests on 50 connections", "per second, more is better"),
    "new": ("New connections", "per second, more is better"),
}
"""By column of the whole job: title, and unit."""

ACROSS = 2
"""Panels beside each other."""
WIDTH, LABEL, VALUE = 430, 96, 84
"""Of a panel, and of the names and the figures at the sides of its bars, in pixels."""
HEAD, LINE, BAR, GAP = 48, 22, 14, 20
"""Heights: a panel's head, a system's line, its bar, and the room under a panel."""

OWN_COLOUR, PEER_COLOUR, INK, FAINT = "#1f6fb2", "#a9b4bf", "#1b1f23", "#57606a"

Runs = Mapping[str, Mapping[str, Sequence[float | None]]]
"""By system and column the figure of each run; None where there is none."""


def known(figures: Sequence[float | None]) -> list[float]:
    """Those that are there."""
    return [figure for figure in figures if figure is not None]


def text(x: float, y: float, words: str, *, anchor: str = "start", style: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def bar(name: str, figures: list[float], y: float, scale: float) -> list[str]:
    """One system's line; ``scale`` is in pixels per unit."""
    middle = y + LINE / 2
    colour = OWN_COLOUR if name.partition("@")[0] in OURS else PEER_COLOUR
    lowest, highest, centre = min(figures), max(figures), median(figures)
    spread = f"lowest {number(lowest)}, median {number(centre)}, highest {number(highest)}"
    top = middle - BAR / 2
    start = LABEL + 6
    return [
        f"<g><title>{escape(f'{name}: {spread}')}</title>",
        text(LABEL, middle + 4, name, anchor="end"),
        f'<rect x="{start}" y="{top:g}" width="{centre * scale:.1f}" height="{BAR}" rx="1.5" '
        f'fill="{colour}"/>',
        f'<path d="M{start + lowest * scale:.1f} {middle:g}H{start + highest * scale:.1f}" '
        f'stroke="{INK}" stroke-width="1.2"/>',
        text(start + highest * scale + 6, middle + 4, number(centre)),
        "</g>",
    ]


def panel(column: str, runs: Runs) -> list[str]:
    """The bars of one figure, from the upper left corner on; empty without figures."""
    by_system = {name: known(columns.get(column, ())) for name, columns in runs.items()}
    bars = {name: figures for name, figures in by_system.items() if figures}
    if not bars:
        return []
    title, unit = PANELS[column]
    most = max(max(figures) for figures in bars.values())
    scale = (WIDTH - LABEL - VALUE) / most if most else 0.0
    lines = [
        text(0, 16, title, style=' font-weight="600" font-size="14"'),
        text(0, 34, unit, style=f' fill="{FAINT}"'),
    ]
    for place, (name, figures) in enumerate(bars.items()):
        lines += bar(name, figures, HEAD + place * LINE, scale)
    return lines


def drawing(runs: Runs, title: str) -> str:
    """The whole SVG. Raises ValueError if there is nothing to draw."""
    panels = [lines for column in PANELS if (lines := panel(column, runs))]
    if not panels:
        raise ValueError("no figures of the whole job")
    height = HEAD + LINE * len(runs) + GAP
    rows = math.ceil(len(panels) / ACROSS)
    wide, high = WIDTH * min(ACROSS, len(panels)) + 40, height * rows + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" '
        f'height="{high}" role="img" aria-label={quoteattr(title)} '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for place, contents in enumerate(panels):
        row, across = divmod(place, ACROSS)
        lines.append(f'<g transform="translate({20 + across * WIDTH} {16 + row * height})">')
        lines += [*contents, "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def main() -> int:
    """Draw one file; 0 if that went well."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.graphs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("result", type=Path, help="what bench.whole_job --json printed")
    parser.add_argument("graph", type=Path, help="the SVG file to write")
    parser.add_argument("--title", default="The whole job", help="for those who cannot see it")
    parser.add_argument("--without", default="", metavar="NAME,...", help="not these systems")
    options = parser.parse_args()
    try:
        runs = json.loads(options.result.read_text())["runs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"{options.result}: not a result of bench.whole_job --json: {error!r}")
    shown = {name: runs[name] for name in runs if name not in options.without.split(",")}
    try:
        options.graph.write_text(drawing(shown, options.title))
    except ValueError as error:
        parser.error(f"{options.result}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
