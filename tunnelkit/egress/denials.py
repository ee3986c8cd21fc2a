"""What could not be done for a peer, in the log: each refusal by a rule for itself at first,
summed up when there are many.

A peer can be refused as often as it likes; what it can fill a disk with is bounded.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from twisted.logger import Logger

from tunnelkit.errors import NotAuthorized
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.printable import printable

_log = Logger()

REASONS = ("no-rule", "special-address", "own-listener", "no-address", "no-permission")
"""Those of `NotAuthorized`; and that the operating system does not allow it."""
SINGLE = 10
"""Refusals of one peer within `WINDOW` that get a line each."""
WINDOW = 60.0
"""Seconds after which the rest of them is told in one line."""


class Denials:
    """Tells of refusals, by peer."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.counts: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """How many there have been since the start, by each of `REASONS`."""
        self._windows: dict[str, _Window] = {}
        self._exhausted_again: float = reactor.seconds()
        """From when on another line may say so."""

    def not_authorized(self, peer: str, error: NotAuthorized) -> None:
        """``peer`` has been refused something, as ``error`` says."""
        self.tell(peer, str(error), error.reason, error.remedy)

    def tell(self, peer: str, why: str, reason: str = "no-rule", remedy: str = "") -> None:
        """``peer`` has been refused something; ``why`` is one printable line, ``reason`` one of
        `REASONS`, ``remedy`` the option that would allow it."""
        if remedy:
            why = f"{why}; {remedy} would allow it"
        self.counts[reason] += 1
        now: float = self._reactor.seconds()
        window = self._windows.get(peer)
        if window is None or (not window.summed and now - window.since >= WINDOW):
            timer = Timer(self._reactor, partial(self._over, peer))
            window = self._windows[peer] = _Window(now, timer)
        if window.told < SINGLE:
            window.told += 1
            _log.warn("Not allowed: {why}", why=why, peer=peer)
            return
        window.summed += 1
        window.last = why
        if not window.timer.running:
            window.timer.start_at(window.since + WINDOW)

    def exhausted(self, why: str) -> None:
        """There were no descriptors or memory to connect out with: one line a minute says so."""
        now: float = self._reactor.seconds()
        if now >= self._exhausted_again:
            self._exhausted_again = now + WINDOW
            _log.error("Cannot connect out: {why} (descriptors: ulimit -n, LimitNOFILE=)", why=why)

    def close(self) -> None:
        """Tell what has not been told yet; no more is expected."""
        for peer in list(self._windows):
            self._over(peer)

    def _over(self, peer: str) -> None:
        window = self._windows.pop(peer)
        window.timer.stop()
        if not window.summed:
            return
        _log.warn(
            "Not allowed to {peer}: {count} more in {seconds:.0f} s; the last: {why}",
            peer=printable(peer),
            count=window.summed,
            seconds=self._reactor.seconds() - window.since,
            why=window.last,
        )


class _Window:
    """What one peer has been refused lately."""

    __slots__ = ("last", "since", "summed", "timer", "told")

    def __init__(self, since: float, timer: Timer) -> None:
        self.since = since
        self.timer = timer
        """Runs once there is something to sum up."""
        self.told = 0
        self.summed = 0
        self.last = ""
