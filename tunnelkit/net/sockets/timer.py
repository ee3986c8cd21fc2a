"""One clock and one kind of timer for the whole package (R14).

Twisted's own timers follow the wall clock: they stand still when somebody sets it
back, and all fire at once when it is set forward. Everything here goes by the
monotonic clock instead. A role owns its process and gives the reactor that clock
(`use_monotonic_clock`). The reactor of a host program stays as it is: what is used
in its place (`on_monotonic_clock`) is the same but for its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IDelayedCall

from tunnelkit.net.sockets.host_clock import HostClock


class Timer:
    """A call that is due once, at most one at a time; starting it again moves it.

    ``clock`` is a reactor or a test's clock; ``fire`` is what is called.
    """

    __slots__ = ("_call", "_clock", "_fire", "due")

    def __init__(self, clock: Any, fire: Callable[[], object]) -> None:
        self._clock = clock
        self._fire = fire
        self._call: IDelayedCall | None = None
        self.due = 0.0
        """When the call is due, or was last, by the clock."""

    @property
    def running(self) -> bool:
        """A call is due."""
        return self._call is not None

    def start(self, delay: float) -> None:
        """Call in ``delay`` seconds (at once if negative), and not when it was due before."""
        self.start_at(self._clock.seconds() + delay)

    def start_at(self, due: float) -> None:
        """The same, at a time of the clock."""
        if self._call is not None:
            if self.due == due:
                return
            self._call.cancel()
        self.due = due
        self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._called)

    def start_by(self, due: float, slack: float = 0.0) -> None:
        """Call at ``due`` (``slack`` seconds later will do), or earlier where that is due already.

        One that comes too early costs less than moving it for each new deadline.
        """
        if self._call is None or self.due > due + slack:
            self.start_at(due)

    def stop(self) -> None:
        """Nothing is due any more."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _called(self) -> None:
        self._call = None
        self._fire()


def use_monotonic_clock(reactor: Any) -> None:
    """Let ``reactor`` keep all its time by the monotonic clock; for who owns the process.

    To be called before anything is due: what is due already keeps its distance.
    """
    pending = [(call, call.getTime() - reactor.seconds()) for call in reactor.getDelayedCalls()]
    reactor.seconds = time.monotonic
    for call, left in pending:
        call.seconds = time.monotonic
        call.reset(max(0.0, left))


_clocks: WeakKeyDictionary[Any, HostClock] = WeakKeyDictionary()


def on_monotonic_clock(reactor: Any) -> Any:
    """``reactor``, if its time is monotonic (a role's, a test's); otherwise one with its sockets
    and with timers that are."""
    if not isinstance(reactor, ReactorBase) or reactor.seconds is time.monotonic:
        return reactor
    found = _clocks.get(reactor)
    if found is None:
        found = _clocks[reactor] = HostClock(reactor)
    found.come_back()
    return found
