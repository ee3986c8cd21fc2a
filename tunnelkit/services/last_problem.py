"""The newest warning of a process, for its status (rows O2, Q7)."""

from __future__ import annotations

from datetime import datetime, timezone

import attrs
from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from tunnelkit.net.role_status import RoleStatus
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

    def put_into(self, status: RoleStatus) -> RoleStatus:
        """The same status, with it."""
        event = self._event
        if event is None:
            return status
        at = datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc)
        return attrs.evolve(
            status,
            last_problem=message_of(event),
            last_problem_at=at.isoformat(timespec="seconds"),
        )
