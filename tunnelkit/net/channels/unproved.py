"""Strangers at the door of an end: how many, and how often (rules X16, X18, X26)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.core.counted_address import counted_address
from tunnelkit.core.newcomers import Newcomers
from tunnelkit.core.token_buckets import TokenBuckets
from tunnelkit.errors import AuthError

_log = Logger()

MAX_UNPROVED = 200
"""Connections whose certificate has not been seen yet (rule X16)."""
MAX_UNPROVED_PER_ADDRESS = 16
HANDSHAKE_RATE = 10.0
"""Handshakes a second that one address may begin; those that succeed do not count."""
HANDSHAKE_BURST = 50
PENALTY = 4
"""Handshakes that one with a bad certificate counts for besides."""
TOLD_EVERY = 10.0
"""Seconds between two lines in the log about those who are turned away."""


class TurnedAway:
    """Says in the log that addresses come too often: one line in ten seconds, whatever comes."""

    def __init__(self, now: Callable[[], float], what: str, rate: float) -> None:
        self._now = now
        self._what = what
        self._rate = rate
        self._count = 0
        self._tell_at = now()

    def turned_away(self, host: str) -> None:
        """One more, from ``host``."""
        self._count += 1
        now = self._now()
        if now < self._tell_at:
            return
        self._tell_at = now + TOLD_EVERY
        _log.warn(
            "Turned away {count} connections, the last one from {host}: an address may {what} "
            "{rate:.0f} times a second",
            count=self._count,
            host=host,
            what=self._what,
            rate=self._rate,
        )
        self._count = 0


class Unproved:
    """Those that came in and have not proved who they are; ``now`` is a clock.

    ``is_bastion(host)``: whether many come from there, whose addresses a bastion has looked at.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.is_bastion: Callable[[str], bool] = lambda host: False
        self._proving: Newcomers[Deferred[Any]] = Newcomers(MAX_UNPROVED, MAX_UNPROVED_PER_ADDRESS)
        self._handshakes = TokenBuckets(HANDSHAKE_RATE, HANDSHAKE_BURST)
        self._too_often = TurnedAway(now, "begin a handshake", HANDSHAKE_RATE)

    def admits(self, host: str) -> bool:
        """Whether one more from ``host`` may begin a handshake now; if so, it is counted."""
        now = self._now()
        if self.is_bastion(host) or self._handshakes.take(counted_address(host), now):
            return True
        self._too_often.turned_away(host)
        return False

    def make_room(self, host: str) -> bool:
        """Drop one of those without proof, from ``host`` or from the address that has most, if
        there are too many for one more; whether there were."""
        proving = self._proving.who_gives_way(counted_address(host), many=self.is_bastion(host))
        if proving is not None:
            proving.cancel()
        return proving is not None

    def add(self, proving: Deferred[Any], host: str) -> None:
        """One from ``host``; ``proving`` fires when it has proved itself or failed."""
        address = counted_address(host)
        self._proving.add(proving, address)

        def over(result: Any) -> Any:
            self._proving.discard(proving)
            if self.is_bastion(host):
                return result
            check = getattr(result, "check", None)
            if check is None:
                self._handshakes.give_back(address, self._now())
            elif check(AuthError):
                self._handshakes.charge(address, PENALTY, self._now())
            return result

        proving.addBoth(over)
