"""Strangers who have a place for a while, and who gives way to one more (rules X16, X25, X26).

The oldest must not go first: whoever comes often enough would push out everybody who needs a
moment. One at random of those from the address that has most goes, so that a flood mostly pushes
out itself.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

Stranger = TypeVar("Stranger")


class Newcomers(Generic[Stranger]):
    """At most ``most`` strangers, and ``most_per_address`` of one address, as limits count it."""

    __slots__ = ("_addresses", "_most", "_most_per_address", "_strangers")

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._strangers: dict[Stranger, str] = {}
        self._addresses: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._strangers)

    def __iter__(self) -> Iterator[Stranger]:
        return iter(list(self._strangers))

    def who_gives_way(self, address: str, *, many: bool = False) -> Stranger | None:
        """Who has to go before one more from ``address`` can be added; None: there is room.

        ``many``: a bastion's address, which stands for many and has no limit of its own.
        """
        if not many and self._addresses[address] >= self._most_per_address:
            return self._one_of(address)
        if len(self._strangers) >= self._most:
            return self._one_of(max(self._addresses, key=self._addresses.__getitem__))
        return None

    def add(self, stranger: Stranger, address: str) -> None:
        """One more, from ``address``."""
        self._strangers[stranger] = address
        self._addresses[address] += 1

    def discard(self, stranger: Stranger) -> bool:
        """It has gone, or is no stranger any more. Whether it was here."""
        address = self._strangers.pop(stranger, None)
        if address is None:
            return False
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]
        return True

    def _one_of(self, address: str) -> Stranger:
        return random.choice([one for one, where in self._strangers.items() if where == address])
