"""Who is kept out for a while because a person has said so (row O6): names or addresses."""

from __future__ import annotations

MOST = 1000
"""Kept at once; the one whose time is over first gives way."""


class Barred:
    """Until when each is refused; times are seconds of any one clock."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def bar(self, who: str, until: float) -> None:
        """Refuse ``who`` until then; a time that has passed lets him in again."""
        self._until.pop(who, None)
        if len(self._until) >= MOST:
            del self._until[min(self._until, key=lambda one: self._until[one])]
        self._until[who] = until

    def seconds(self, who: str, now: float) -> float:
        """For how long he is still refused; 0: he is not."""
        until = self._until.get(who)
        if until is None:
            return 0.0
        if until <= now:
            del self._until[who]
            return 0.0
        return until - now
