"""The pairs at an LSTP middle: until their first bytes, and whose ended too soon (row L12)."""

from __future__ import annotations

from collections.abc import Iterator

from tunnelkit.core.lstp.middle_connection import MiddleConnection, State
from tunnelkit.core.lstp.middle_queues import DeadlineQueue, Suspects

FIRST_BYTES_LIMIT = 10.0
"""Seconds from a pairing to its first bytes; a pairing that ends sooner is suspect."""


class Pairs:
    """Who is paired with whom. Times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self.count = 0
        """Pairs of ends that are connected."""
        self.fresh = DeadlineQueue(FIRST_BYTES_LIMIT)
        """Paired less than FIRST_BYTES_LIMIT ago."""
        self.suspects = Suspects()
        self._flowing: set[MiddleConnection] = set()
        """Those of the fresh ones whose pairing has seen bytes."""

    def begin(self, first: MiddleConnection, second: MiddleConnection, now: float) -> None:
        """The two belong together from now on."""
        for connection, partner in ((first, second), (second, first)):
            connection.state = State.PAIRED
            connection.partner = partner
            self.fresh.add(connection, now)
        self.count += 1

    def flowing(self, connection: MiddleConnection) -> None:
        """The first bytes have passed between ``connection`` and its partner, either way."""
        partner = connection.partner
        if partner is not None and connection in self.fresh:
            self._flowing.update((connection, partner))

    def end(self, connection: MiddleConnection, now: float) -> MiddleConnection:
        """The pair is over; the partner. It is suspect if it has not lasted."""
        partner = connection.partner
        assert partner is not None
        self.count -= 1
        for one in (connection, partner):
            if self.fresh.remove(one):
                self.suspects.add(one.counted, now)
            self._flowing.discard(one)
            one.state = State.ENDED
            one.partner = None
        return partner

    def silent(self, now: float) -> Iterator[MiddleConnection]:
        """One of each pair that has let FIRST_BYTES_LIMIT pass; end it before asking for more."""
        for connection in self.fresh.due(now):
            if connection in self._flowing:
                self._flowing.discard(connection)
                self.fresh.remove(connection)
            elif connection.state is State.PAIRED:
                yield connection
