"""What a role writes: one event a line, as text or as JSON (rows O1, X13, X14)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, MutableMapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogEvent, formatEvent, textFileLogObserver
from zope.interface import implementer

from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import SHOWN_BYTES, printable
from tunnelkit.services.colour import GREEN, RED, YELLOW, coloured, has_colour
from tunnelkit.services.log_file import LogFile

MAX_MESSAGE = 2048
"""Characters of one event's text."""
_HIDDEN = ("log_", "isError", "message", "time", "format", "system", "failure", "why")

_COLOURS = {"warn": YELLOW, "error": RED, "critical": RED}

_TWIST = "fileLogObserverFactory"
"""An option that only twist has."""


class Writer:
    """Whose log it is: a machine may run several roles that write to one place (row O12)."""

    def __init__(self, role: str = "", tunnel: str = "") -> None:
        names = {"role": role, "tunnel": tunnel}
        self.fields = {name: printable(text) for name, text in names.items() if text}
        self.text = f"[{' '.join(self.fields.values())}] " if self.fields else ""
        """In front of messages."""


Format = Callable[[LogEvent, str, str, str, Writer], str]
"""Makes a line of an event, of when it was, its level and its text."""


def format_text(event: LogEvent, when: str, level: str, text: str, writer: Writer) -> str:
    """``TIME LEVEL [ROLE TUNNEL] message``; a traceback follows, indented, where there is one."""
    line = f"{when} {level:<5} {writer.text}{text}"
    failure = event.get("log_failure")
    if failure is not None:
        trace = failure.getTraceback().rstrip("\n").split("\n")
        line += "".join(f"\n\t{printable(part, MAX_MESSAGE)}" for part in trace)
    return line


def format_coloured(event: LogEvent, when: str, level: str, text: str, writer: Writer) -> str:
    """The same for a terminal: what needs a look stands out, and that a role is ready."""
    line = format_text(event, when, level, text, writer)
    colour = _COLOURS.get(level) or (GREEN if text.startswith("READY ") else "")
    return coloured(line, colour) if colour else line


def format_json(event: LogEvent, when: str, level: str, text: str, writer: Writer) -> str:
    """One JSON object: time, level, role, tunnel, module, text, and the event's own fields."""
    entry: dict[str, object] = {
        "time": when,
        "level": level,
        **writer.fields,
        "module": str(event.get("log_namespace", "")),
        "message": text,
    }
    for name, value in event.items():
        if not name.startswith(_HIDDEN) and name not in entry:
            entry[name] = _value(value)
    failure = event.get("log_failure")
    if failure is not None:
        entry["traceback"] = failure.getTraceback()
    return json.dumps(entry)


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line, and nothing that a peer says can add a line to it."""

    def __init__(self, out: TextIO | LogFile, as_line: Format) -> None:
        self._out = out
        self._as_line = as_line
        self._plain = as_line is format_text
        self.writer = Writer()
        """Named in every line."""
        self.front: ILogObserver = self
        """What is given the events instead, and hands on what is to be written."""

    def __call__(self, event: LogEvent) -> None:
        """Write one event; the log must never be what brings a tunnel down."""
        level = event.get("log_level")
        name = "info" if level is None else str(level.name)
        if name == "debug":
            return
        try:
            moment: float = event.get("log_time", 0.0)
            second = int(moment)
            when = f"{_second(second)}.{int((moment - second) * 1000):03}Z"
            # The access log, two events for every channel, has been formatted already.
            text = event.get("log_text")
            if text is None or not text.isprintable() or len(text) > MAX_MESSAGE:
                text = message_of(event)
            if self._plain and "log_failure" not in event:
                # As `format_text` has it, for nearly all there is to write.
                line = f"{when} {name:<5} {self.writer.text}{text}"
            else:
                line = self._as_line(event, when, name, text, self.writer)
        except Exception as error:
            line = f"an event could not be formatted: {type(error).__name__}"
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except OSError:
            pass

    def reopen(self, rotate: bool) -> None:
        """Go on in a new file if this one was moved away; ``rotate``: otherwise move it away."""
        if isinstance(self._out, LogFile):
            if rotate:
                self._out.rotate()
            else:
                self._out.reopen()


def observer_for(options: MutableMapping[str, Any], as_json: bool) -> LineObserver | None:
    """The observer that the options of twistd or twist ask for; None where they name another one.

    ``options`` are those of twistd itself (``logfile``, ``syslog``, ``logger``, ``nodaemon``), or
    of twist, which is told here to use it. Raises `ConfigError`.
    """
    if _TWIST in options:
        return _observer_for_twist(options, as_json)
    if options.get("syslog") or options.get("logger"):
        if as_json:
            raise ConfigError("--log-json: expected without twistd's --syslog and --logger")
        return None
    name = options.get("logfile") or ("-" if options.get("nodaemon") else "twistd.log")
    if name == "-":
        if not options.get("nodaemon"):
            return None  # twistd explains this one
        text = format_coloured if has_colour(sys.stdout) else format_text
        return LineObserver(sys.stdout, format_json if as_json else text)
    return LineObserver(_file(name, "--logfile"), format_json if as_json else format_text)


def _observer_for_twist(options: MutableMapping[str, Any], as_json: bool) -> LineObserver | None:
    if not as_json and options[_TWIST] is not textFileLogObserver:
        return None  # its own JSON
    out = options["logFile"]
    if out not in (sys.stdout, sys.stderr):
        out = _file(out.name, "--log-file")
    observer = LineObserver(out, format_json if as_json else format_text)
    options[_TWIST] = lambda file: observer.front
    return observer


def _file(name: str, option: str) -> LogFile:
    try:
        return LogFile(name)
    except OSError as error:
        raise ConfigError(
            f"{option} {printable(name)}: {error.strerror}: expected a file"
        ) from None


@lru_cache(maxsize=8)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def message_of(event: LogEvent) -> str:
    """The text of an event, in one line that is not too long."""
    text = event.get("log_text") or formatEvent(event)
    failure = event.get("log_failure")
    if not text and failure is not None:
        text = f"{failure.type.__name__}: {failure.getErrorMessage()}"
    # Multi-line text of other libraries stays one line; what is escaped already stays as it is.
    clean = text
    if not text.isprintable():
        clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return clean if len(clean) <= MAX_MESSAGE else clean[:MAX_MESSAGE] + "..."


def _value(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= SHOWN_BYTES else text[:SHOWN_BYTES] + "..."
