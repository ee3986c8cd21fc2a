"""Plain aligned text for results."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The median of those that are not nan; nan if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def number(value: float, unit: str = "") -> str:
    """A figure with about three significant digits; ``-`` for nan."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        text = f"{value:,.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2f}"
    return text + unit


def spread(values: Sequence[float], unit: str = "") -> str:
    """Lowest, median and highest; ``-`` if there are none."""
    figures = [value for value in values if not math.isnan(value)]
    if not figures:
        return "-"
    return " ".join(number(v, unit) for v in (min(figures), median(figures), max(figures)))


def pairwise(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Ratios of the figures of each run to the others of the same run; nan to nothing."""
    return [
        value / other if other else math.nan for value, other in zip(values, others, strict=False)
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "  ".join("-" * width for width in widths).rstrip())
    return "\n".join(text)


def verdict(value: float, aim: float, *, at_most: bool = False) -> str:
    """``ok`` if the aim is met, ``short`` if not, ``-`` without a value."""
    if math.isnan(value):
        return "-"
    return "ok" if (value <= aim if at_most else value >= aim) else "short"


def as_json(value: object) -> str:
    """Indented JSON; what has no figure is null."""

    def plain(part: object) -> object:
        if isinstance(part, tuple) and hasattr(part, "_asdict"):
            part = part._asdict()
        if isinstance(part, dict):
            return {str(key): plain(item) for key, item in part.items()}
        if isinstance(part, (list, tuple)):
            return [plain(item) for item in part]
        return None if isinstance(part, float) and math.isnan(part) else part

    return json.dumps(plain(value), indent=2)
