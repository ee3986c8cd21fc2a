"""Browsers that want to be let in: how many at once and how fast, and who waits (rule X25).

A browser costs its publisher a connection and a handshake, and anybody may
come. So each address has a token bucket, and each address and each host a
number of visitors whose publisher has not come yet; more of them wait their
turn, for a while: they are looked at twenty times a second, not at each event.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.secureproxy.session import Visitor
from tunnelkit.core.token_buckets import TokenBuckets

TURN = 0.05
"""Seconds between two looks at the queue."""


class Strangers:
    """Every visitor comes in by `arrive`, and leaves by `settled` or `left`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets = TokenBuckets(limits.dial_rate, limits.dial_burst)
        self._addresses: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        self._pending: set[Visitor] = set()
        self._queue: OrderedDict[Visitor, float] = OrderedDict()
        """With the time until which each waits, in order of arrival."""
        self._queued: Counter[str] = Counter()
        """How many of each address are in it."""

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    def arrive(self, visitor: Visitor, now: float) -> bool | None:
        """True: go on. False: wait for `next_in_turn`. None: there are too many, go away."""
        if not self._queued[visitor.address] and self._admit(visitor, now):
            return True
        if len(self._queue) >= self._limits.queued:
            return None
        self._queue[visitor] = now + self._limits.patience
        self._queued[visitor.address] += 1
        return False

    def settled(self, visitor: Visitor) -> None:
        """Its publisher has come, or will not."""
        if visitor in self._pending:
            self._pending.discard(visitor)
            for counter, key in ((self._addresses, visitor.address), (self._hosts, visitor.host)):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    def left(self, visitor: Visitor) -> None:
        """It has gone."""
        if visitor in self._queue:
            self._unqueue(visitor)
        self.settled(visitor)

    def next_in_turn(self, now: float) -> list[Visitor]:
        """Those who may go on now."""
        admitted = [visitor for visitor in self._queue if self._admit(visitor, now)]
        for visitor in admitted:
            self._unqueue(visitor)
        return admitted

    def out_of_patience(self, now: float) -> list[Visitor]:
        """Those who have waited for too long."""
        gone = []
        for visitor, until in self._queue.items():
            if until > now:
                break
            gone.append(visitor)
        for visitor in gone:
            self._unqueue(visitor)
        return gone

    def _unqueue(self, visitor: Visitor) -> None:
        del self._queue[visitor]
        self._queued[visitor.address] -= 1
        if not self._queued[visitor.address]:
            del self._queued[visitor.address]

    def _admit(self, visitor: Visitor, now: float) -> bool:
        """Whether there is room and a token; then it is counted."""
        if (
            self._addresses[visitor.address] >= self._limits.dial_pending
            or self._hosts[visitor.host] >= self._limits.host_pending
            or not self._buckets.take(visitor.address, now)
        ):
            return False
        self._pending.add(visitor)
        self._addresses[visitor.address] += 1
        self._hosts[visitor.host] += 1
        return True
