"""How demonstrations show what they do."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence

from tunnelkit.services.colour import BOLD, painted


def title(text: str) -> None:
    """Begin a step."""
    print(f"\n{painted(text, BOLD, sys.stdout)}", flush=True)


def say_command(command: Sequence[str]) -> None:
    """The command as one can copy it, an option never parted from its value."""
    width = min(100, shutil.get_terminal_size((100, 24)).columns) - 2
    parts: list[str] = []
    for before, word in zip(("", *command), command, strict=False):
        if before.startswith("--") and not word.startswith("-"):
            parts[-1] += f" {shlex.quote(word)}"
        else:
            parts.append(shlex.quote(word))
    lines, line = [], "  $"
    for part in parts:
        if len(line) + 1 + len(part) > width and line.strip() != "$":
            lines.append(f"{line} \\")
            line = f"      {part}"
        else:
            line += f" {part}"
    print("\n".join([*lines, line]), flush=True)
