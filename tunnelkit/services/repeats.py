"""Warnings that come again and again are counted in the log, not repeated (row Q5).

Nobody outside can fill a disk by what he does wrong: each kind of warning has a few lines a minute,
and one more says how many others there were. What is not a warning goes through untouched.
"""

from __future__ import annotations

from time import time
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from tunnelkit.net.sockets.timer import Timer
from tunnelkit.services.logs import message_of

WINDOW = 60.0
"""Seconds after which what was counted is told."""
LINES = 10
"""Different texts of one kind that get a line each within `WINDOW`. Where there were more, half as
many do in the next one, and so on down to one."""
MOST_KINDS = 200
"""Kinds that are told apart: a few for each peer."""

_COUNTED = (LogLevel.warn, LogLevel.error, LogLevel.critical)
_OTHERS = ("", "", "")
ALWAYS = "log_always"
"""A field of events that answer something done by hand here, such as another settings file: whoever
did it looks for the line, also if it says the same as before."""


@implementer(ILogObserver)
class Repeats:
    """Gives events to ``observer``; of equal warnings the first, and later how many more came.

    A kind of warning is one place in the program, and one peer where the event has a ``peer``.
    """

    def __init__(
        self, reactor: Any, observer: ILogObserver, problem: ILogObserver | None = None
    ) -> None:
        """``problem`` is given each warning, and nothing else."""
        self._observer = observer
        self._problem = problem
        self._clock = reactor.seconds
        self._kinds: dict[tuple[str, str, str], _Kind] = {}
        self._timer = Timer(reactor, self._sum_up)
        self._since = 0.0

    def __call__(self, event: LogEvent) -> None:
        """Take one event."""
        if event.get("log_level") not in _COUNTED:
            self._observer(event)
            return
        if self._problem is not None:
            self._problem(event)
        if event.get(ALWAYS):
            self._observer(event)
            return
        key = (
            str(event.get("log_namespace", "")),
            str(event.get("log_format", "")),
            str(event.get("peer", "")),
        )
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MOST_KINDS:
                key = _OTHERS
            kind = self._kinds.setdefault(key, _Kind(LINES))
        kind.empty = False
        text = message_of(event)
        known = kind.texts.get(text)
        if known is not None:
            known.count += 1
        elif len(kind.texts) < kind.most:
            kind.texts[text] = _Repeated(event)
            self._observer(event)
        else:
            kind.others += 1
            kind.last = event
        if not self._timer.running:
            self._since = self._clock()
            self._timer.start(WINDOW)

    def close(self) -> None:
        """Tell what has not been told yet; no more is expected."""
        if self._timer.running:
            self._sum_up()
            self._timer.stop()

    def _sum_up(self) -> None:
        now = self._clock()
        seconds = now - self._since
        within = "minute" if round(seconds) == WINDOW else f"{seconds:.0f} s"
        kinds, self._kinds = self._kinds, {}
        for key, kind in kinds.items():
            for known in kind.texts.values():
                if known.count:
                    times = "once" if known.count == 1 else f"{known.count} times"
                    self._tell(known.event, known.count, f"{times} more in the last {within}")
            if kind.last is not None:
                words = f"{kind.others} more like this in the last {within}"
                self._tell(kind.last, kind.others, words)
            following = kind.following()
            if following is not None:
                self._kinds[key] = following
        self._since = now
        if self._kinds:
            self._timer.start(WINDOW)

    def _tell(self, event: LogEvent, count: int, words: str) -> None:
        summed = {name: value for name, value in event.items() if name != "log_failure"}
        summed["log_text"] = f"{message_of(event)} ({words})"
        summed["log_time"] = time()
        summed["count"] = count
        self._observer(summed)


class _Repeated:
    """A text that has had its line, and how often it came since."""

    __slots__ = ("count", "event")

    def __init__(self, event: LogEvent) -> None:
        self.event = event
        self.count = 0


class _Kind:
    """What there was of one kind within `WINDOW`."""

    __slots__ = ("empty", "last", "most", "others", "texts")

    def __init__(self, most: int) -> None:
        self.most = most
        """Texts that get a line."""
        self.empty = True
        """Nothing has come within this window."""
        self.texts: dict[str, _Repeated] = {}
        self.others = 0
        self.last: LogEvent | None = None
        """Of the others."""

    def following(self) -> _Kind | None:
        """How the next window begins; None: nothing has come, and it is forgotten."""
        if self.empty:
            return None
        following = _Kind(max(1, self.most // 2) if self.others else LINES)
        for text, known in self.texts.items():
            if known.count:
                following.texts[text] = _Repeated(known.event)
        return following
