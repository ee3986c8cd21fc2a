"""How far an end is on its way to its next tunnel, and what it says when nobody comes (row Q6)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from tunnelkit.net.sockets.timer import Timer

FIRST = 30.0
"""Seconds without a tunnel after which it is said what may be wrong."""
AGAIN = 600.0
"""And then every so many seconds."""


class Stage(Enum):
    """On the way to a tunnel; the values are for ``tunnelkit status``."""

    DOWN = "down"
    """There is none, and the next attempt is later, or nobody wants one."""
    DIALLING = "dialling"
    WAITING = "waiting"
    """Others can find this end."""
    SECURING = "securing"
    """Somebody is there who has to prove who he is."""


class Progress:
    """``say(seconds)`` is called while there has been no tunnel for so long, see `FIRST`."""

    def __init__(self, reactor: Any, say: Callable[[float], object]) -> None:
        self._clock = reactor.seconds
        self._say = say
        self.stage = Stage.DOWN
        self._since = self._clock()
        self._next_try: float | None = None
        self._alone_since = 0.0
        self._timer = Timer(reactor, self._still_alone)

    def at(self, stage: Stage, retry_in: float | None = None) -> None:
        """It has come to this stage; ``retry_in``: seconds to the next attempt."""
        now = self._clock()
        self._next_try = None if retry_in is None else now + retry_in
        if stage is not self.stage:
            self.stage, self._since = stage, now

    @property
    def seconds(self) -> float:
        """How long it has been at this stage."""
        return float(self._clock() - self._since)

    @property
    def next_try(self) -> float | None:
        """Seconds to the next attempt; None: it is under way, or nobody wants one."""
        return None if self._next_try is None else max(0.0, self._next_try - self._clock())

    def alone(self) -> None:
        """A tunnel is wanted, and there is none."""
        if not self._timer.running:
            self._alone_since = self._clock()
            self._timer.start(FIRST)

    def settled(self) -> None:
        """There is a tunnel, or nobody wants one."""
        self._timer.stop()

    def _still_alone(self) -> None:
        self._timer.start(AGAIN)
        self._say(self._clock() - self._alone_since)
