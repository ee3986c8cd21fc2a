"""What is not waited for when a middle, a server or a bastion stops."""

from __future__ import annotations

from typing import Any, cast

from tunnelkit.net.sockets.quiet import QUIET, QuietRelays
from tunnelkit.testing import TestClock


class OneRelay:
    """A relay of which only the counts matter."""

    def __init__(self) -> None:
        self.bytes_ab = 100
        self.bytes_ba = 0
        self.outcome = ""

    def abort(self, outcome: str) -> None:
        self.outcome = outcome


def test_only_what_nothing_passes_through_is_ended() -> None:
    clock = TestClock()
    silent, busy = OneRelay(), OneRelay()
    relays = [silent, busy]
    quiet = QuietRelays(clock, lambda: cast(Any, [one for one in relays if not one.outcome]))
    quiet.start()
    for _ in range(int(QUIET) - 1):
        busy.bytes_ba += 1
        clock.advance(1.0)
        assert not silent.outcome
    busy.bytes_ba += 1
    clock.advance(1.0)
    assert "nothing passes" in silent.outcome
    assert not busy.outcome
    for _ in range(int(QUIET)):
        clock.advance(1.0)
    assert busy.outcome
    assert not clock.getDelayedCalls()
