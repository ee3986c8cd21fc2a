"""The pairs of a middle, and which of them gives way when there is no room for a newcomer (X25)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from random import choice

from tunnelkit.core.counted_address import counted_address
from tunnelkit.net.lstp.guests import Party
from tunnelkit.net.sockets.relay import CarrierRelay, Relay

IDLE = 600.0
"""Seconds without a byte after which a pair goes before others."""


class Paired:
    """Two parties and the relay between them."""

    __slots__ = (
        "_looked",
        "_moved",
        "first",
        "first_name",
        "holders",
        "number",
        "relay",
        "second",
        "second_name",
        "since",
    )

    relay: Relay | CarrierRelay

    def __init__(
        self, first: Party, second: Party, names: tuple[str, str], number: int, since: float
    ) -> None:
        self.first = first
        self.second = second
        self.first_name, self.second_name = names
        """What they call themselves; a middle can prove nothing of it."""
        self.number = number
        self.since = since
        addresses = {counted_address(party.connection.address) for party in (first, second)}
        self.holders = addresses - {""}
        """The addresses that have this pair; none for a party in this process."""
        self._moved = 0
        self._looked = since

    def who(self) -> dict[str, object]:
        """The pair's number, addresses and names, for the log."""
        return {
            "pair": self.number,
            "first": self.first.carrier.far_address or "this process",
            "second": self.second.carrier.far_address or "this process",
            "first_name": self.first_name,
            "second_name": self.second_name,
        }

    def is_idle(self, now: float) -> bool:
        """Nothing has moved for long, as far as the looks at it tell."""
        moved = self.relay.bytes_ab + self.relay.bytes_ba
        if moved != self._moved:
            self._moved, self._looked = moved, now
        return now - self._looked >= IDLE


def who_gives_way(pairs: Collection[Paired], now: float) -> Paired:
    """Of the address that has most pairs: an idle one if there is one, otherwise any, at random."""
    held: Counter[str] = Counter()
    for paired in pairs:
        held.update(paired.holders or {""})
    busiest, _ = held.most_common(1)[0]
    own = [paired for paired in pairs if busiest in (paired.holders or {""})]
    return choice([paired for paired in own if paired.is_idle(now)] or own)
