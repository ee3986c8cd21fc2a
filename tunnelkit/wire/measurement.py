"""What is said on a channel to ``service:@bench``, in lines of ASCII.

The side that measures begins with one line, ``VERB MILLISECONDS``; then, by its verb:

========  ==============================================================================
``down``  the far side sends, as fast as it can, for so long, and then a `Report`
``up``    this side sends, for so long, and ends; the far side sends a `Report` now and
          then, and the last one when everything has come
``echo``  what this side sends comes back, for so long
========  ==============================================================================

A report is a line ``BYTES MICROSECONDS``. Both sides end their direction then.
"""

from __future__ import annotations

import re

import attrs

from tunnelkit.errors import RemoteProtocolError

DOWN, UP, ECHO = "down", "up", "echo"
MOST_SECONDS = 60
"""That one measurement may last."""
LONGEST_LINE = 48
"""Bytes, the end of the line included."""

_ASKED = re.compile(rb"(down|up|echo) ([0-9]{1,5})\n\Z")
_REPORT = re.compile(rb"([0-9]{1,20}) ([0-9]{1,20})\n\Z")


@attrs.frozen
class Asked:
    """What is to be measured."""

    verb: str
    """``down``, ``up`` or ``echo``."""
    milliseconds: int
    """For how long; 1 to 60,000."""

    def __bytes__(self) -> bytes:
        return f"{self.verb} {self.milliseconds}\n".encode("ascii")

    @classmethod
    def read(cls, line: bytes) -> Asked:
        """The line with its end; raises `RemoteProtocolError`."""
        match = _ASKED.match(line)
        if match is None or not 1 <= int(match[2]) <= MOST_SECONDS * 1000:
            raise RemoteProtocolError(
                f"{line[:LONGEST_LINE]!r} is no measurement: expected down, up or echo, and 1 to "
                f"{MOST_SECONDS * 1000} milliseconds"
            )
        return cls(match[1].decode("ascii"), int(match[2]))


@attrs.frozen
class Report:
    """What one direction has carried."""

    count: int
    """Bytes, the report aside."""
    microseconds: int
    """From the first to the last of them."""

    def __bytes__(self) -> bytes:
        return f"{self.count} {self.microseconds}\n".encode("ascii")

    @classmethod
    def read(cls, line: bytes) -> Report:
        """The line with its end; raises `RemoteProtocolError`."""
        match = _REPORT.match(line)
        if match is None:
            raise RemoteProtocolError(f"{line[:LONGEST_LINE]!r} is no report of a measurement")
        return cls(int(match[1]), int(match[2]))


def last_report(end: bytes) -> tuple[Report, int]:
    """The report that ``end``, the last `LONGEST_LINE` bytes of a direction or fewer, ends with,
    and how many bytes it has. Raises `RemoteProtocolError`.

    What was sent before it ends with a newline, which random bytes do not without one being put.
    """
    body = end[:-1]
    line = end[body.rfind(b"\n") + 1 :]
    return Report.read(line), len(line)
