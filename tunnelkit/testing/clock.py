"""A clock that stands still until the test moves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

MOST_CALLS = 100_000

T = TypeVar("T")


class Stalled(AssertionError):
    """What a test waits for cannot happen any more, or not within the time it allows."""


class TestClock(Clock):
    """A `twisted.internet.task.Clock` that runs exactly as far as a test wants.

    What a delayed call raises comes out of the method that ran it.
    """

    __test__ = False

    def step(self) -> bool:
        """Run the next delayed call, moving the time to it; False if there is none."""
        if not self.calls:
            return False
        self._sortCalls()
        call = self.calls.pop(0)
        self.rightNow = max(self.rightNow, call.getTime())
        call.called = 1
        call.func(*call.args, **call.kw)
        return True

    def settle(self) -> None:
        """Run everything that is due now, and what becomes due by it; the time does not move.

        Raises `Stalled` after 100,000 calls: they call each other for ever.
        """
        for _ in range(MOST_CALLS):
            self._sortCalls()
            if not self.calls or self.calls[0].getTime() > self.rightNow:
                return
            self.step()
        raise Stalled(f"{MOST_CALLS} calls and no end, all due at {self.rightNow}")

    def run_until(self, condition: Callable[[], object], within: float = 60.0) -> None:
        """Run call after call, moving the time, until ``condition`` holds.

        Raises `Stalled` if nothing is left to run, or once the next call
        lies more than ``within`` seconds from the beginning.
        """
        end = self.rightNow + within
        for _ in range(MOST_CALLS):
            if condition():
                return
            self._sortCalls()
            if not self.calls:
                raise Stalled("nothing is left to run, and the condition does not hold")
            if self.calls[0].getTime() > end:
                raise Stalled(f"the condition does not hold after {within} seconds")
            self.step()
        raise Stalled(f"the condition does not hold after {MOST_CALLS} calls")

    def run_for(self, seconds: float) -> None:
        """Run each call of the next ``seconds`` at its own time.

        (``advance`` moves the time first, so that all of them see its end.)
        """
        end = self.rightNow + seconds
        self._sortCalls()
        while self.calls and self.calls[0].getTime() <= end:
            self.step()
            self._sortCalls()
        self.rightNow = end

    def result_of(self, deferred: Deferred[T], within: float = 60.0) -> T:
        """Run until ``deferred`` has fired; its result, or what it failed with is raised."""
        results: list[T] = []
        failures: list[Failure] = []
        deferred.addCallbacks(results.append, failures.append)
        self.run_until(lambda: results or failures, within)
        if failures:
            failures[0].raiseException()
        return results[0]
