"""Data that came with requests whose destinations have not answered: little, in all tunnels.

Each request may bring `tunnelkit.core.mux.contract.EARLY_DATA` bytes, and a peer may make many
requests in many tunnels. All of them together hold at most a quarter of the data budget, so they
never cost anybody else a channel (rule X25, finding D-3).
"""

from __future__ import annotations

from typing import Protocol

from tunnelkit.core.mux.credit import Budget


class Unanswered(Protocol):
    """A request with early data."""

    peer: str

    def give_way(self) -> None:
        """Refuse it, for want of room; it leaves the account by that."""


class EarlyData:
    """Who holds how much of it, in bytes."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._sizes: dict[str, int] = {}
        self._requests: dict[str, dict[Unanswered, int]] = {}
        """By peer; in the order in which their data began to come."""
        self.total = 0

    def add(self, request: Unanswered, size: int) -> None:
        """``size`` bytes have come with ``request``."""
        peer = request.peer
        requests = self._requests.setdefault(peer, {})
        requests[request] = requests.get(request, 0) + size
        self._sizes[peer] = self._sizes.get(peer, 0) + size
        self.total += size

    def remove(self, request: Unanswered) -> None:
        """The request has been answered, or is gone."""
        peer = request.peer
        size = self._requests.get(peer, {}).pop(request, 0)
        if not size:
            return
        self.total -= size
        self._sizes[peer] -= size
        if not self._requests[peer]:
            del self._requests[peer], self._sizes[peer]

    def relieve(self) -> None:
        """While there is too much, the newest request of whoever holds most is refused."""
        while self.total * 4 > self._budget.limit:
            most = max(self._sizes, key=self._sizes.__getitem__)
            next(reversed(self._requests[most])).give_way()
