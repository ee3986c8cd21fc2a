"""Who is due next at an LSTP middle, and who has been suspect lately (row L12).

All time limits are the same for everybody, so that a queue in order of
arrival takes the place of a timer for each connection.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from tunnelkit.core.lstp.middle_connection import MiddleConnection

SUSPICION_TIME = 600.0
"""Seconds after which a suspect pairing is forgotten."""
MAX_SUSPECTS = 10_000


class Suspects:
    """How many pairings of each address ended too soon; bounded, and forgotten in time."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, address: str, now: float) -> None:
        """One more."""
        count = self.count(address, now) + 1
        self._seen[address] = (count, now + SUSPICION_TIME)
        self._seen.move_to_end(address)
        if len(self._seen) > MAX_SUSPECTS:
            self._seen.popitem(last=False)

    def count(self, address: str, now: float) -> int:
        """How many there were lately."""
        count, until = self._seen.get(address, (0, 0.0))
        return count if now < until else 0


class DeadlineQueue:
    """Connections with a deadline each, the same time after they join, counted by address."""

    __slots__ = ("_deadlines", "_delay", "addresses")

    def __init__(self, delay: float) -> None:
        self._delay = delay
        # An OrderedDict, because a dict that loses its first item again and again gets slow.
        self._deadlines: OrderedDict[MiddleConnection, float] = OrderedDict()
        self.addresses: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def __iter__(self) -> Iterator[MiddleConnection]:
        return iter(self._deadlines)

    def __contains__(self, connection: object) -> bool:
        return connection in self._deadlines

    def add(self, connection: MiddleConnection, now: float) -> None:
        """At the end of the queue."""
        self._deadlines[connection] = now + self._delay
        self.addresses[connection.counted] = self.addresses.get(connection.counted, 0) + 1

    def remove(self, connection: MiddleConnection) -> bool:
        """Whether it was there."""
        if self._deadlines.pop(connection, None) is None:
            return False
        left = self.addresses[connection.counted] - 1
        if left:
            self.addresses[connection.counted] = left
        else:
            del self.addresses[connection.counted]
        return True

    def next_deadline(self) -> float | None:
        """The earliest; None if nobody is here."""
        for deadline in self._deadlines.values():
            return deadline
        return None

    def due(self, now: float) -> list[MiddleConnection]:
        """Those whose deadline has passed; they stay in the queue."""
        passed = []
        for connection, deadline in self._deadlines.items():
            if deadline > now:
                break
            passed.append(connection)
        return passed

    def again(self, connection: MiddleConnection, now: float) -> None:
        """A new deadline for one that is here."""
        self._deadlines[connection] = now + self._delay
        self._deadlines.move_to_end(connection)

    def busiest(self) -> str:
        """The address with the most connections."""
        return max(self.addresses, key=self.addresses.__getitem__)
