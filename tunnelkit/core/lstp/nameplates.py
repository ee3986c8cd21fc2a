"""Nameplates of pairing codes at a middle: few, so that nobody can take them all (row Q2).

Two ends that pair meet under an id that is made of a small number (`rendezvous_id`). The middle
can tell, and is stricter with these: one end of each role, few for one address, few meetings.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

from tunnelkit.core.pairing.code import LIFETIME, all_rendezvous_ids

MAX_OPEN = 8
"""Nameplates under which ends of one address wait."""
MAX_MEETINGS = 3
"""Meetings under one nameplate within the lifetime of a code."""


@cache
def _numbers() -> dict[str, int]:
    return all_rendezvous_ids()


def nameplate_of(common: str) -> int | None:
    """The nameplate that ``common`` is made of; None for every other tunnel."""
    return _numbers().get(common)


class Nameplates:
    """Who waits under which, and how often ends have met there."""

    def __init__(self) -> None:
        _numbers()  # now, when a middle is made, not while its first end waits for an answer
        self._open: Counter[str] = Counter()
        self._meetings: dict[int, list[float]] = {}

    def refusal(self, nameplate: int, address: str, taken: bool, now: float) -> str:
        """Why an end from ``address`` may not use it; empty if it may.

        ``taken``: another end of the same role waits there.
        """
        if taken:
            return "somebody else waits under this number: use another"
        if len(self._recent(nameplate, now)) >= MAX_MEETINGS:
            return "too many have met under this number: use another"
        if self._open[address] >= MAX_OPEN:
            return f"this address waits under {MAX_OPEN} numbers already"
        return ""

    def waits(self, address: str) -> None:
        """An end from ``address`` waits under one."""
        self._open[address] += 1

    def waits_no_more(self, address: str) -> None:
        """It has gone, or has met somebody."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def met(self, nameplate: int, now: float) -> None:
        """Two ends have met under it."""
        for number in [*self._meetings]:
            self._recent(number, now)
        self._meetings.setdefault(nameplate, []).append(now)

    def _recent(self, nameplate: int, now: float) -> list[float]:
        recent = [when for when in self._meetings.get(nameplate, ()) if when > now - LIFETIME]
        if recent:
            self._meetings[nameplate] = recent
        else:
            self._meetings.pop(nameplate, None)
        return recent
