"""Warnings before a certificate or a revocation list is over, and when it is (finding U-14)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import attrs
from twisted.logger import Logger

from tunnelkit.net.tls.context import moment

_log = Logger()

SOON, VERY_SOON = 0.2, 0.05
"""The parts of a life that are left when the first and the second warning come."""
AGAIN = timedelta(days=1)


@attrs.frozen
class Term:
    """Something that is valid for a time."""

    what: str
    """``certificate of laptop``; the same words are the same thing."""
    begin: datetime
    end: datetime
    remedy: str

    def stage(self, now: datetime) -> int:
        """0: long valid, 1 and 2: not much longer, 3: over."""
        left, life = self.end - now, self.end - self.begin
        return (left < life * SOON) + (left < life * VERY_SOON) + (left < timedelta(0))


class ExpiryWarnings:
    """Says each stage once, and again each day."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, datetime], tuple[int, datetime]] = {}

    def look(self, terms: Iterable[Term], now: datetime) -> None:
        """``now`` is the wall clock's, as is what is written in certificates."""
        told = {}
        for term in terms:
            stage = term.stage(now)
            key = (term.what, term.end)
            before, when = self._told.get(key, (0, now))
            # A clock that was set back does not silence it for longer than a day.
            due = stage > before or abs(now - when) >= AGAIN
            if stage and due:
                self._tell(term, stage)
                when = now
            told[key] = (stage, when)
        self._told = told

    def _tell(self, term: Term, stage: int) -> None:
        if stage == 3:
            _log.error(
                "The {what} has expired on {end}: {remedy}",
                what=term.what,
                end=moment(term.end),
                remedy=term.remedy,
            )
        else:
            _log.warn(
                "The {what} expires on {end}: {remedy}",
                what=term.what,
                end=moment(term.end),
                remedy=term.remedy,
            )
