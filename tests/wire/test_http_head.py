"""HTTP heads: requests read strictly, responses leniently, both written safely."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import damaged
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.http_head import (
    MAX_FIELDS,
    MAX_HEAD,
    RequestHead,
    ResponseHead,
    empty_lines_size,
    encode_request_head,
    encode_response_head,
    head_size,
    parse_request_head,
    parse_response_head,
    response_head_size,
)

REQUEST = b"GET http://example.com/a?b HTTP/1.1\r\nHost: example.com\r\nX:  two words \t\r\n\r\n"
RESPONSE = b"HTTP/1.0 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n"


def test_a_request_is_read() -> None:
    head = parse_request_head(REQUEST)
    assert (head.method, head.target, head.version) == ("GET", "http://example.com/a?b", "1.1")
    assert head.fields == (("Host", "example.com"), ("X", "two words"))


def test_a_response_is_read() -> None:
    head = parse_response_head(RESPONSE)
    assert (head.status, head.version) == (407, "1.0")
    assert head.reason == "Proxy Authentication Required"
    assert list(head.values("Proxy-Authenticate")) == ["Basic"]
    assert list(head.values("Host")) == []


@pytest.mark.parametrize("line", [b"HTTP/1.1 200", b"HTTP/1.1 200 "])
def test_a_reason_may_be_missing(line: bytes) -> None:
    assert parse_response_head(line + b"\r\n\r\n") == ResponseHead(200)


def test_bytes_beyond_ascii_are_iso_8859_1() -> None:
    head = parse_response_head(b"HTTP/1.1 403 Verf\xfcgung\r\nX: \xe4\r\n\r\n")
    assert head.reason == "Verf\xfcgung"
    assert head.fields == (("X", "\xe4"),)
    assert parse_response_head(encode_response_head(head)) == head


def test_the_size_of_a_head_is_known_once_its_empty_line_is_there() -> None:
    for size in range(len(REQUEST)):
        assert head_size(REQUEST[:size]) is None
    assert head_size(REQUEST) == len(REQUEST)
    assert head_size(REQUEST + b"body\n") == len(REQUEST)


def test_the_end_of_a_head_is_found_whatever_was_looked_through_before() -> None:
    for size in range(len(REQUEST)):
        assert head_size(REQUEST, size) == response_head_size(REQUEST, size) == len(REQUEST)
        if size and REQUEST[size : size + 1] == b"\n":
            with pytest.raises(RemoteProtocolError, match="without CR"):
                head_size(REQUEST[: size - 1] + b" \n", size - 1)


def test_a_head_of_more_than_64_kib_is_refused() -> None:
    assert MAX_HEAD == 65_536
    for size_of in (head_size, response_head_size):
        assert size_of(b"a" * (MAX_HEAD - 1)) is None
        with pytest.raises(RemoteProtocolError, match="longer than 65536"):
            size_of(b"a" * MAX_HEAD)
    largest = REQUEST[:-2] + b"Y: " + b"y" * (MAX_HEAD - len(REQUEST) - 5) + b"\r\n\r\n"
    assert head_size(largest) == len(largest) == MAX_HEAD


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nA: b\n"])
def test_lines_that_end_without_cr_are_refused_at_once(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="without CR"):
        head_size(data)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET /a\tb HTTP/1.1\r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nNoColon\r\n\r\n",
        b"GET / HTTP/1.1\r\nSpace : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ],
)
def test_requests_that_two_programs_could_read_differently_are_refused(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_request_head(head)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\x1b[2JK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
    ],
)
def test_responses_that_are_not_http_1_are_refused(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_response_head(head)


def test_bytes_beyond_ascii_in_a_target_are_passed_on() -> None:
    data = b"GET /gr\xc3\xbc\xdf HTTP/1.1\r\n\r\n"
    assert encode_request_head(parse_request_head(data)) == data


def test_512_fields_are_read() -> None:
    fields = b"A: b\r\n" * 512 + b"\r\n"
    assert len(parse_request_head(b"GET / HTTP/1.1\r\n" + fields).fields) == 512
    assert len(parse_response_head(b"HTTP/1.1 200\r\n" + fields).fields) == 512


def test_empty_lines_before_a_request_are_counted() -> None:
    assert empty_lines_size(b"\r\n\r\nGET") == 4
    assert empty_lines_size(b"\r\n\nGET") == 2
    assert empty_lines_size(b"GET\r\n") == 0


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\nA: b\nC: d e\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d e\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\r\nC: d e\r\n\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\nC\t :d e\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA:\r\n b\r\nC: d\r\n \te\r\n\r\n",
    ],
)
def test_responses_may_be_written_carelessly(data: bytes) -> None:
    assert response_head_size(data + b"body\n\n") == len(data)
    head = parse_response_head(data)
    assert head.fields == (("A", "b"), ("C", "d e"))
    assert encode_response_head(head) == b"HTTP/1.1 200 OK\r\nA: b\r\nC: d e\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNoColon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n \x00\r\n\r\n",
    ],
)
def test_fields_of_responses_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_response_head(data)


def test_half_a_head_is_the_callers_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        parse_request_head(b"GET / HTTP/1.1\r\n")
    with pytest.raises(LocalProtocolError):
        parse_response_head(b"HTTP/1.1 200 OK\r\n")


def test_heads_are_written_byte_for_byte() -> None:
    request = RequestHead("CONNECT", "a:1", fields=(("Host", "a:1"), ("Empty", "")))
    assert encode_request_head(request) == b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nEmpty:\r\n\r\n"
    response = ResponseHead(502, "Bad Gateway", version="1.0")
    assert encode_response_head(response) == b"HTTP/1.0 502 Bad Gateway\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        RequestHead("GET", "/ HTTP/1.1\r\nEvil: 1"),
        RequestHead("GET", ""),
        RequestHead("GET", "/\u20ac"),
        RequestHead("G T", "/"),
        RequestHead("GET", "/", fields=(("A", "secret\r\nEvil: 1"),)),
        RequestHead("GET", "/", fields=(("A", "secret\u20ac"),)),
        RequestHead("GET", "/", fields=(("A:", "b"),)),
        RequestHead("GET", "/", fields=(("", "b"),)),
    ],
)
def test_nothing_can_be_smuggled_into_a_head_that_we_write(head: RequestHead) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_request_head(head)
    assert "secret" not in str(caught.value)


def test_a_reason_with_a_line_end_is_not_written() -> None:
    with pytest.raises(LocalProtocolError):
        encode_response_head(ResponseHead(200, "OK\r\nEvil: 1"))


def test_fields_are_not_in_the_repr() -> None:
    head = RequestHead("GET", "/", fields=(("Proxy-Authorization", "Basic hunter2"),))
    assert "hunter2" not in repr(head)


names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
values = st.from_regex(r"([!-~]([ -~]{0,20}[!-~])?)?", fullmatch=True)


@given(
    st.sampled_from(["GET", "CONNECT"]),
    st.from_regex(r"[!-~]{1,40}", fullmatch=True),
    st.lists(st.tuples(names, values), max_size=8),
)
def test_what_is_written_reads_the_same(
    method: str, target: str, fields: list[tuple[str, str]]
) -> None:
    head = RequestHead(method, target, fields=tuple(fields))
    data = encode_request_head(head)
    assert head_size(data) == len(data)
    assert parse_request_head(data) == head


def test_any_input_gives_a_head_or_a_protocol_error() -> None:
    kinds: list[tuple[Any, Any]] = [
        (head_size, parse_request_head),
        (response_head_size, parse_response_head),
    ]
    for case in damaged([REQUEST, RESPONSE]):
        for size_of, parse in kinds:
            try:
                size = size_of(case)
                head = None if size is None else parse(case[:size])
            except RemoteProtocolError:
                continue
            assert head is None or len(head.fields) <= MAX_FIELDS
