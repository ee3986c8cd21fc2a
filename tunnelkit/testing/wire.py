"""What travels between the ends of a `tunnelkit.testing.pipe.Pipe` in one direction."""

from __future__ import annotations

from collections import deque
from enum import Enum


class WireEnd(Enum):
    """What follows the last byte of a wire."""

    FINISHED = "an orderly end"
    RESET = "a reset"


class Wire:
    """What travels in one direction."""

    __slots__ = ("capacity", "end", "parts", "size")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.parts: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.end: tuple[float, WireEnd] | None = None

    @property
    def room(self) -> int:
        return self.capacity - self.size

    def put(self, due: float, data: bytes) -> None:
        self.parts.append((due, data))
        self.size += len(data)

    def take(self, now: float, limit: int) -> bytes:
        """Up to ``limit`` of the bytes that have arrived by ``now``."""
        taken = bytearray()
        while self.parts and self.parts[0][0] <= now and len(taken) < limit:
            due, data = self.parts.popleft()
            wanted = limit - len(taken)
            taken += data[:wanted]
            if len(data) > wanted:
                self.parts.appendleft((due, data[wanted:]))
        self.size -= len(taken)
        return bytes(taken)

    def arrived_end(self, now: float) -> WireEnd | None:
        """The end, if it is the next thing and has arrived."""
        if self.parts or self.end is None or self.end[0] > now:
            return None
        return self.end[1]

    def is_reset(self, now: float) -> bool:
        """Whether a reset has arrived, with or without data before it."""
        return self.end is not None and self.end[1] is WireEnd.RESET and self.end[0] <= now

    def next_due(self) -> float | None:
        """When the next thing arrives."""
        if self.parts:
            return self.parts[0][0]
        return self.end[0] if self.end else None

    def clear(self) -> None:
        self.parts.clear()
        self.size = 0
