"""Learning from a non-secure mirror that its server is a secure one (row W3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

LEARNED_FOR = 300.0
"""Seconds that a domain proxy is remembered."""
FAILED_FOR = 10.0
"""Seconds that it is remembered that nothing was learned."""
REMEMBERED = 1_000
"""Hosts."""
FORBIDDEN = 403
HEADER = "Tunnel-Required"

Target = tuple[str, int]


def suffix_of(host: str, suffixes: Iterable[str]) -> str | None:
    """The suffix of the list that ``host`` is under; the longest; None: none.

    ``bank.example`` covers itself and what ends in ``.bank.example``.
    """
    found = [each for each in suffixes if host == each or host.endswith(f".{each}")]
    return max(found, key=len, default=None)


class Learned:
    """What the mirrors have said, for a while."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Target | None, float]] = OrderedDict()

    def look_up(self, host: str, now: float) -> tuple[bool, Target | None]:
        """Whether it is known what the mirror says, and the domain proxy, if it named one."""
        target, until = self._known.get(host, (None, now))
        return until > now, target if until > now else None

    def remember(self, host: str, target: Target | None, now: float) -> None:
        """The mirror has named ``target``, or nothing that can be used."""
        self._known.pop(host, None)
        while len(self._known) >= REMEMBERED:
            self._known.popitem(last=False)
        self._known[host] = (target, now + (LEARNED_FOR if target else FAILED_FOR))
