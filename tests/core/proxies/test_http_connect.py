"""The client's side of HTTP CONNECT, told as dialogues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import damaged, pieces
from tunnelkit.core.proxies.http_connect import HttpConnectClient
from tunnelkit.core.proxies.proxy_client import Established, ProxyEvent, Refused, TimedOut
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
ASKS = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: "


def client(user: bytes | None = None, password: bytes = b"") -> HttpConnectClient:
    return HttpConnectClient("example.com", 443, 100.0, user=user, password=password)


def test_the_request_without_login() -> None:
    assert client().data_to_send() == (
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
    )


def test_the_request_with_login() -> None:
    data = client(user=b"Aladdin", password=b"open sesame").data_to_send()
    # The example of RFC 7617.
    assert b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" in data


def test_ipv6_addresses_stand_in_brackets() -> None:
    data = HttpConnectClient("2001:db8::1", 443, 100.0).data_to_send()
    assert data.startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n")


@pytest.mark.parametrize("host", ["a b", "a\r\nEvil: 1", "\u20ac"])
def test_nothing_can_be_smuggled_into_the_request(host: str) -> None:
    with pytest.raises(LocalProtocolError):
        HttpConnectClient(host, 443, 100.0)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_ports_that_do_not_exist_are_refused_here(port: int) -> None:
    with pytest.raises(LocalProtocolError, match="port"):
        HttpConnectClient("example.com", port, 100.0)


def test_a_user_name_with_a_colon_is_refused_here() -> None:
    with pytest.raises(LocalProtocolError, match="colon"):
        client(user=b"a:b", password=b"")


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.0 200 OK\r\nVia: x\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 299\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + OK,
    ],
)
def test_any_2xx_connects_and_what_follows_is_the_inner_protocols(answer: bytes) -> None:
    one = client()
    assert one.receive(answer + b"SSH-2.0-x\r\n", 100.1) == (Established("", 0),)
    assert one.leftover == b"SSH-2.0-x\r\n"
    assert one.next_deadline() is None
    with pytest.raises(LocalProtocolError):
        one.receive(b"more", 100.2)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("HTTP/1.1 403 Forbidden", Code.NOT_ALLOWED),
        ("HTTP/1.1 404 Not Found", Code.REFUSED),
        ("HTTP/1.1 502 Bad Gateway", Code.UNREACHABLE),
        ("HTTP/1.1 503 Service Unavailable", Code.UNREACHABLE),
        ("HTTP/1.0 504 Gateway Timeout", Code.TIMED_OUT),
        ("HTTP/1.1 301 Moved", Code.REFUSED),
        ("HTTP/1.1 101 Switching Protocols", Code.REFUSED),
        ("HTTP/1.1 999", Code.REFUSED),
    ],
)
def test_other_answers_are_refusals_with_their_status_line(line: str, code: Code) -> None:
    one = client()
    answer = line.encode() + b"\r\nContent-Length: 5\r\n\r\nsorry"
    assert one.receive(answer, 100.1) == (Refused(code, line),)
    assert one.next_deadline() is None


def test_what_the_proxy_said_is_printable_and_short() -> None:
    (refused,) = client().receive(b"HTTP/1.1 403 N\xf6 " + b"x" * 1000 + b"\r\n\r\n", 100.1)
    assert isinstance(refused, Refused)
    assert refused.said.startswith("HTTP/1.1 403 N\\xf6 xxx")
    assert len(refused.said) == 256


@pytest.mark.parametrize(
    ("answer", "login", "said"),
    [
        (ASKS + b'Basic realm="a"', False, "it wants a user name and password"),
        (ASKS + b'Basic realm="a"', True, "it does not accept the user name and password"),
        (
            ASKS + b"Negotiate\r\nProxy-Authenticate: NTLM",
            True,
            "it wants a login by Negotiate, NTLM, and only Basic is supported here",
        ),
        (
            ASKS + b"Negotiate\r\nProxy-Authenticate: BASIC realm=a",
            False,
            "it wants a user name and password",
        ),
        (b"HTTP/1.1 407 No", False, "it wants a user name and password"),
    ],
)
def test_407_is_about_the_login(answer: bytes, login: bool, said: str) -> None:
    one = client(user=b"me", password=b"pw") if login else client()
    (refused,) = one.receive(answer + b"\r\n\r\n", 100.1)
    assert isinstance(refused, Refused)
    assert refused.login
    assert refused.code is Code.NOT_ALLOWED
    assert refused.said.startswith(f"{said} (HTTP/1.1 407 ")


@pytest.mark.parametrize(
    "answer", [b"\x05\xff", b"SSH-2.0-OpenSSH\r\n", b"HTTP/2", b"HTTP/1.1 2xx\r\n\r\n", b"H\n"]
)
def test_answers_that_are_not_http_are_protocol_errors_at_once(answer: bytes) -> None:
    one = client()
    with pytest.raises(RemoteProtocolError):
        one.receive(answer, 100.1)
    assert one.next_deadline() is None


def test_an_answer_of_more_than_16_kib_is_refused() -> None:
    one = client()
    assert one.receive(b"HTTP/1.1 200 OK\r\nX: ", 100.1) == ()
    with pytest.raises(RemoteProtocolError, match="longer than"):
        one.receive(b"x" * 16_384, 100.2)


def test_endless_interim_answers_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="longer than"):
        client().receive(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 100.1)


def test_the_proxy_has_thirty_seconds_in_all() -> None:
    one = client()
    one.receive(b"HTTP/1.1 200 ", 120.0)
    assert one.next_deadline() == 130.0
    assert one.deadline_passed(129.9) == ()
    assert one.deadline_passed(130.0) == (TimedOut(30.0),)
    assert one.deadline_passed(131.0) == ()


ANSWERS = [
    OK + b"behind",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"behind",
    ASKS + b"Basic\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.0 403 Forbidden\r\n\r\n",
]


def outcome(answer: bytes, cuts: list[int]) -> tuple[list[ProxyEvent], bytes]:
    """Events and what came behind, for an answer that arrives in pieces."""
    one = client()
    parts = pieces(answer, cuts)
    events: list[ProxyEvent] = []
    while parts and not events:
        events += one.receive(parts.pop(0), 100.0)
    return events, one.leftover + b"".join(parts)


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200), max_size=12))
def test_however_the_bytes_are_cut_the_outcome_is_the_same(answer: bytes, cuts: list[int]) -> None:
    whole, cut = outcome(answer, []), outcome(answer, cuts)
    assert cut[0] == whole[0]
    if isinstance(whole[0][0], Established):
        assert cut[1] == whole[1] == b"behind"


def test_any_answer_is_an_outcome_or_a_protocol_error_or_incomplete() -> None:
    for case in damaged(ANSWERS):
        try:
            events = client().receive(case, 100.0)
        except RemoteProtocolError:
            continue
        assert len(events) <= 1
