"""Many deadlines, of which each can be moved or forgotten at any time."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Deadlines(Generic[Key]):
    """A heap in which entries that were moved or forgotten are left until their turn."""

    __slots__ = ("_counter", "_heap", "_times")

    def __init__(self) -> None:
        self._times: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._counter = 0
        """Keys need not be comparable: of two with the same time the first one set is first."""

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, key: Key) -> bool:
        return key in self._times

    def set(self, key: Key, when: float) -> None:
        """``key`` is due at ``when``, and at no other time."""
        self._times[key] = when
        self._counter += 1
        heapq.heappush(self._heap, (when, self._counter, key))
        if len(self._heap) > 2 * len(self._times) + 64:
            self._heap = [entry for entry in self._heap if self._times.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def clear(self, key: Key) -> None:
        """Forget about ``key``."""
        self._times.pop(key, None)

    def next_deadline(self) -> float | None:
        """The earliest; None if there is none."""
        heap = self._heap
        while heap and self._times.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[Key]:
        """Take out all whose time has come, the earliest first."""
        passed = []
        while (when := self.next_deadline()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._times[key]
            passed.append(key)
        return passed
