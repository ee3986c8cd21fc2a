"""Codes: the words they are made of, how they are read, where they lead (row Q2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.core.pairing.code import (
    MOST_NAMEPLATE,
    PairingCode,
    new_code,
    parse_code,
    rendezvous_id,
)
from tunnelkit.core.pairing.words import PREFIX, WORDS
from tunnelkit.errors import ConfigError


def test_there_are_1024_words_of_4_to_7_letters_told_apart_by_three() -> None:
    assert len(WORDS) == 1024
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)
    assert {len(word) for word in WORDS} <= {4, 5, 6, 7}
    assert len({word[:PREFIX] for word in WORDS}) == 1024
    assert list(WORDS) == sorted(WORDS)


def test_a_new_code_is_read_as_it_is_shown() -> None:
    codes = {new_code().text for _ in range(200)}
    assert len(codes) == 200
    for text in codes:
        assert parse_code(text).text == text
    assert new_code(7).nameplate == 7


@given(st.integers(1, MOST_NAMEPLATE), st.lists(st.sampled_from(WORDS), min_size=3, max_size=3))
def test_dashes_blanks_capitals_and_three_letters_do(nameplate: int, words: list[str]) -> None:
    code = PairingCode(nameplate, tuple(words))
    assert parse_code(code.text) == code
    assert parse_code(f"  {code.text.upper()} ") == code
    assert parse_code(" ".join([str(nameplate), *(word[:PREFIX] for word in words)])) == code


@pytest.mark.parametrize(
    "text",
    ["", "7", "7-gravel-tulip", "7-gravel-tulip-otter-otter", "gravel-tulip-otter", "0-a-b-c",
     "12345-gravel-tulip-otter", "-7-gravel-tulip", "\u0667-gravel-tulip-otter"],
)  # fmt: skip
def test_what_is_not_a_whole_code_is_told_so(text: str) -> None:
    with pytest.raises(ConfigError, match="a number and three words, like 7-gravel-tulip-otter"):
        parse_code(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("7-gravel-tulip-ottter", "'otter'"),
        ("7-gr-tulip-otter", "'gr'"),
        ("7-grxvel-tulip-otter", ""),
    ],
)
def test_a_word_that_is_none_is_named_alone(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="is not a word of a code") as raised:
        parse_code(text)
    assert hint in str(raised.value)
    assert "tulip" not in str(raised.value)


def test_words_are_not_shown_and_do_not_lead_anywhere() -> None:
    code = parse_code("7-gravel-tulip-otter")
    assert "gravel" not in repr(code)
    assert rendezvous_id(7) == rendezvous_id(7) != rendezvous_id(8)
    assert len(rendezvous_id(7)) == 43
