"""This side's session ids, 1 to 32,767, each used again as late as possible (rule X9)."""

from __future__ import annotations

from collections import deque

from tunnelkit.wire.usher import MAX_ID

REST = 30.0
"""Seconds between the reset of a session and the next use of its id."""


class Ids:
    """Never used ones are given out first, then those that have been free for longest."""

    __slots__ = ("_free", "_fresh", "_resting")

    def __init__(self) -> None:
        self._fresh = 1
        self._free: deque[int] = deque()
        self._resting: deque[tuple[float, int]] = deque()

    def take(self, now: float) -> int | None:
        """An id that nobody uses; None: there is none."""
        resting = self._resting
        while resting and resting[0][0] <= now:
            self._free.append(resting.popleft()[1])
        if self._fresh <= MAX_ID:
            self._fresh += 1
            return self._fresh - 1
        return self._free.popleft() if self._free else None

    def release(self, number: int) -> None:
        """Its session ended with everything acknowledged, or was never opened."""
        self._free.append(number)

    def rest(self, number: int, now: float) -> None:
        """Its session was reset."""
        self._resting.append((now + REST, number))
