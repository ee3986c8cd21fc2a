"""Lines that somebody types, with the options and keys of telnet among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import damaged, pieces
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.telnet import MAX_LINE, MAX_SUBNEGOTIATION, TelnetLines

OFFER = b"\xff\xfd\x03\xff\xfb\x18\xff\xfa\x18\x00xterm\xff\xf0"
"""DO suppress-go-ahead, WILL terminal-type, and a subnegotiation."""


def lines_of(*data: bytes) -> tuple[list[bytes], TelnetLines]:
    lines = TelnetLines()
    found = []
    for piece in data:
        lines.receive(piece)
        while (line := lines.next_line()) is not None:
            found.append(line)
    return found, lines


def test_lines_end_as_telnet_nc_and_terminals_end_them() -> None:
    assert lines_of(b"a\r\nb\r\0c\nd\re\n")[0] == [b"a", b"b", b"c", b"d", b"e"]


def test_a_carriage_return_waits_for_its_companion() -> None:
    found, lines = lines_of(b"a\r")
    assert found == []
    lines.receive(b"\nSSH")
    assert lines.next_line() == b"a"
    assert lines.rest == b"SSH"


def test_what_stands_behind_a_line_is_left_as_it_is() -> None:
    lines = TelnetLines()
    lines.receive(b"host 22\r\n\xff\xfd\x03\x7fbytes\r\n")
    assert lines.next_line() == b"host 22"
    assert lines.rest == b"\xff\xfd\x03\x7fbytes\r\n"


def test_every_option_is_declined_once() -> None:
    found, lines = lines_of(OFFER + b"\xff\xfe\x01\xff\xfc\x01host\r\n")
    assert found == [b"host"]
    assert lines.replies() == b"\xff\xfc\x03\xff\xfe\x18"
    assert lines.replies() == b""


def test_keys_that_erase() -> None:
    assert lines_of(b"hoxx\x7f\x08st\n")[0] == [b"host"]
    assert lines_of(b"\x7frubbish\x15host\n")[0] == [b"host"]
    assert lines_of(b"hosst\xff\xf7\xff\xf7t\n")[0] == [b"host"]
    assert lines_of(b"rubbish\xff\xf8host\n")[0] == [b"host"]


def test_other_control_characters_and_commands_do_nothing() -> None:
    assert lines_of(b"\x00h\x1bo\x07\xff\xf6st\n")[0] == [b"host"]


@pytest.mark.parametrize("key", [b"\x03", b"\x04", b"\xff\xf4"])
def test_keys_that_interrupt(key: bytes) -> None:
    found, lines = lines_of(b"one\ntwo" + key + b"three\n")
    assert found == [b"one"]
    assert lines.interrupted


@pytest.mark.parametrize("data", [b"x" * (MAX_LINE + 1), b"\xff\xfa" + b"x" * MAX_SUBNEGOTIATION])
def test_what_does_not_end_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        lines_of(data)


@given(st.lists(st.integers(0, 1000)))
def test_lines_are_the_same_however_they_arrive(cuts: list[int]) -> None:
    data = OFFER + b"ho\xff\xffst\x7f\r\nnext\r\0"
    found, lines = lines_of(*pieces(data, cuts))
    assert found == [b"ho\xffs", b"next"]
    assert lines.replies() == b"\xff\xfc\x03\xff\xfe\x18"


def test_any_bytes_are_lines_or_a_protocol_error() -> None:
    for data in damaged([OFFER + b"host 22\r\nhelp\n"]):
        try:
            found, lines = lines_of(data)
        except RemoteProtocolError:
            continue
        assert sum(map(len, found)) + len(lines.rest) <= len(data)
