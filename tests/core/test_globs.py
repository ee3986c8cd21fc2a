"""What a pattern with stars stands for, and that finding out takes one pass (rule X24)."""

from __future__ import annotations

import re
from typing import SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.core.globs import Glob
from tunnelkit.policy.rules import MAX_TEXT, parse_rule


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "a.b\nc", True),
        ("a", "a", True),
        ("a", "A", False),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*.example", "a.b.example", True),
        ("*.example", "example", False),
        ("*.example", "a.example.org", False),
        ("a**b", "ab", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*bc*c", "abc", False),
        ("*ab*ab*", "abab", True),
        ("*ab*ab*", "aba", False),
    ],
)
def test_a_star_stands_for_any_run_of_characters(pattern: str, text: str, expected: bool) -> None:
    assert Glob(pattern).match(text) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_a_pattern_means_what_the_regular_expression_means(pattern: str, text: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert Glob(pattern).match(text) is (re.fullmatch(expression, text) is not None)


def test_equal_patterns_are_equal() -> None:
    assert Glob("a*b") == Glob("a*b")
    assert Glob("a*b") != Glob("ab")
    assert parse_rule("ops-*=tcp:*.x:1") == parse_rule("ops-*=tcp:*.x:1")


class Watched(str):
    """A text that counts how many of its characters are looked for a piece in."""

    steps = 0

    def find(
        self, sub: str, start: SupportsIndex | None = 0, end: SupportsIndex | None = None
    ) -> int:
        found = super().find(sub, start, end)
        first, last = int(start or 0), len(self) if end is None else int(end)
        self.steps += (last if found < 0 else found + len(sub)) - first
        return found


@pytest.mark.parametrize("stars", [6, 60, 600])
@pytest.mark.parametrize("length", [100, 1_000, 10_000])
def test_no_pattern_goes_over_a_text_twice(stars: int, length: int) -> None:
    """Six stars over such a name took minutes by going back."""
    text = Watched("a" * length)
    assert not Glob("*a" * stars + "*b").match(text + "b!")
    assert not Glob("a*" * stars + "b*a").match(text)
    assert text.steps <= length


def test_the_worst_rule_that_can_be_written_is_asked_about_the_longest_name_at_once() -> None:
    rule = parse_rule(f"tcp:{'*a' * 30}.{'*a' * 30}.b:80")
    assert len(rule.text) < MAX_TEXT
    assert not rule.is_for_name("a." * 126 + "a")
