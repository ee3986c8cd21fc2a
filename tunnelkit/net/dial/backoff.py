"""When to try again: exponential backoff with jitter (rows L13, N3)."""

from __future__ import annotations

import random

FIRST = 0.25
"""Seconds before the first further attempt."""
FACTOR = 1.5
MOST = 10.0
"""Longest wait, seconds, before jitter."""
JITTER = 0.3
"""Each wait is longer or shorter by up to this share, so that ends do not come in step."""


class Backoff:
    """The next wait after each failure, ``most`` seconds at most; `reset` after a success."""

    def __init__(self, rng: random.Random | None = None, most: float = MOST) -> None:
        self._rng = rng or random.Random()
        self._most = most
        self._failures = 0

    def reset(self) -> None:
        """It worked: begin from the shortest wait again."""
        self._failures = 0

    def next_delay(self) -> float:
        """Seconds to wait now."""
        # 40 steps are far beyond the longest wait; the power must not overflow.
        delay = min(self._most, FIRST * FACTOR ** min(self._failures, 40))
        self._failures += 1
        return delay * self._rng.uniform(1 - JITTER, 1 + JITTER)
