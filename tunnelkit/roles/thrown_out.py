"""The log's line of what a person has ended (rows O6, O8)."""

from __future__ import annotations

from twisted.logger import Logger

from tunnelkit.policy.printable import printable

_log = Logger()


def tell_thrown_out(who: str, seconds: float, ended: int) -> None:
    """``ended`` things of ``who``, who stays out for so long."""
    _log.info(
        "Thrown out by hand: {who}, {ended} ended, kept out for {seconds:g} s",
        event="thrown-out",
        who=printable(who),
        ended=ended,
        seconds=seconds,
    )
