"""The names that a peer has asked for, in the access log."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.names import dns as names

from tests.frontends.resolver import address, coded, question
from tunnelkit.egress import dns_names
from tunnelkit.egress.dns_names import NAMES, WINDOW, AskedNames


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is logged: peer, name, count, outcome, seconds."""
    seen: list[Any] = []
    monkeypatch.setattr(dns_names, "log_questions", lambda *words: seen.append(words))
    return seen


def test_each_name_has_one_line_a_minute(told: list[Any]) -> None:
    clock = Clock()
    asked = AskedNames(clock, "a")
    for _ in range(3):
        query = question("www.example")
        asked.note(query, address(query))
    query = question("no.example", names.AAAA)
    asked.note(query, coded(query, names.ENAME))
    query = question("odd.example", 4711)
    asked.note(query, coded(query, 9))
    assert told == []
    clock.advance(WINDOW)
    assert told == [
        ("a", "www.example/A", 3, "noerror", WINDOW),
        ("a", "no.example/AAAA", 1, "nxdomain", WINDOW),
        ("a", "odd.example/TYPE4711", 1, "code-9", WINDOW),
    ]
    assert not clock.getDelayedCalls()


def test_a_peer_cannot_fill_the_log_with_names(told: list[Any]) -> None:
    clock = Clock()
    asked = AskedNames(clock, "a")
    for number in range(3_000):
        query = question(f"n{number}.example")
        asked.note(query, coded(query, 0))
    clock.advance(5)
    asked.tell()
    assert len(told) == NAMES + 1
    assert told[-1] == ("a", "(other names)", 3_000 - NAMES, "noerror", 5)
    assert not clock.getDelayedCalls()
    asked.tell()
    assert len(told) == NAMES + 1


def test_what_is_no_question_has_a_line_too(told: list[Any]) -> None:
    asked = AskedNames(Clock(), "a")
    asked.note(b"\0\1\1\0" + bytes(8), b"\0\1\x81\x80" + bytes(8))
    asked.tell()
    assert told[0][1] == "(no name)"
