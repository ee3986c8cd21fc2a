"""The central log of a Communication Server: decisions, registrations, sessions (row S9; X14).

A session is logged when it is asked for and when it is over, with the same id. Everything
goes to the process' own log; decisions and sessions also to a file of JSON lines.
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from twisted.logger import Logger

from tunnelkit.core.secureproxy.commands import (
    Command,
    Decided,
    Left,
    Present,
    SessionBegan,
    SessionEnded,
)
from tunnelkit.core.secureproxy.session import Session
from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable

_log = Logger()

RECENT = 1000
"""Lines that are kept in memory, for `tunnelkit log`."""


class Records:
    """``path``: the file, appended to; None: there is none. Raises `ConfigError`."""

    def __init__(self, path: str | None, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self.denied: Counter[str] = Counter()
        """Decisions against somebody since the start, by action."""
        self._began: dict[str, float] = {}
        self.recent: deque[dict[str, object]] = deque(maxlen=RECENT)
        """The newest lines."""
        self._descriptor: int | None = None
        self.reopen()

    def reopen(self) -> None:
        """Go on in the file of this name: the one before may have been moved away."""
        if self._path is None:
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise ConfigError(
                f"--log {printable(self._path)}: {error.strerror}: expected a file to write to"
            ) from None
        self.close()
        self._descriptor = descriptor

    def close(self) -> None:
        """Write no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __call__(self, command: Command) -> None:
        """Log what the server says."""
        if isinstance(command, Decided):
            self._decided(command)
        elif isinstance(command, Present):
            registration = command.registration
            _log.info(
                "{client} is present, from {observed}",
                client=printable(registration.name),
                observed=registration.connection.observed,
            )
        elif isinstance(command, Left):
            _log.info(
                "{client} is not present any more: {reason}",
                client=printable(command.registration.name),
                reason=printable(command.reason),
            )
        elif isinstance(command, SessionBegan):
            self._began[command.session.id] = self._clock()
            self._line("session-open", **_about(command.session))
        elif isinstance(command, SessionEnded):
            began = self._began.pop(command.session.id, None)
            seconds = 0.0 if began is None else round(self._clock() - began, 3)
            self._line(
                "session-end",
                **_about(command.session),
                sent=command.sent,
                received=command.received,
                seconds=seconds,
                outcome=printable(command.outcome),
            )

    def _decided(self, decided: Decided) -> None:
        if not decided.allowed:
            self.denied[decided.action] += 1
        self._line(
            "decision",
            who=printable(decided.who),
            action=decided.action,
            what=printable(decided.what),
            allowed=decided.allowed,
            rule=printable(decided.rule),
            observed=decided.observed,
        )

    def _line(self, event: str, **fields: Any) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": now, "event": event, **fields}
        self.recent.append(line)
        if self._descriptor is not None:
            try:
                os.write(self._descriptor, json.dumps(line).encode("ascii") + b"\n")
            except OSError as error:
                _log.error("--log: {reason}", reason=error.strerror)
        words = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
        # Observers that write fields leave out what begins with log_.
        _log.info("{log_text}", event=event, log_text=f"{event} {words}", **fields)


def _about(session: Session) -> dict[str, object]:
    asked = "" if session.asked is None else session.asked.name
    return {
        "id": session.id,
        "who": printable(session.origin),
        "target": printable(session.target),
        "peer": printable(session.peer or asked),
        "resource": session.resource,
        "host": session.host or "",
        "observed": session.initiator.observed,
        "rule": printable(session.rule),
    }


def _word(value: object) -> str:
    text = str(value)
    plain = text and not (" " in text or '"' in text or "=" in text)
    return text if plain else json.dumps(text)
