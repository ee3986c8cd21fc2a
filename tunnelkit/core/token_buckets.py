"""How often each address may do something (rule X16)."""

from __future__ import annotations

from collections import OrderedDict

MAX_REMEMBERED = 10_000


class TokenBuckets:
    """Each address may do something ``rate`` times a second, and ``burst`` times at once."""

    __slots__ = ("_buckets", "_burst", "_rate")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens, and when they were counted; an address that is not there has all of them."""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str, now: float) -> bool:
        """Whether it may now; then it has done so."""
        tokens = self._tokens(address, now)
        if tokens < 1:
            return False
        self._put(address, tokens - 1, now)
        return True

    def charge(self, address: str, tokens: float, now: float) -> None:
        """Take more tokens from it, into debt if need be, but never more than a burst of it."""
        self._put(address, max(-self._burst, self._tokens(address, now) - tokens), now)

    def give_back(self, address: str, now: float) -> None:
        """What it did was right, and does not count."""
        tokens = self._tokens(address, now) + 1
        if tokens >= self._burst:
            self._buckets.pop(address, None)
        else:
            self._put(address, tokens, now)

    def _tokens(self, address: str, now: float) -> float:
        tokens, since = self._buckets.get(address, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._rate)

    def _put(self, address: str, tokens: float, now: float) -> None:
        self._buckets[address] = tokens, now
        self._buckets.move_to_end(address)
        if len(self._buckets) > MAX_REMEMBERED:
            self._buckets.popitem(last=False)
