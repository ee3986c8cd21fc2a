"""Clients that have connected and not said yet what they want: a limited number, for a limited
time (X7)."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall


class Newcomer(Protocol):
    """One such client."""

    def expire(self) -> None:
        """Its time is up, or its place is needed: end it, and have it `Waiting.discard`-ed."""


class Waiting:
    """At most ``most`` newcomers with ``limit`` seconds each; the oldest has to go for one more."""

    def __init__(self, reactor: Any, limit: float, most: int) -> None:
        self._reactor = reactor
        self._limit = limit
        self._most = most
        # In order of their deadlines, since all have the same time.
        self._deadlines: dict[Newcomer, float] = {}
        self._timer: IDelayedCall | None = None

    def add(self, newcomer: Newcomer) -> None:
        """Expire ``newcomer`` unless it is discarded in time."""
        if len(self._deadlines) >= self._most:
            next(iter(self._deadlines)).expire()
        self._deadlines[newcomer] = self._reactor.seconds() + self._limit
        if self._timer is None:
            self._timer = self._reactor.callLater(self._limit, self._sweep)

    def discard(self, newcomer: Newcomer) -> None:
        """It is no longer waited for."""
        self._deadlines.pop(newcomer, None)
        if not self._deadlines and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expire_all(self) -> None:
        """Wait for nobody any more."""
        for newcomer in list(self._deadlines):
            newcomer.expire()

    def _sweep(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        for newcomer, deadline in list(self._deadlines.items()):
            if deadline > now:
                self._timer = self._reactor.callLater(deadline - now, self._sweep)
                return
            newcomer.expire()
