"""The one line by which a role says that it can be used (row Q5)."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from tunnelkit.policy.printable import printable

_log = Logger()

SHOWN = 4
"""Rules, or names, in the line."""


def named(texts: Sequence[str], nothing: str = "anybody") -> str:
    """Them in a line, the first few."""
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(map(printable, texts[:SHOWN])) + more if texts else nothing


def tell_ready(role: str, *parts: str) -> None:
    """``READY ROLE: PART; PART``, without parts that are empty."""
    _log.info("READY {role}: {parts}", role=role, parts="; ".join(filter(None, parts)))
