"""What a PAC script may answer, and what becomes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import ConfigError
from tunnelkit.net.dial.pac_answer import MOST_WAYS, parse_answer
from tunnelkit.net.dial.via import Hop

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("answer", "ways"),
    [
        ("DIRECT", [None]),
        ("direct ;", [None]),
        ("", [None]),
        (" ; ", [None]),
        ("PROXY proxy.example:3128", [Hop("http", "proxy.example", 3128)]),
        ("PROXY proxy", [Hop("http", "proxy", 80)]),
        ("HTTP proxy:1", [Hop("http", "proxy", 1)]),
        ("HTTPS proxy", [Hop("https", "proxy", 443)]),
        ("SOCKS proxy", [Hop("socks4", "proxy", 1080)]),
        ("SOCKS5 [2001:db8::1]", [Hop("socks5", "2001:db8::1", 1080)]),
        ("SOCKS5 [2001:db8::1]:9", [Hop("socks5", "2001:db8::1", 9)]),
        ("PROXY me:pw@proxy:1", [Hop("http", "proxy", 1, "me", "pw")]),
        ("QUIC q:1; DIRECT", [None]),
        (
            "proxy a:1;SOCKS4 b:2 ;; HTTPS c:3;PROXY a:1; DIRECT",
            [Hop("http", "a", 1), Hop("socks4", "b", 2), Hop("https", "c", 3), None],
        ),
    ],
)
def test_an_answer_is_a_list_of_ways(answer: str, ways: list[Hop | None]) -> None:
    assert list(parse_answer(answer, "it")) == ways


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("QUIC q:1", "QUIC in it is no kind of proxy known here"),
        ("<html>", "its answer is no kind of proxy"),
        ("PROXY", "there is no HOST"),
        (f"PROXY me:{SECRET}@", "there is no HOST"),
        (f"PROXY me:{SECRET}@proxy:99999", "there is no HOST"),
        (f"SOCKS4 me:{SECRET}@proxy", "SOCKS 4 has user names and no passwords"),
        ("PROXY a:1 b:2", "there is no HOST"),
        ("DIRECT x", "DIRECT in it"),
    ],
)
def test_what_cannot_be_followed_is_one_line_without_a_login(answer: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_answer(answer, "the PAC file x")
    text = str(caught.value)
    assert text.startswith("the PAC file x: ")
    assert "expected 'PROXY HOST:PORT'" in text
    assert SECRET not in text
    assert "\n" not in text


HOSTS = st.sampled_from(["a", "proxy.example", "192.0.2.1", "x-1.y.z"])
WAYS = st.one_of(
    st.none(),
    st.builds(
        Hop, st.sampled_from(["http", "https", "socks4", "socks5"]), HOSTS, st.integers(1, 0xFFFF)
    ),
)
WORDS = {"http": "PROXY", "https": "HTTPS", "socks4": "SOCKS4", "socks5": "SOCKS5"}


@given(st.lists(WAYS, min_size=1), st.sampled_from([";", "; ", " ;", ";;"]))
def test_what_is_written_is_read_back(ways: list[Hop | None], between: str) -> None:
    text = between.join(
        "DIRECT" if way is None else f"{WORDS[way.scheme]} {way.host}:{way.port}" for way in ways
    )
    assert list(parse_answer(text, "it")) == list(dict.fromkeys(ways))[:MOST_WAYS]


@given(st.text(max_size=200) | st.text("PROXYDIRECTSOCKS45 ;:@.a1[]", max_size=200))
def test_any_answer_is_ways_or_one_clear_line(answer: str) -> None:
    said = ""
    ways: tuple[Hop | None, ...] = (None,)
    try:
        ways = parse_answer(answer, "it")
    except ConfigError as problem:
        said = str(problem)
    assert said.isprintable()
    assert 1 <= len(ways) <= MOST_WAYS
