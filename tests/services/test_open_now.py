"""What is open, as a page asks for it: filtered, sorted, at most so much."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.net.traffic import BROWSER, Traffic
from tunnelkit.services.open_now import MOST_ROWS, Question, answered, whom

ROW = Traffic("1", "channel", "laptop", "tcp:web:80", "192.0.2.1:5000", 3.0, 10, 20, "open")


def ask(rows: list[Traffic], **given: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(answered(rows, Question.of(given))))
    return found


def test_rows_are_filtered_by_any_of_their_texts() -> None:
    rows = [ROW, attrs.evolve(ROW, id="2", who="Desk"), attrs.evolve(ROW, id="3", what="udp:*")]
    for text, expected in (("", "123"), ("desk", "2"), ("UDP", "3"), ("192.0.2.1", "123")):
        answer = ask(rows, filter=text, sort="id")
        assert "".join(row["id"] for row in answer["rows"]) == expected
        assert (answer["total"], answer["matching"]) == (3, len(expected))


def test_rows_are_sorted_and_at_most_a_thousand_are_shown() -> None:
    rows = [attrs.evolve(ROW, id=str(number), sent=number) for number in range(MOST_ROWS + 1)]
    answer = ask(rows, sort="-sent")
    assert [answer["total"], answer["matching"], len(answer["rows"])] == [1001, 1001, MOST_ROWS]
    assert [answer["rows"][0]["sent"], answer["rows"][-1]["sent"]] == [MOST_ROWS, 1]
    assert ask(rows, sort="sent")["rows"][0]["sent"] == 0
    assert ask([attrs.evolve(ROW, seconds=None), ROW])["rows"][0]["seconds"] == 3.0
    assert ask([]) == {"total": 0, "matching": 0, "rows": []}


@pytest.mark.parametrize("given", [{"sort": "colour"}, {"sort": "-"}, {"surprise": "1"}])
def test_a_question_that_makes_no_sense_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Question.of(given)


def test_where_names_prove_nothing_addresses_are_thrown_out() -> None:
    assert whom(ROW) == ["laptop"]
    assert whom(attrs.evolve(ROW, kind="session", who=BROWSER)) == []
    both = "192.0.2.1:5000 and [2001:db8::1]:6000"
    assert whom(attrs.evolve(ROW, kind="pair", origin=both)) == ["192.0.2.1", "2001:db8::1"]
    assert whom(attrs.evolve(ROW, kind="pair", origin="this process and 192.0.2.1:1")) == [
        "192.0.2.1"
    ]


@pytest.mark.parametrize("sort", ["-seconds", "seconds", "who", "-sent"])
def test_the_first_thousand_of_many_are_the_same_as_if_all_were_sorted(sort: str) -> None:
    rows = [
        attrs.evolve(ROW, id=str(number), who=f"p{number % 7}", seconds=number * 37 % 101 / 2)
        for number in range(5 * MOST_ROWS + 17)
    ]
    by = sort.removeprefix("-")
    expected = sorted(rows, key=lambda row: getattr(row, by), reverse=sort.startswith("-"))
    answer = ask(rows, sort=sort)
    assert [row["id"] for row in answer["rows"]] == [row.id for row in expected[:MOST_ROWS]]
    assert [answer["total"], answer["matching"]] == [len(rows), len(rows)]


def test_an_answer_is_made_a_few_rows_at_a_time() -> None:
    made = 0

    def rows() -> Iterator[Traffic]:
        nonlocal made
        while made < 3 * MOST_ROWS:
            made += 1
            yield ROW

    pieces, before = 0, 0
    for piece in answered(rows(), Question.of({})):
        assert made - before <= 100
        assert piece.count(b'"id"') <= 100
        pieces, before = pieces + 1, made
    assert made == 3 * MOST_ROWS
    assert pieces >= 40
