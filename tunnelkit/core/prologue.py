"""What two ends say to each other inside TLS before their channels, sans-IO.

A rendezvous has announced somebody in clear; the prologue proves it, so that
nobody on the way can have changed anything (rows L4, X3). What is said is the
rendezvous' own affair: `Prologue` is what the rest of the package needs of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

from tunnelkit.errors import Code

Export = Callable[[bytes, bytes], bytes]
"""``(label, context)`` -> 32 bytes that only the two ends of this TLS have (RFC 8446 7.5)."""


@attrs.frozen
class Verified:
    """The other end is who it must be, and nobody on the way has changed anything."""

    peer: str
    """The certificate's name."""
    leftover: bytes
    """Bytes behind the prologue: they belong to the mux."""


@attrs.frozen
class Refused:
    """The other side said no, or nothing for too long (code TIMED_OUT).

    Said in clear this is a hint for the log. Close the connection and try again later.
    """

    code: Code
    reason: str


class Prologue(Protocol):
    """The dialogue of one end. Send ``data_to_send()`` after making one and after every call."""

    def receive(self, data: memoryview, now: float) -> Iterable[object]:
        """Take bytes; `Verified` or `Refused` ends it. Raises `RemoteProtocolError` for a broken
        rule: send ``data_to_send()``, then close."""

    def data_to_send(self) -> bytes:
        """What has to go out now."""

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called."""

    def deadline_passed(self, now: float) -> Iterable[object]:
        """The other end took too long."""
