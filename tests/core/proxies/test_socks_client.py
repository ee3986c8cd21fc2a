"""The client's side of SOCKS, told as dialogues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import damaged, pieces
from tunnelkit.core.proxies.proxy_client import Established, ProxyEvent, Refused, TimedOut
from tunnelkit.core.proxies.socks_client import SocksClient
from tunnelkit.core.proxies.socks_server import SocksRequest, SocksServer, check_against
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.socks import Command

ADDRESS = b"\x01\xc0\x00\x02\x09\x12\x67"


def five(user: bytes = b"", password: bytes | None = None, anonymous: bool = True) -> SocksClient:
    return SocksClient(
        5, "example.com", 443, 100.0, user=user, password=password, anonymous=anonymous
    )


def with_login() -> SocksClient:
    return five(user=b"me", password=b"pass word")


def requested() -> SocksClient:
    """A SOCKS 5 client that has sent its request."""
    client = five()
    client.receive(b"\x05\x00", 100.0)
    client.data_to_send()
    return client


def test_socks_5_without_login() -> None:
    client = five()
    assert client.data_to_send() == b"\x05\x01\x00"
    assert client.receive(b"\x05\x00", 100.1) == ()
    assert client.data_to_send() == b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"
    assert client.receive(b"\x05\x00\x00" + ADDRESS, 100.2) == (Established("192.0.2.9", 4711),)
    assert client.data_to_send() == b""
    assert client.leftover == b""


def test_socks_5_with_user_and_password() -> None:
    client = with_login()
    assert client.data_to_send() == b"\x05\x02\x00\x02"
    assert client.receive(b"\x05\x02", 100.1) == ()
    assert client.data_to_send() == b"\x01\x02me\x09pass word"
    assert client.receive(b"\x01\x00", 100.2) == ()
    assert client.data_to_send() == b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"


def test_the_password_is_not_sent_to_a_server_that_does_not_ask() -> None:
    client = with_login()
    client.data_to_send()
    client.receive(b"\x05\x00", 100.1)
    assert client.data_to_send() == b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"


def test_the_anonymous_method_need_not_be_offered() -> None:
    client = five(user=b"me", password=b"pw", anonymous=False)
    assert client.data_to_send() == b"\x05\x01\x02"


def test_socks_4() -> None:
    client = SocksClient(4, "192.0.2.7", 80, 100.0, user=b"joe")
    assert client.data_to_send() == b"\x04\x01\x00\x50\xc0\x00\x02\x07joe\x00"
    assert client.receive(b"\x00\x5a\x12\x67\xc0\x00\x02\x09behind", 100.1) == (
        Established("192.0.2.9", 4711),
    )
    assert client.leftover == b"behind"


def test_socks_4a_leaves_the_name_to_the_server() -> None:
    client = SocksClient("4a", "example.com", 80, 100.0)
    assert client.data_to_send() == b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.com\x00"


def test_what_cannot_be_asked_is_said_before_anything_is_sent() -> None:
    for version, host in ((4, "example.com"), (4, "::1"), (5, "a b"), ("4b", "192.0.2.7")):
        with pytest.raises(LocalProtocolError):
            SocksClient(version, host, 80, 100.0)
    with pytest.raises(LocalProtocolError, match="255"):
        five(user=b"u" * 256, password=b"")


@pytest.mark.parametrize(
    ("reply", "said", "code"),
    [
        (1, "general failure", Code.UNREACHABLE),
        (2, "not allowed by ruleset", Code.NOT_ALLOWED),
        (3, "network unreachable", Code.UNREACHABLE),
        (4, "host unreachable", Code.UNREACHABLE),
        (5, "connection refused", Code.REFUSED),
        (6, "timed out (TTL expired)", Code.TIMED_OUT),
        (7, "command not supported", Code.REFUSED),
        (8, "address type not supported", Code.REFUSED),
        (9, "reply code 9", Code.REFUSED),
        (255, "reply code 255", Code.REFUSED),
    ],
)
def test_every_socks_5_refusal_has_words(reply: int, said: str, code: Code) -> None:
    client = requested()
    events = client.receive(bytes((5, reply, 0)) + ADDRESS, 100.1)
    assert events == (Refused(code, said),)
    assert client.next_deadline() is None


@pytest.mark.parametrize(
    ("reply", "said", "code"),
    [
        (91, "request rejected or failed", Code.REFUSED),
        (92, "it cannot reach identd on this machine", Code.NOT_ALLOWED),
        (93, "identd on this machine reports another user", Code.NOT_ALLOWED),
        (0, "reply code 0", Code.REFUSED),
    ],
)
def test_every_socks_4_refusal_has_words(reply: int, said: str, code: Code) -> None:
    client = SocksClient(4, "192.0.2.7", 80, 100.0)
    assert client.receive(bytes((0, reply)) + bytes(6), 100.1) == (Refused(code, said),)


def test_a_wrong_password_is_told_apart_from_other_refusals() -> None:
    client = with_login()
    (refused,) = client.receive(b"\x05\x02\x01\x01", 100.1)
    assert refused == Refused(
        Code.NOT_ALLOWED, "it does not accept the user name and password", login=True
    )


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (five(), "it wants a user name and password"),
        (with_login(), "it wants another way to log in than user name and password"),
        (
            five(user=b"a", password=b"b", anonymous=False),
            "it does not take a user name and password",
        ),
    ],
)
def test_no_acceptable_method_says_what_is_missing(client: SocksClient, said: str) -> None:
    assert client.receive(b"\x05\xff", 100.1) == (Refused(Code.NOT_ALLOWED, said, login=True),)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 400 Bad SocksRequest\r\n", "begins with 72, not 5"),
        (b"\x05\x01", "method 1, which was not offered"),
        (b"\x05\x02", "method 2, which was not offered"),
        (b"\x05\x00\x04", "begins with 4, not 5"),
        (b"\x05\x00\x05\x00\x00\x09", "address type 9"),
    ],
)
def test_answers_that_are_not_socks_are_protocol_errors(answer: bytes, what: str) -> None:
    client = five()
    with pytest.raises(RemoteProtocolError, match=what) as caught:
        client.receive(answer, 100.1)
    assert caught.value.state.startswith("waiting for")
    assert client.next_deadline() is None


def test_the_server_has_thirty_seconds_in_all() -> None:
    client = five()
    client.receive(b"\x05\x00", 120.0)
    assert client.next_deadline() == 130.0
    assert client.deadline_passed(129.9) == ()
    assert client.deadline_passed(130.0) == (TimedOut(30.0),)
    assert client.deadline_passed(140.0) == ()
    with pytest.raises(LocalProtocolError):
        client.receive(b"\x05", 131.0)


def test_a_server_that_does_not_even_answer_the_greeting_is_told_apart() -> None:
    assert five().deadline_passed(130.0) == (TimedOut(30.0, mute=True),)


ANSWERS = [
    b"\x05\x00\x05\x00\x00" + ADDRESS + b"behind",
    b"\x05\x02\x01\x00\x05\x00\x00" + ADDRESS + b"behind",
    b"\x05\x02\x01\x01",
    b"\x05\x00\x05\x00\x00\x03\x04host\x00\x01behind",
    b"\x05\x00\x05\x05\x00" + ADDRESS,
]


@pytest.mark.parametrize("answer", [ANSWERS[0][:-6], ANSWERS[1][:-6], ANSWERS[3][:-6]])
def test_a_handshake_that_is_cut_short_anywhere_has_no_outcome(answer: bytes) -> None:
    for size in range(len(answer)):
        client = with_login()
        assert client.receive(answer[:size], 100.1) == ()
        assert client.next_deadline() == 130.0


def outcome(answer: bytes, cuts: list[int]) -> tuple[list[ProxyEvent], bytes, bytes]:
    """Events, what was sent, and what came behind, for an answer that arrives in pieces."""
    client = with_login()
    parts = pieces(answer, cuts)
    events: list[ProxyEvent] = []
    while parts and not events:
        events += client.receive(parts.pop(0), 100.0)
    return events, client.data_to_send(), client.leftover + b"".join(parts)


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 100), max_size=12))
def test_however_the_bytes_are_cut_the_outcome_is_the_same(answer: bytes, cuts: list[int]) -> None:
    whole, cut = outcome(answer, []), outcome(answer, cuts)
    assert cut[:2] == whole[:2]
    if isinstance(whole[0][0], Established):
        assert cut[2] == whole[2] == b"behind"


def test_any_answer_is_an_outcome_or_a_protocol_error_or_incomplete() -> None:
    for case in damaged(ANSWERS):
        client = with_login()
        try:
            events = client.receive(case, 100.0)
        except RemoteProtocolError:
            continue
        assert len(events) <= 1
        assert events or len(case) <= 300


@pytest.mark.parametrize("version", [4, "4a", 5])
@pytest.mark.parametrize("login", [False, True])
def test_our_client_and_our_server_understand_each_other(version: int | str, login: bool) -> None:
    check = check_against({"me": "pw"}) if login else None
    server = SocksServer(100.0, check)
    client = SocksClient(version, "192.0.2.7", 80, 100.0, user=b"me", password=b"pw")
    outcome: list[object] = []
    for _ in range(4):
        data = client.data_to_send()
        if data and not outcome:
            outcome += server.receive(data, 100.0)
            client.receive(server.data_to_send(), 100.0)
    if login and version != 5:
        assert not isinstance(outcome[0], SocksRequest)
        return
    user = "me" if login or version != 5 else ""
    assert outcome == [SocksRequest(Command.CONNECT, "192.0.2.7", 80, user)]
    server.granted("192.0.2.9", 99)
    assert client.receive(server.data_to_send() + b"hello", 100.0) == (
        Established("192.0.2.9", 99),
    )
    assert client.leftover == b"hello"
