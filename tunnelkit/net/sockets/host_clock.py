"""The time of a host program's reactor, kept by the monotonic clock without touching the reactor.

All timers are one alarm: on Linux a timerfd(2), which nobody's setting of the wall
clock moves; elsewhere the reactor's own timer, asked every `LONGEST_SLEEP` seconds.
"""

from __future__ import annotations

import ctypes
import heapq
import os
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

_log = Logger()

LONGEST_SLEEP = 30.0
"""Seconds after which the reactor's own timer looks at the monotonic clock again."""


class _Alarm(Protocol):
    def set(self, due: float | None) -> None:
        """Ring at ``due`` (`time.monotonic`), and not when it was to ring before; None: never."""

    def come_back(self) -> None:
        """Ring though somebody may have emptied the reactor without a word."""


class _ReactorAlarm:
    """The reactor's own timer."""

    def __init__(self, reactor: Any, ring: Callable[[], object]) -> None:
        self._reactor = reactor
        self._ring = ring
        self._due: float | None = None
        self._call: IDelayedCall | None = None

    def set(self, due: float | None) -> None:
        self._due = due
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        if due is not None:
            delay = min(max(0.0, due - time.monotonic()), LONGEST_SLEEP)
            self._call = self._reactor.callLater(delay, self._ring)

    def come_back(self) -> None:
        if self._call is not None and not self._call.active():
            self.set(self._due)


class _Itimerspec(ctypes.Structure):
    _fields_ = [
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    ]


_ABSOLUTE = 1


@implementer(IReadDescriptor)
class _TimerFd:
    """A timerfd(2) of CLOCK_MONOTONIC, in the reactor only while it is set.

    It is opened once: a timer must not fail because descriptors have run out.
    """

    def __init__(self, reactor: Any, ring: Callable[[], object], library: Any) -> None:
        self._reactor = reactor
        self._ring = ring
        self._library = library
        self._fd: int = library.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: float | None = None
        self._watched = False

    def set(self, due: float | None) -> None:
        if due == self._due:
            return
        self._due = due
        self._watch(due is not None)
        if due is None:
            return
        # A time of 0 would switch it off.
        nanoseconds = max(1, int(due * 1_000_000_000))
        value = _Itimerspec(0, 0, *divmod(nanoseconds, 1_000_000_000))
        self._library.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(value), None)

    def come_back(self) -> None:
        if self._watched:
            self._reactor.addReader(self)

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "clock"

    def doRead(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._due = None
        self._ring()
        self._watch(self._due is not None)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops and has thrown out its readers."""
        self._watched = False
        self._due = None

    def _watch(self, wanted: bool) -> None:
        if wanted is not self._watched:
            self._watched = wanted
            (self._reactor.addReader if wanted else self._reactor.removeReader)(self)


def _make_alarm(reactor: Any, ring: Callable[[], object]) -> _Alarm:
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        if hasattr(library, "timerfd_create"):
            return _TimerFd(reactor, ring, library)
    return _ReactorAlarm(reactor, ring)


@implementer(IReactorTime)
class HostClock:
    """A host program's reactor, but for its time; what it keeps is due by the monotonic clock."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: list[tuple[float, int, HostCall]] = []
        self._numbers = count()
        self._alarm = _make_alarm(reactor, self._look)
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def seconds(self) -> float:
        """See `IReactorTime`: the monotonic clock."""
        return time.monotonic()

    def callLater(self, delay: float, *args: Any, **kw: object) -> IDelayedCall:
        """See `IReactorTime`."""
        call = HostCall(self, self.seconds() + delay, args[0], args[1:], kw)
        self.add(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See `IReactorTime`."""
        return [call for due, _, call in self._waiting if call.active() and call.getTime() == due]

    def come_back(self) -> None:
        """Go on, though somebody may have emptied the reactor, as trial does after a test that has
        left something: what else goes by this clock would wait for ever."""
        self._alarm.come_back()

    def add(self, call: HostCall) -> None:
        """``call`` has a (new) time."""
        heapq.heappush(self._waiting, (call.getTime(), next(self._numbers), call))
        self._set_alarm()

    def cancelled(self) -> None:
        """A call is not due any more."""
        self._set_alarm()

    def _set_alarm(self) -> None:
        waiting = self._waiting
        while waiting and not waiting[0][2].is_due_at(waiting[0][0]):
            heapq.heappop(waiting)
        self._alarm.set(waiting[0][0] if waiting else None)

    def _look(self) -> None:
        waiting = self._waiting
        now = self.seconds()
        # What is started by a call is due in a later turn at the earliest.
        calls = []
        while waiting and waiting[0][0] <= now:
            due, _, call = heapq.heappop(waiting)
            if call.is_due_at(due):
                calls.append(call)
        for call in calls:
            if call.active():
                call.run()
        self._set_alarm()


@implementer(IDelayedCall)
class HostCall:
    """One call of a `HostClock`."""

    def __init__(
        self,
        owner: HostClock,
        due: float,
        function: Callable[..., object],
        args: tuple[object, ...],
        kw: dict[str, object],
    ) -> None:
        self._owner = owner
        self._due = due
        self._function = function
        self._args = args
        self._kw = kw
        self._called = self._cancelled = False

    def active(self) -> bool:
        """See `IDelayedCall`."""
        return not (self._called or self._cancelled)

    def getTime(self) -> float:
        """See `IDelayedCall`."""
        return self._due

    def is_due_at(self, due: float) -> bool:
        """It still waits, and for this time."""
        return self.active() and self._due == due

    def cancel(self) -> None:
        """See `IDelayedCall`."""
        self._check()
        self._cancelled = True
        self._owner.cancelled()

    def reset(self, secondsFromNow: float) -> None:
        """See `IDelayedCall`."""
        self._check()
        self._move(self._owner.seconds() + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """See `IDelayedCall`."""
        self._check()
        self._move(self._due + secondsLater)

    def run(self) -> None:
        """It is due."""
        self._called = True
        try:
            self._function(*self._args, **self._kw)
        except Exception:
            _log.failure("A timer failed")

    def _move(self, due: float) -> None:
        self._due = due
        self._owner.add(self)

    def _check(self) -> None:
        if self._cancelled:
            raise AlreadyCancelled
        if self._called:
            raise AlreadyCalled
