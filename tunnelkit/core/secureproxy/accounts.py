"""What each client and each stranger has at the moment, and has done lately (rules X16, X25)."""

from __future__ import annotations

from collections import Counter, OrderedDict

from tunnelkit.errors import Code, RemoteProtocolError

MINUTE = 60.0
MAX_REMEMBERED = 10_000


class Accounts:
    """How many of something each name has at once."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, what: str, name: str) -> int:
        """How many it has."""
        return self._counts[what, name]

    def take(self, what: str, name: str, most: int) -> None:
        """One more. Raises `RemoteProtocolError` with LIMIT for more than ``most``."""
        if self._counts[what, name] >= most:
            raise RemoteProtocolError(f"more than {most} {what} at once", code=Code.LIMIT)
        self._counts[what, name] += 1

    def give_back(self, what: str, name: str) -> None:
        """One less."""
        self._counts[what, name] -= 1
        if not self._counts[what, name]:
            del self._counts[what, name]


class Failures:
    """Failed logins of the last minute, by name and address together (S11)."""

    __slots__ = ("_most", "_seen")

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    def too_many(self, name: str, address: str, now: float) -> bool:
        """Whether the next login would be one too many."""
        times = self._seen.get((name, address), ())
        return sum(1 for time in times if now - time < MINUTE) >= self._most

    def add(self, name: str, address: str, now: float) -> None:
        """One has failed."""
        key = (name, address)
        times = [time for time in self._seen.pop(key, ()) if now - time < MINUTE]
        self._seen[key] = [*times, now][-self._most :]
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
