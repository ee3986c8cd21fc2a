"""Answers to DNS questions, kept for as long as their records allow (RFC 1035, 2308)."""

from __future__ import annotations

from collections import OrderedDict

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.dns import aged, lifetime

MAX_ENTRIES = 4096
MAX_BYTES = 8 << 20
LONGEST = 86_400
"""Seconds that an answer is kept at most."""
LONGEST_NEGATIVE = 10_800
"""The same for 'there is no such name' and 'it has no such record'."""


class DnsCache:
    """Bounded by number and by bytes; what was asked for least recently goes first."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[bytes, tuple[int, ...], float, float]] = (
            OrderedDict()
        )

    def __len__(self) -> int:
        """Answers kept, those that are too old included."""
        return len(self._entries)

    def put(self, key: bytes, answer: bytes, now: float) -> None:
        """Keep ``answer`` if its records allow it."""
        try:
            life = lifetime(answer)
        except RemoteProtocolError:
            return
        self._remove(key)
        if life is None or life.seconds <= 0:
            return
        positive = answer[6:8] != b"\0\0"
        seconds = min(life.seconds, LONGEST if positive else LONGEST_NEGATIVE)
        self._entries[key] = (answer, life.offsets, now, now + seconds)
        self._bytes += len(key) + len(answer)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def get(self, key: bytes, now: float) -> bytes | None:
        """The answer, its records as old as they are by now; None: ask."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        answer, offsets, since, until = entry
        if now >= until:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return aged(answer, offsets, int(now - since))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(key) + len(entry[0])
