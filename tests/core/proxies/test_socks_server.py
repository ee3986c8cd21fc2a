"""The SOCKS server's handshake, told as dialogues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import damaged, pieces
from tunnelkit.core.proxies.socks_server import (
    Check,
    Ended,
    Event,
    SocksRequest,
    SocksServer,
    check_against,
)
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.wire.socks import Command

CHECK = check_against({"me": "pass word", "you": "geheim\xe4"})
TO_NAME = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"
LOGIN = b"\x01\x02me\x09pass word"
SOCKS4 = b"\x04\x01\x00\x50\xc0\x00\x02\x07joe\x00"
SOCKS4A = b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.com\x00"


def server(check: Check | None = None) -> SocksServer:
    return SocksServer(100.0, check)


def asked(data: bytes, check: Check | None = None) -> SocksServer:
    """A server that has just reported the request in ``data``, its earlier answers sent."""
    one = server(check)
    events = one.receive(data, 100.0)
    assert isinstance(events[-1], SocksRequest)
    one.data_to_send()
    return one


def test_socks_5_without_login() -> None:
    one = server()
    assert one.receive(b"\x05\x02\x00\x02", 100.0) == ()
    assert one.data_to_send() == b"\x05\x00"
    assert one.receive(TO_NAME, 100.1) == (SocksRequest(Command.CONNECT, "example.com", 443),)
    assert one.data_to_send() == b""
    one.granted("192.0.2.9", 4711)
    assert one.data_to_send() == b"\x05\x00\x00\x01\xc0\x00\x02\x09\x12\x67"


def test_socks_5_with_user_and_password() -> None:
    one = server(CHECK)
    assert one.receive(b"\x05\x02\x00\x02", 100.0) == ()
    assert one.data_to_send() == b"\x05\x02"
    assert one.receive(LOGIN, 100.1) == ()
    assert one.data_to_send() == b"\x01\x00"
    assert one.receive(TO_NAME, 100.2) == (SocksRequest(Command.CONNECT, "example.com", 443, "me"),)


def test_passwords_may_have_any_characters() -> None:
    one = server(CHECK)
    one.receive(b"\x05\x01\x02\x01\x03you\x08geheim\xc3\xa4", 100.0)
    assert one.data_to_send() == b"\x05\x02\x01\x00"
    (request,) = one.receive(TO_NAME, 100.0)
    assert isinstance(request, SocksRequest)
    assert request.user == "you"


@pytest.mark.parametrize(
    "login",
    [
        b"\x01\x02me\x05wrong",
        b"\x01\x02me\x00",
        b"\x01\x00\x00",
        b"\x01\x06nobody\x09pass word",
        b"\x01\x02me\x08geheim\xc3\xa4",
        b"\x01\x02\xff\xfe\x02\xff\xfe",
    ],
)
def test_a_wrong_login_is_refused(login: bytes) -> None:
    one = server(CHECK)
    events = one.receive(b"\x05\x01\x02" + login + TO_NAME, 100.0)
    assert events == (Ended(Code.NOT_ALLOWED, "wrong user name or password"),)
    assert one.data_to_send() == b"\x05\x02\x01\x01"
    assert one.next_deadline() is None


def test_a_client_that_does_not_log_in_is_refused() -> None:
    one = server(CHECK)
    events = one.receive(b"\x05\x01\x00", 100.0)
    assert events == (Ended(Code.NOT_ALLOWED, "the client does not log in"),)
    assert one.data_to_send() == b"\x05\xff"


@pytest.mark.parametrize("methods", [b"\x01\x02", b"\x00", b"\x02\x01\x80"])
def test_a_client_that_offers_no_way_we_have_is_refused(methods: bytes) -> None:
    one = server()
    events = one.receive(b"\x05" + methods, 100.0)
    assert isinstance(events[0], Ended)
    assert events[0].code is Code.NOT_ALLOWED
    assert one.data_to_send() == b"\x05\xff"


def test_socks_4() -> None:
    one = server()
    events = one.receive(SOCKS4, 100.0)
    assert events == (SocksRequest(Command.CONNECT, "192.0.2.7", 80, "joe"),)
    one.granted("192.0.2.9", 4711)
    assert one.data_to_send() == b"\x00\x5a\x12\x67\xc0\x00\x02\x09"


def test_socks_4a() -> None:
    one = server()
    assert one.receive(SOCKS4A, 100.0) == (SocksRequest(Command.CONNECT, "example.com", 80),)
    one.granted("2001:db8::1", 4711)
    assert one.data_to_send() == b"\x00\x5a\x12\x67\x00\x00\x00\x00"


def test_socks_4_is_refused_where_a_login_is_needed() -> None:
    one = server(CHECK)
    events = one.receive(SOCKS4, 100.0)
    assert events == (Ended(Code.NOT_ALLOWED, "SOCKS 4 cannot log in"),)
    assert one.data_to_send() == b"\x00\x5b\x00\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        (Code.REFUSED, 5),
        (Code.UNREACHABLE, 4),
        (Code.TIMED_OUT, 6),
        (Code.NOT_ALLOWED, 2),
        (Code.NO_SUCH_HOST, 4),
        (Code.LIMIT, 1),
        (Code.INTERNAL, 1),
        (Code.SHUTDOWN, 1),
    ],
)
def test_refusals_say_why(code: Code, reply: int) -> None:
    one = asked(b"\x05\x01\x00" + TO_NAME)
    one.refused(code)
    assert one.data_to_send() == bytes((5, reply, 0, 1, 0, 0, 0, 0, 0, 0))
    four = asked(SOCKS4)
    four.refused(code)
    assert four.data_to_send() == b"\x00\x5b\x00\x00\x00\x00\x00\x00"


def test_a_request_that_the_front_end_does_not_do_is_answered_so() -> None:
    one = asked(b"\x05\x01\x00\x05\x02\x00\x01\xc0\x00\x02\x07\x00\x50")
    one.unsupported()
    assert one.data_to_send() == b"\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"


def test_bind_is_answered_twice() -> None:
    one = server()
    events = one.receive(b"\x05\x01\x00\x05\x02\x00\x01\xc0\x00\x02\x07\x00\x50", 100.0)
    assert events == (SocksRequest(Command.BIND, "192.0.2.7", 80),)
    one.data_to_send()
    one.granted("192.0.2.9", 4711)
    assert one.data_to_send() == b"\x05\x00\x00\x01\xc0\x00\x02\x09\x12\x67"
    one.granted("192.0.2.7", 99)
    assert one.data_to_send() == b"\x05\x00\x00\x01\xc0\x00\x02\x07\x00\x63"
    with pytest.raises(LocalProtocolError):
        one.granted()


def test_bind_can_fail_while_listening() -> None:
    one = asked(b"\x04\x02\x00\x50\xc0\x00\x02\x07\x00")
    one.granted("192.0.2.9", 4711)
    one.data_to_send()
    one.refused(Code.TIMED_OUT)
    assert one.data_to_send() == b"\x00\x5b\x00\x00\x00\x00\x00\x00"


def test_udp_associate_is_answered_with_where_to_send() -> None:
    one = server()
    events = one.receive(b"\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 100.0)
    assert events == (SocksRequest(Command.UDP_ASSOCIATE, "0.0.0.0", 0),)
    one.data_to_send()
    one.granted("::1", 5353)
    assert one.data_to_send() == b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x14\xe9"


def test_a_bound_address_with_a_zone_or_unknown_is_still_answered() -> None:
    one = asked(b"\x05\x01\x00" + TO_NAME)
    one.granted("fe80::1%eth0", 1)
    assert one.data_to_send()[:4] == b"\x05\x00\x00\x04"
    other = asked(b"\x05\x01\x00" + TO_NAME)
    other.granted("", 0)
    assert other.data_to_send() == b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


@pytest.mark.parametrize("data", [b"\x05\x01\x00" + TO_NAME, SOCKS4, SOCKS4A])
def test_what_comes_behind_the_request_is_the_applications(data: bytes) -> None:
    one = server()
    events = one.receive(data + b"GET / HTTP/1.1\r\n", 100.0)
    assert len(events) == 1
    assert one.leftover == b"GET / HTTP/1.1\r\n"
    with pytest.raises(LocalProtocolError):
        one.receive(b"more", 100.0)


@pytest.mark.parametrize(
    ("data", "reply", "reason"),
    [
        (b"\x06", b"", "byte 6 is neither SOCKS 4 nor 5"),
        (b"GET / HTTP/1.1\r\n\r\n", b"", "HTTP?"),
        (b"\x05\x01\x00\x04", b"\x05\x00\x05\x01", "begins with 4"),
        (b"\x05\x01\x00\x05\x01\x00\x07", b"\x05\x00\x05\x08", "address type 7"),
        (b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", b"\x05\x00\x05\x01", "name is empty"),
        (b"\x05\x01\x00\x05\x09\x00\x01\x01\x02\x03\x04\x00\x50", b"\x05\x00\x05\x07", "command 9"),
        (b"\x04\x03\x00\x50\xc0\x00\x02\x07\x00", b"\x00\x5b", "command 3"),
        (b"\x04\x01\x00\x50\xc0\x00\x02\x07" + b"u" * 300, b"\x00\x5b", "255 bytes"),
    ],
)
def test_broken_rules_are_answered_where_that_is_possible(
    data: bytes, reply: bytes, reason: str
) -> None:
    one = server()
    (ended,) = one.receive(data, 100.0)
    assert isinstance(ended, Ended)
    assert ended.code is Code.PROTOCOL
    assert reason in ended.reason
    assert one.data_to_send().startswith(reply)


def test_a_bad_login_message_ends_it() -> None:
    one = server(CHECK)
    (ended,) = one.receive(b"\x05\x01\x02\x05", 100.0)
    assert isinstance(ended, Ended)
    assert ended.code is Code.PROTOCOL


@pytest.mark.parametrize("data", [b"", b"\x05\x01", b"\x05\x01\x00", b"\x04\x01\x00\x50"])
def test_a_client_has_ten_seconds_for_its_request(data: bytes) -> None:
    one = server()
    one.receive(data, 105.0)
    assert one.next_deadline() == 110.0
    assert one.deadline_passed(109.9) == ()
    (ended,) = one.deadline_passed(110.0)
    assert isinstance(ended, Ended)
    assert ended.code is Code.TIMED_OUT
    assert "within 10 s" in ended.reason
    assert one.next_deadline() is None
    assert one.deadline_passed(111.0) == ()


def test_a_complete_request_has_no_time_limit() -> None:
    one = asked(SOCKS4)
    assert one.next_deadline() is None


def test_answers_without_a_request_are_mistakes() -> None:
    one = server()
    with pytest.raises(LocalProtocolError):
        one.granted()
    with pytest.raises(LocalProtocolError):
        one.refused(Code.LIMIT)
    with pytest.raises(LocalProtocolError):
        one.unsupported()


def outcome(data: bytes, cuts: list[int], check: Check | None) -> tuple[list[Event], bytes, bytes]:
    """Events, answers and what came behind, for bytes that arrive in pieces."""
    one = server(check)
    parts = pieces(data, cuts)
    events: list[Event] = []
    while parts and not events:
        events += one.receive(parts.pop(0), 100.0)
    return events, one.data_to_send(), one.leftover + b"".join(parts)


DIALOGUES = [
    b"\x05\x02\x00\x02" + TO_NAME + b"early",
    b"\x05\x01\x02" + LOGIN + TO_NAME + b"early",
    b"\x05\x01\x02\x01\x02me\x05wrong",
    b"\x05\x01\x00\x05\x03\x00\x04" + bytes(18),
    SOCKS4 + b"early",
    SOCKS4A + b"early",
]


@given(
    st.sampled_from(DIALOGUES),
    st.lists(st.integers(0, 300), max_size=12),
    st.sampled_from([None, CHECK]),
)
def test_however_the_bytes_are_cut_the_outcome_is_the_same(
    data: bytes, cuts: list[int], check: Check | None
) -> None:
    whole, cut = outcome(data, [], check), outcome(data, cuts, check)
    assert cut[:2] == whole[:2]
    if isinstance(whole[0][0], SocksRequest):
        assert cut[2] == whole[2] == data[len(data) - len(whole[2]) :]


def test_any_input_ends_in_a_request_or_an_end_or_waits() -> None:
    for check in (None, CHECK):
        for case in damaged(DIALOGUES):
            one = server(check)
            events = one.receive(case, 100.0)
            assert len(events) <= 1
            assert len(one.data_to_send()) <= 20
            assert events or len(case) <= 1100
