"""What is not allowed is in the log, and cannot fill it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from zope.interface import implementer

from tunnelkit.egress.denials import SINGLE, WINDOW, Denials


@pytest.fixture
def lines() -> Iterator[list[str]]:
    seen: list[str] = []

    @implementer(ILogObserver)
    def see(event: Any) -> None:
        seen.append(formatEvent(event))

    globalLogPublisher.addObserver(see)
    yield seen
    globalLogPublisher.removeObserver(see)


def test_many_refusals_of_one_peer_are_summed_up(lines: list[str]) -> None:
    clock = Clock()
    denials = Denials(clock)
    for number in range(3_000):
        denials.tell("a", f"no rule allows a to sendto udp [192.0.2.1]:{number}")
    denials.tell("b", "no rule allows b anything")
    assert len(lines) == SINGLE + 1
    assert lines[0] == "Not allowed: no rule allows a to sendto udp [192.0.2.1]:0"
    clock.advance(WINDOW)
    assert lines[SINGLE + 1 :] == [
        f"Not allowed to a: {3_000 - SINGLE} more in 60 s; the last: "
        "no rule allows a to sendto udp [192.0.2.1]:2999"
    ]
    denials.tell("a", "again")
    assert lines[-1] == "Not allowed: again"
    assert not clock.getDelayedCalls()


def test_a_few_get_a_line_each_and_cost_no_timer(lines: list[str]) -> None:
    clock = Clock()
    denials = Denials(clock)
    for _ in range(3):
        for number in range(SINGLE):
            denials.tell("a", f"{number}")
        clock.advance(WINDOW)
    assert lines == [f"Not allowed: {number}" for number in range(SINGLE)] * 3
    assert not clock.getDelayedCalls()


def test_what_has_not_been_told_is_told_at_the_end(lines: list[str]) -> None:
    clock = Clock()
    denials = Denials(clock)
    for number in range(SINGLE + 2):
        denials.tell("a\n", f"{number}")
    clock.advance(5)
    denials.close()
    assert lines[-1] == f"Not allowed to a\\n: 2 more in 5 s; the last: {SINGLE + 1}"
    assert not clock.getDelayedCalls()
