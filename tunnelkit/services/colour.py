"""Colour where a person reads: on a terminal, and not against ``NO_COLOR`` (row Q9)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"
"""What stands in a terminal's control sequence."""


def has_colour(out: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ``out`` is a terminal that may be coloured (https://no-color.org)."""
    return (
        out.isatty() and not environment.get("NO_COLOR") and environment.get("TERM", "") != "dumb"
    )


def painted(text: str, colour: str, out: TextIO) -> str:
    """``text`` for ``out``, in that colour where it has any."""
    return coloured(text, colour) if has_colour(out) else text


def coloured(text: str, colour: str) -> str:
    """``text`` in that colour."""
    return f"\x1b[{colour}m{text}\x1b[0m"
