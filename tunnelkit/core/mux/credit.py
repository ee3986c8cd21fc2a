"""How much may be sent and how much may be queued: absolute offsets, never counters that drift.

A receiver says two numbers about each channel's stream: ``taken``, how far
its application has got, and ``limit``, how far the sender may go. Both are
offsets from the start of the stream and neither goes back, so a lost or late
update can only make the sender more careful.

What arrived and what was taken are kept apart: only what the application took
gives new credit, so what a peer can make this end hold is ``limit - taken``.
"""

from __future__ import annotations

from tunnelkit.errors import RemoteProtocolError

MAX_WINDOW = 16 * 1024 * 1024
"""Largest ``limit - taken`` in bytes."""


class Budget:
    """How much received data all channels of the process may hold at once (rule X8).

    Windows grow while less than half of it is in use, new channels are
    refused from three quarters, and over the limit the biggest queue has to
    go; `tunnelkit.net` sees to that.
    """

    __slots__ = ("limit", "queued")

    def __init__(self, limit: int = 256 * 1024 * 1024) -> None:
        self.limit = limit
        self.queued = 0

    @property
    def largest_window(self) -> int:
        """Largest window that a channel may grow to: an eighth of what is free of the first half.

        So nobody's window grows any more long before there is no room for new channels.
        """
        return (self.limit // 2 - self.queued) // 8

    @property
    def accepts_channels(self) -> bool:
        """True while new channels may be opened."""
        return self.queued * 4 < self.limit * 3

    @property
    def exceeded(self) -> bool:
        """True once the biggest queue has to be closed."""
        return self.queued > self.limit


class Outbound:
    """The sending direction of one channel."""

    __slots__ = ("limit", "sent", "taken")

    def __init__(self, window: int) -> None:
        self.sent = 0
        self.limit = window
        self.taken = 0

    @property
    def credit(self) -> int:
        """Bytes that the receiver still accepts."""
        return self.limit - self.sent

    @property
    def in_flight(self) -> int:
        """Bytes sent that the far application has not taken, as far as is known."""
        return self.sent - self.taken

    def granted(self, taken: int, limit: int) -> int:
        """Take in a receiver's update; how many bytes were newly taken.

        Raises `RemoteProtocolError` if an offset goes back or promises what
        cannot be (more taken than sent, a window over 16 MiB).
        """
        if taken < self.taken:
            raise RemoteProtocolError(f"taken went back from {self.taken} to {taken}")
        if limit < self.limit:
            raise RemoteProtocolError(f"limit went back from {self.limit} to {limit}")
        if taken > self.sent:
            raise RemoteProtocolError(f"taken is {taken}, but only {self.sent} bytes were sent")
        if limit - taken > MAX_WINDOW:
            raise RemoteProtocolError(
                f"limit - taken is {limit - taken}, more than {MAX_WINDOW} bytes"
            )
        news = taken - self.taken
        self.taken = taken
        self.limit = limit
        return news


class Inbound:
    """The receiving direction of one channel: checks the sender, decides when to grant more."""

    __slots__ = ("_budget", "_floor", "_grown", "limit", "received", "reported", "taken", "window")

    def __init__(self, window: int, budget: Budget) -> None:
        self.received = 0
        self.taken = 0
        self.limit = window
        self.window = window
        self._floor = window
        self.reported = 0
        """What of ``taken`` the sender has been told."""
        self._grown = 0
        self._budget = budget

    @property
    def queued(self) -> int:
        """Bytes that have arrived and that the application has not taken."""
        return self.received - self.taken

    @property
    def unreported(self) -> int:
        """Bytes taken since the sender was last told."""
        return self.taken - self.reported

    def takes(self, size: int) -> bool:
        """Account for ``size`` bytes that came; False, and nothing is done, beyond credit."""
        received = self.received + size
        if received > self.limit:
            return False
        self.received = received
        self._budget.queued += size
        return True

    def arrived(self, size: int) -> None:
        """The same; raises `RemoteProtocolError` beyond credit."""
        if not self.takes(size):
            raise RemoteProtocolError(
                f"{self.received + size - self.limit} bytes more than the credit given"
            )

    def consumed(self, size: int) -> bool:
        """The application took ``size`` bytes; True if the sender must be told at once."""
        taken = self.taken = self.taken + size
        self._budget.queued -= size
        return (taken - self.reported) * 4 >= self.window

    def discard(self) -> None:
        """Nobody will take what is queued: give it back to the budget."""
        self._budget.queued -= self.received - self.taken
        self.taken = self.received

    def report(self) -> tuple[int, int]:
        """The ``(taken, limit)`` to tell the sender now.

        The window doubles each time a whole one has been taken and nothing is
        left over: then the application keeps up with the path. A sender that
        could use more gets it within a round trip; one that could not keeps
        less in flight by itself. Under memory pressure no window grows, and
        those whose application leaves something over go back step by step: who
        takes everything at once is not slowed by those who take nothing.
        """
        most = min(self._budget.largest_window, MAX_WINDOW)
        if self.received != self.taken:
            if self.window > most:
                self.window = max(self._floor, self.window // 2)
        elif self.taken - self._grown >= self.window:
            self.window = max(self.window, min(self.window * 2, most))
            self._grown = self.taken
        self.reported = self.taken
        self.limit = max(self.limit, self.taken + self.window)
        return self.taken, self.limit
