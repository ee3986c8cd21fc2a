"""The one line by which a role says that it can be used, or what it waits for (rows Q5, K6)."""

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


def tell_locked(role: str, where: str, unlocking: str) -> None:
    """``LOCKED ROLE: ...``: it cannot be used until somebody brings a passphrase (row K6)."""
    _log.warn(
        "LOCKED {role}: {where} waits for its passphrase, for which {unlocking} asks",
        role=role,
        where=where,
        unlocking=unlocking,
    )


def tell_ready(role: str, *parts: str) -> None:
    """``READY ROLE: PART; PART``, without parts that are empty."""
    _log.info("READY {role}: {parts}", role=role, parts="; ".join(filter(None, parts)))
