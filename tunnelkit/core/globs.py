"""Patterns in which ``*`` stands for any run of characters, matched in one pass (rule X24).

What is matched against them is chosen by strangers and peers, so nothing here goes back: each
piece between two stars is looked for once, from where the one before it ended.
"""

from __future__ import annotations

import re

import attrs

_STARS = re.compile(r"\*+")


@attrs.frozen
class Glob:
    """One pattern; equal patterns are equal. ``*`` stands for dots and slashes, too."""

    text: str
    _pieces: tuple[str, ...] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_pieces", tuple(_STARS.split(self.text)))

    def match(self, text: str) -> bool:
        """Whether the pattern stands for the whole of ``text``; case matters."""
        pieces = self._pieces
        if len(pieces) == 1:
            return text == pieces[0]
        first, last = pieces[0], pieces[-1]
        end = len(text) - len(last)
        at = len(first)
        if end < at or not text.startswith(first) or not text.endswith(last):
            return False
        # The leftmost place of each piece leaves the most room for those behind it.
        for piece in pieces[1:-1]:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True
