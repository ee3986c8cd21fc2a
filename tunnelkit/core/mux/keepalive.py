"""How often an end says something through a tunnel that is silent (finding U-19)."""

from __future__ import annotations

from collections.abc import Callable

ALIKE = 1.5
"""Seconds by which the idle times of two cuts may differ that have one cause."""
SHORTEST = 1.0
"""Seconds: no end speaks more often than that."""


class Keepalive:
    """As often as was configured; more often once the way has cut twice what was idle.

    A proxy or firewall that gives up idle connections after less than ``seconds`` would cut every
    tunnel again and again. Two connections in a row that are lost without a word, after about
    the same time in which nothing passed, show it: from then on half that time is used. One
    object is for all tunnels of an end by one protocol; the peer needs no word of it.
    """

    __slots__ = ("_last_idle", "on_learned", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """Seconds, at least `SHORTEST` if learned."""
        self.on_learned: Callable[[float, float], object] = _nobody_listens
        """Told of the idle time, and of the new ``seconds``."""
        self._last_idle: float | None = None

    def connection_lost(self, clean: bool, idle: float) -> None:
        """A connection is gone, ``idle`` seconds after the last byte passed; ``clean``: it was
        ended, not cut, so what was lost before it was no row."""
        last, self._last_idle = self._last_idle, None if clean else idle
        if clean or last is None or abs(idle - last) > ALIKE:
            return
        learned = max(SHORTEST, min(idle, last) / 2)
        # What is cut sooner than that is not cut for being idle, or cannot be helped.
        if 2 * SHORTEST <= idle <= self.seconds + ALIKE and learned < self.seconds:
            self.seconds = learned
            self._last_idle = None
            self.on_learned(idle, learned)


def _nobody_listens(idle: float, seconds: float) -> None:
    """Until somebody does."""
