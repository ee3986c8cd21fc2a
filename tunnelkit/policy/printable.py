"""Text that somebody else chose, made safe to show on one line (rule X14)."""

from __future__ import annotations

SHOWN_BYTES = 256
"""Longest text of a peer's choice in a log line."""


def printable(text: str | bytes, limit: int = SHOWN_BYTES) -> str:
    """``text`` as at most ``limit`` printable ASCII characters; everything else is escaped.

    A cut text ends in ``...``. Backslashes are escaped too, so that an escape
    cannot be faked.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if len(text) <= limit and text.isascii() and text.isprintable() and "\\" not in text:
        return text
    escaped = text[: limit + 1].encode("unicode_escape").decode("ascii")
    if len(escaped) <= limit and len(text) <= limit:
        return escaped
    return escaped[: limit - 3] + "..."
