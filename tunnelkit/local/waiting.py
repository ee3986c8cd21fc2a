"""Clients that have connected and not said yet what they want: a limited number, for a limited
time (X7)."""

from __future__ import annotations

from typing import Any, Protocol

from tunnelkit.net.sockets.timer import Timer


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
        self._timer = Timer(reactor, self._sweep)

    def add(self, newcomer: Newcomer) -> None:
        """Expire ``newcomer`` unless it is discarded in time."""
        if len(self._deadlines) >= self._most:
            next(iter(self._deadlines)).expire()
        self._deadlines[newcomer] = self._reactor.seconds() + self._limit
        if not self._timer.running:
            self._timer.start(self._limit)

    def discard(self, newcomer: Newcomer) -> None:
        """It is no longer waited for."""
        self._deadlines.pop(newcomer, None)
        if not self._deadlines:
            self._timer.stop()

    def expire_all(self) -> None:
        """Wait for nobody any more."""
        for newcomer in list(self._deadlines):
            newcomer.expire()

    def _sweep(self) -> None:
        now = self._reactor.seconds()
        for newcomer, deadline in list(self._deadlines.items()):
            if deadline > now:
                self._timer.start_at(deadline)
                return
            newcomer.expire()
