"""Who is let into a display, and which extensions are hidden on the way."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import CASES, damaged, pieces
from tunnelkit.core.x11_gate import (
    HIDDEN,
    Admitted,
    CookieGate,
    HiddenExtensions,
    Refused,
    with_cookie,
)
from tunnelkit.wire.x11 import MIT_MAGIC_COOKIE, Setup, SetupReader, encode_setup

COOKIE = b"0123456789abcdef"


def setup(big_endian: bool, name: bytes = MIT_MAGIC_COOKIE, data: bytes = COOKIE) -> bytes:
    return encode_setup(Setup(big_endian, auth_name=name, auth_data=data))


def reason_of(reply: bytes, big_endian: bool) -> str:
    """What an X client prints."""
    failed, size, major, _, words = struct.unpack_from(">BBHHH" if big_endian else "<BBHHH", reply)
    assert (failed, major, len(reply)) == (0, 11, 8 + 4 * words)
    return reply[8 : 8 + size].decode("ascii")


@pytest.mark.parametrize("big_endian", [True, False])
def test_the_right_cookie_is_admitted_and_does_not_go_on(big_endian: bool) -> None:
    answer = CookieGate(COOKIE).receive(setup(big_endian) + b"behind")
    assert answer == Admitted(encode_setup(Setup(big_endian)), b"behind", big_endian)
    assert isinstance(answer, Admitted)
    assert COOKIE not in answer.setup
    assert MIT_MAGIC_COOKIE not in answer.setup


def test_a_packet_that_comes_byte_by_byte_is_admitted_with_its_last() -> None:
    gate = CookieGate(COOKIE)
    data = setup(True)
    for place in range(len(data) - 1):
        assert gate.receive(data[place : place + 1]) is None
    assert isinstance(gate.receive(data[-1:]), Admitted)


@pytest.mark.parametrize("big_endian", [True, False])
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (b"", b"", "has no cookie"),
        (b"", COOKIE, "has no cookie"),
        (MIT_MAGIC_COOKIE, b"", "a wrong cookie"),
        (MIT_MAGIC_COOKIE, b"0123456789abcdeF", "a wrong cookie"),
        (MIT_MAGIC_COOKIE, COOKIE[:-1], "a wrong cookie"),
        (MIT_MAGIC_COOKIE, COOKIE + b"0", "a wrong cookie"),
        (b"mit-magic-cookie-1", COOKIE, "expected MIT-MAGIC-COOKIE-1"),
        (b"XDM-AUTHORIZATION-1", COOKIE, "expected MIT-MAGIC-COOKIE-1"),
    ],
)
def test_whoever_has_not_the_cookie_is_told_so(
    big_endian: bool, name: bytes, data: bytes, reason: str
) -> None:
    answer = CookieGate(COOKIE).receive(setup(big_endian, name, data))
    assert isinstance(answer, Refused)
    said = reason_of(answer.reply, big_endian)
    assert said.startswith("tunnelkit: ")
    assert reason in said
    assert COOKIE.decode() not in said + answer.reason


def test_a_packet_that_is_too_long_is_refused_in_words() -> None:
    answer = CookieGate(COOKIE).receive(b"l\0\x0b\0\0\0\xff\xff\xff\xff\0\0")
    assert isinstance(answer, Refused)
    assert "longer than 65536" in reason_of(answer.reply, False)


def test_what_is_no_x_client_gets_no_answer() -> None:
    answer = CookieGate(COOKIE).receive(b"GET / HTTP/1.1\r\n")
    assert isinstance(answer, Refused)
    assert answer.reply == b""


def test_a_client_that_has_said_nothing_gets_no_answer_and_a_slow_one_does() -> None:
    gate = CookieGate(COOKIE)
    assert gate.refuse("too late").reply == b""
    gate.receive(b"B")
    assert reason_of(gate.refuse("too late").reply, True) == "tunnelkit: too late"


@pytest.mark.parametrize("cookie", [None, b"real cookie"])
def test_the_far_side_puts_its_own_cookie_in(cookie: bytes | None) -> None:
    reader = SetupReader()
    reader.receive(with_cookie(Setup(True, 11, 3, b"what", b"ever"), cookie))
    name = MIT_MAGIC_COOKIE if cookie else b""
    assert reader.setup == Setup(True, 11, 3, name, cookie or b"")


def test_any_first_packet_gives_one_answer_and_only_the_cookie_is_admitted() -> None:
    for case in damaged([setup(True), setup(False), setup(True, data=b"wrong")]):
        answer = CookieGate(COOKIE).receive(case)
        if isinstance(answer, Admitted):
            assert COOKIE in case


# -- extensions -----------------------------------------------------------


def request(big_endian: bool, opcode: int, body: bytes, big: bool = False) -> bytes:
    """One request; ``big`` as with BIG-REQUESTS."""
    order = ">" if big_endian else "<"
    body += bytes(-len(body) % 4)
    if big:
        return struct.pack(f"{order}BBHI", opcode, 0, 0, 2 + len(body) // 4) + body
    return struct.pack(f"{order}BBH", opcode, 0, 1 + len(body) // 4) + body


def query(big_endian: bool, name: bytes, big: bool = False) -> bytes:
    length = struct.pack(">H" if big_endian else "<H", len(name))
    return request(big_endian, 98, length + b"\0\0" + name, big)


def scanned(big_endian: bool, stream: bytes, cuts: list[int]) -> bytes:
    extensions = HiddenExtensions(big_endian)
    parts = []
    for piece in pieces(stream, cuts):
        part = bytearray(piece)
        extensions.scan(memoryview(part))
        parts.append(bytes(part))
    return b"".join(parts)


@pytest.mark.parametrize("big_endian", [True, False])
@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_a_hidden_extension_is_asked_for_by_another_name_however_it_is_cut(
    big_endian: bool, big: bool, name: bytes
) -> None:
    stream = (
        query(big_endian, b"XKEYBOARD") + query(big_endian, name, big) + query(big_endian, b"X")
    )
    expected = stream.replace(name, name[:-1] + b"?")
    assert expected != stream
    for first in range(len(stream)):
        for second in range(first, len(stream)):
            assert scanned(big_endian, stream, [first, second]) == expected
    assert scanned(big_endian, stream, list(range(len(stream)))) == expected


@pytest.mark.parametrize(
    "name", [b"MIT-SHMX", b"MIT-SH", b"XMIT-SHM", b"", b"BIG-REQUESTS", b"A" * 999]
)
def test_other_extensions_are_left_alone(name: bytes) -> None:
    stream = query(True, name) + query(True, b"Y")
    assert scanned(True, stream, [3, 9, 14, 21]) == stream


def test_what_only_looks_like_a_request_is_left_alone() -> None:
    inner = query(False, b"MIT-SHM")
    stream = request(False, 72, inner * 3) + request(False, 18, b"\0" * 20 + inner, big=True)
    assert scanned(False, stream, [5, 17, 30]) == stream


requests = st.one_of(
    st.builds(
        lambda big, opcode, body, long: request(big, opcode, body, long),
        st.just(True),
        st.integers(0, 255).filter(lambda opcode: opcode != 98),
        st.binary(max_size=64),
        st.booleans(),
    ),
    st.sampled_from([query(True, b"MIT-SHM"), query(True, b"DRI3"), query(True, b"SYNC")]),
)


@given(st.lists(requests, max_size=12), st.lists(st.integers(0, 2000), max_size=20))
def test_any_cut_of_any_requests_gives_the_same_bytes(rows: list[bytes], cuts: list[int]) -> None:
    changes = {
        query(True, b"MIT-SHM"): query(True, b"MIT-SH?"),
        query(True, b"DRI3"): query(True, b"DRI?"),
    }
    expected = b"".join(changes.get(row, row) for row in rows)
    assert scanned(True, b"".join(rows), cuts) == expected


def test_any_input_keeps_its_length_and_comes_out_the_same_however_it_is_cut() -> None:
    seeds = [query(True, b"MIT-SHM"), query(True, b"DRI2", big=True), request(True, 1, b"x" * 30)]
    for case in damaged(seeds, cases=CASES):
        whole = scanned(True, case, [])
        assert len(whole) == len(case)
        assert scanned(True, case, [7, 20]) == whole
