"""The newest warning of a process, for ``tunnelkit status`` (row Q7)."""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from tunnelkit.services.logs import message_of

_PROBLEMS = (LogLevel.warn, LogLevel.error, LogLevel.critical)


@implementer(ILogObserver)
class LastProblem:
    """Sees all events, and keeps the newest that is a warning or worse."""

    def __init__(self) -> None:
        self._event: LogEvent | None = None

    def __call__(self, event: LogEvent) -> None:
        """See one event."""
        if event.get("log_level") in _PROBLEMS:
            self._event = event

    def as_mapping(self) -> dict[str, object]:
        """What a status has of it: ``last_problem``, one line, and ``last_problem_at``, ISO 8601;
        both empty where there was none."""
        event = self._event
        if event is None:
            return {"last_problem": "", "last_problem_at": ""}
        at = datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc)
        return {
            "last_problem": message_of(event),
            "last_problem_at": at.isoformat(timespec="seconds"),
        }
