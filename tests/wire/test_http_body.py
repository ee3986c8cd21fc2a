"""Bodies of HTTP messages: where they end, and which are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import damaged, pieces
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.http_body import (
    MAX_CHUNK_LINE,
    Body,
    ChunkedBody,
    LengthBody,
    UntilClose,
    chunk,
    last_chunk,
    request_body,
    response_body,
)
from tunnelkit.wire.http_head import MAX_HEAD, Fields, RequestHead, ResponseHead

CHUNKS = b'5\r\nhello\r\n1;name="value"\r\n \r\n005\t\r\nworld\r\n0\r\nTrailer: x\r\n\r\n'
BEHIND = b"GET / HTTP/1.1\r\n"


def request(*fields: tuple[str, str], version: str = "1.1") -> Body:
    return request_body(RequestHead("POST", "/", version=version, fields=fields))


def response(
    *fields: tuple[str, str], status: int = 200, method: str = "GET", version: str = "1.1"
) -> Body:
    return response_body(ResponseHead(status, version=version, fields=fields), method)


def test_a_request_without_length_has_no_body() -> None:
    body = request()
    assert body.done
    assert body.length == 0
    assert body.receive(BEHIND) == (b"", BEHIND)
    assert body.end()


def test_a_body_is_as_long_as_its_length_says() -> None:
    body = request(("content-length", "10"))
    assert isinstance(body, LengthBody)
    assert body.receive(b"hello") == (b"hello", b"")
    assert not body.done
    assert not body.end()
    assert body.receive(b"world" + BEHIND) == (b"world", BEHIND)
    assert body.done
    assert request(("Content-Length", "0")).done


def test_a_response_without_length_lasts_until_its_connection_ends() -> None:
    body = response()
    assert isinstance(body, UntilClose)
    assert body.receive(BEHIND) == (BEHIND, b"")
    assert not body.done
    assert body.end()
    assert body.done


@pytest.mark.parametrize(("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD")])
def test_some_responses_never_have_a_body(status: int, method: str) -> None:
    assert response(("Content-Length", "7"), status=status, method=method).done
    assert response(("Transfer-Encoding", "chunked"), status=status, method=method).done


@pytest.mark.parametrize(
    "fields",
    [
        (("Content-Length", "5"), ("Transfer-Encoding", "chunked")),
        (("Transfer-Encoding", "chunked"), ("content-length", "5")),
        (("Content-Length", "5"), ("Content-Length", "6")),
        (("Content-Length", "5"), ("Content-Length", "5")),
        (("Content-Length", "5, 5"),),
        (("Content-Length", "+5"),),
        (("Content-Length", "-5"),),
        (("Content-Length", "0x5"),),
        (("Content-Length", "5 5"),),
        (("Content-Length", ""),),
        (("Content-Length", "\u0665"),),
        (("Content-Length", "1" * 19),),
        (("Transfer-Encoding", "gzip, chunked"),),
        (("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")),
        (("Transfer-Encoding", "chunked, chunked"),),
        (("Transfer-Encoding", "identity"),),
        (("Transfer-Encoding", "x-chunked"),),
        (("Transfer-Encoding", ""),),
    ],
)
def test_a_length_that_two_programs_could_read_differently_is_refused(fields: Fields) -> None:
    with pytest.raises(RemoteProtocolError):
        request(*fields)


@pytest.mark.parametrize(
    "fields",
    [
        (("Content-Length", "5"), ("Content-Length", "6")),
        (("Content-Length", "5, 6"),),
        (("Content-Length", "5"), ("Content-Length", "6"), ("Transfer-Encoding", "chunked")),
        (("Content-Length", "x"), ("Transfer-Encoding", "chunked")),
        (("Content-Length", "+5"),),
        (("Content-Length", "5 5"),),
        (("Content-Length", "5,"),),
        (("Content-Length", ""),),
        (("Content-Length", "\u0665"),),
        (("Content-Length", "1" * 19),),
        (("Transfer-Encoding", "gzip, chunked"),),
        (("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")),
        (("Transfer-Encoding", "x-chunked"),),
        (("Transfer-Encoding", ""),),
    ],
)
def test_a_response_whose_end_is_in_doubt_is_refused(fields: Fields) -> None:
    for method in ("GET", "HEAD"):
        with pytest.raises(RemoteProtocolError):
            response(*fields, method=method)


def test_a_response_may_say_its_length_twice() -> None:
    assert response(("Content-Length", "5"), ("Content-Length", "5")).length == 5
    assert response(("Content-Length", "5, 5")).length == 5
    assert response(("Content-Length", "5"), ("Transfer-Encoding", "identity")).length == 5


def test_chunks_of_a_response_count_more_than_its_length() -> None:
    body = response(("Content-Length", "3"), ("Transfer-Encoding", "chunked"))
    assert body.receive(CHUNKS) == (b"hello world", b"")
    assert body.done


def test_identity_is_no_encoding_of_a_response() -> None:
    assert isinstance(response(("Transfer-Encoding", "identity")), UntilClose)


def test_sizes_in_a_response_may_have_any_number_of_zeros_before_them() -> None:
    data = b"0" * 40 + b"5\r\nhello\r\n" + b"0" * 40 + b"\r\n\r\n"
    body = response(("Transfer-Encoding", "chunked"))
    assert body.receive(data) == (b"hello", b"")
    assert body.done
    with pytest.raises(RemoteProtocolError):
        request(("Transfer-Encoding", "chunked")).receive(data)


def test_http_1_0_has_no_transfer_encodings() -> None:
    for read in (request, response):
        with pytest.raises(RemoteProtocolError):
            read(("Transfer-Encoding", "chunked"), version="1.0")


def test_chunks_are_put_together_and_what_is_behind_them_is_left() -> None:
    body = request(("Transfer-Encoding", "Chunked"))
    assert isinstance(body, ChunkedBody)
    assert body.receive(CHUNKS + BEHIND) == (b"hello world", BEHIND)
    assert body.done
    assert body.receive(BEHIND) == (b"", BEHIND)


@given(st.lists(st.integers(0, 1000)))
def test_chunks_are_the_same_however_they_arrive(cuts: list[int]) -> None:
    body = ChunkedBody()
    payload, rest = b"", b""
    for piece in pieces(CHUNKS + BEHIND, cuts):
        more, behind = body.receive(piece)
        payload += more
        rest += behind
    assert (payload, rest) == (b"hello world", BEHIND)


@given(st.lists(st.binary(min_size=1)))
def test_what_is_written_in_chunks_is_read_again(payloads: list[bytes]) -> None:
    body = ChunkedBody()
    data = b"".join(map(chunk, payloads)) + last_chunk()
    assert body.receive(data) == (b"".join(payloads), b"")
    assert body.done


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"0x5\r\nhello\r\n",
        b"5\nhello\n",
        b" 5\r\nhello\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n",
        b"5;\x00\r\n",
        b"5;\r\r\n",
        b"1" * 16 + b"\r\n",
        b"5" + b" " * MAX_CHUNK_LINE + b"\r\n",
        b";" * (MAX_CHUNK_LINE + 1),
        b"0\r\nA: b\rc\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\n" + b"A: b\r\n" * (MAX_HEAD // 6 + 1),
    ],
)
def test_malformed_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ChunkedBody().receive(data)


def test_any_bytes_are_chunks_or_a_protocol_error() -> None:
    for data in damaged([CHUNKS + BEHIND]):
        body = ChunkedBody()
        try:
            payload, _ = body.receive(data)
        except RemoteProtocolError:
            continue
        assert len(payload) <= len(data)
