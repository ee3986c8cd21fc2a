"""CoAP requests as HTTP, and back (RFC 7252, 10.1; RFC 8075, 6; row W2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.core.wtls.http_mapping import (
    CannotBeServed,
    HttpMapping,
    HttpRequest,
    Url,
    max_age,
    parse_url,
    url_of,
)
from tunnelkit.core.wtls.media_types import NAMES, OCTETS, to_name, to_number
from tunnelkit.wire.coap import Code, Message, Option, Type, dotted, in_order
from tunnelkit.wire.coap_options import Number, uint

WEB = Url("http", "web.example", 80, "/")


def asking(*options: tuple[int, bytes], code: int = Code.GET) -> Message:
    return Message(Type.CON, code, 1, b"", in_order(Option(*each) for each in options))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://Web.Example", Url("http", "web.example", 80, "/")),
        ("https://web.example./a?b=c#d", Url("https", "web.example", 443, "/a?b=c")),
        ("http://[2001:db8::1]:8080/x", Url("http", "2001:db8::1", 8080, "/x")),
        ("http://a/\u00fc%20 b", Url("http", "a", 80, "/%C3%BC%20%20b")),
        ("http://a/x\r\nHost: b", Url("http", "a", 80, "/xHost:%20b")),
    ],
)
def test_urls_are_read(text: str, url: Url) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ftp://a/", Code.PROXYING_NOT_SUPPORTED),
        ("coap://a/", Code.PROXYING_NOT_SUPPORTED),
        ("web.example", Code.PROXYING_NOT_SUPPORTED),
        ("http://me:secret@a/", Code.BAD_REQUEST),
        ("http:///x", Code.BAD_REQUEST),
        ("http://a:0/", Code.BAD_REQUEST),
        ("http://a:99999/", Code.BAD_REQUEST),
        ("http://a b/", Code.BAD_REQUEST),
        ("http://[::1/", Code.BAD_REQUEST),
    ],
)
def test_what_is_not_proxied_is_told_why(text: str, code: Code) -> None:
    with pytest.raises(CannotBeServed) as caught:
        parse_url(text)
    assert caught.value.response.code == code


@given(st.text(max_size=60))
def test_no_url_puts_anything_else_into_a_request_line(text: str) -> None:
    try:
        url = parse_url(f"http://web.example/{text}")
    except CannotBeServed:
        return
    assert url.target.isascii()
    assert url.target.isprintable()
    assert " " not in url.target


def test_a_url_may_come_in_pieces() -> None:
    message = asking(
        (Number.PROXY_SCHEME, b"http"), (Number.URI_HOST, b"web.example"),
        (Number.URI_PORT, uint(8080)), (Number.URI_PATH, b"a/b"), (Number.URI_PATH, b"c"),
        (Number.URI_QUERY, b"x=1&2"), (Number.URI_QUERY, b"y"),
    )  # fmt: skip
    assert str(url_of(message)) == "http://web.example:8080/a%2Fb/c?x=1%262&y"


def test_a_request_for_the_proxy_itself_finds_nothing() -> None:
    for message, code in (
        (asking((Number.URI_PATH, b"x")), Code.NOT_FOUND),
        (asking((Number.PROXY_URI, b"\xff")), Code.BAD_REQUEST),
        (asking((Number.PROXY_SCHEME, b"http")), Code.BAD_REQUEST),
    ):
        with pytest.raises(CannotBeServed) as caught:
            url_of(message)
        assert caught.value.response.code == code


def test_fields_of_a_request() -> None:
    message = asking((Number.ACCEPT, uint(50)), (Number.CONTENT_FORMAT, b""), code=Code.PUT)
    assert HttpMapping().request(message, WEB, b"body") == HttpRequest(
        "PUT", WEB,
        (("Accept", "application/json"), ("Content-Type", "text/plain; charset=utf-8")), b"body",
    )  # fmt: skip
    assert HttpMapping().request(asking(), WEB, b"") == HttpRequest("GET", WEB)
    with pytest.raises(CannotBeServed, match="no such method"):
        HttpMapping().request(asking(code=5), WEB, b"")


def test_entity_tags_are_shortened_and_found_again() -> None:
    mapping = HttpMapping()
    request = mapping.request(asking(), WEB, b"")
    answer = mapping.response(request, 200, {"etag": '"a-long-entity-tag"'}, b"x")
    (tag,) = [option.value for option in answer.options if option.number == Number.ETAG]
    assert len(tag) == 8
    again = mapping.request(asking((Number.ETAG, tag), (Number.ETAG, b"?")), WEB, b"")
    assert again.headers == (("If-None-Match", '"a-long-entity-tag"'),)
    assert mapping.response(again, 304, {"etag": '"a-long-entity-tag"'}, b"").code == Code.VALID
    change = mapping.request(asking((Number.IF_MATCH, tag), code=Code.PUT), WEB, b"")
    assert change.headers == (("If-Match", '"a-long-entity-tag"'),)
    with pytest.raises(CannotBeServed, match="not known"):
        mapping.request(asking((Number.IF_MATCH, b"?"), code=Code.PUT), WEB, b"")
    whatever = mapping.request(asking((Number.IF_MATCH, b""), code=Code.PUT), WEB, b"")
    assert whatever.headers == (("If-Match", "*"),)
    new = mapping.request(asking((Number.IF_NONE_MATCH, b""), code=Code.PUT), WEB, b"")
    assert new.headers == (("If-None-Match", "*"),)


def test_only_some_tags_are_remembered() -> None:
    mapping = HttpMapping()
    request = HttpRequest("GET", WEB)
    first = mapping.response(request, 200, {"etag": '"0"'}, b"").options[0].value
    for number in range(1, 20):
        mapping.response(request, 200, {"etag": f'"{number}"'}, b"")
    assert mapping.request(asking((Number.ETAG, first)), WEB, b"").headers == ()


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        ("GET", 200, "2.05"), ("GET", 203, "2.05"), ("POST", 200, "2.04"), ("PUT", 204, "2.04"),
        ("PUT", 201, "2.01"), ("DELETE", 204, "2.02"), ("DELETE", 200, "2.02"),
        ("GET", 304, "2.03"),
        ("GET", 301, "5.02"), ("GET", 404, "4.04"), ("GET", 410, "4.00"), ("GET", 418, "4.00"),
        ("GET", 401, "4.01"), ("GET", 500, "5.00"), ("GET", 503, "5.03"), ("GET", 507, "5.02"),
        ("GET", 100, "5.02"),
    ],
)  # fmt: skip
def test_statuses_have_codes(method: str, status: int, code: str) -> None:
    answer = HttpMapping().response(HttpRequest(method, WEB), status, {}, b"")
    assert dotted(answer.code) == code


def test_a_server_that_is_busy_is_not_mistaken_for_the_standard_error() -> None:
    answer = HttpMapping().response(HttpRequest("GET", WEB), 503, {"retry-after": "0"}, b"")
    assert Option(Number.MAX_AGE, b"\x01") in answer.options
    answer = HttpMapping().response(HttpRequest("GET", WEB), 503, {"retry-after": "soon"}, b"")
    assert Option(Number.MAX_AGE, b"\x3c") in answer.options


@pytest.mark.parametrize(
    ("fields", "age"),
    [
        ({}, None),
        ({"cache-control": "public, max-age=100", "age": "40"}, 60),
        ({"cache-control": "max-age=10", "age": "40"}, 0),
        ({"cache-control": "s-maxage=5"}, None),
        ({"cache-control": "no-store"}, 0),
        ({"cache-control": 'max-age="7"', "age": "x"}, 7),
    ],
)
def test_how_long_an_answer_stays_fresh(fields: dict[str, str], age: int | None) -> None:
    assert max_age(fields) == age
    answer = HttpMapping().response(HttpRequest("GET", WEB), 200, fields, b"x")
    ages = [option.value for option in answer.options if option.number == Number.MAX_AGE]
    assert ages == ([] if age is None else [uint(age)])


@pytest.mark.parametrize("number", NAMES)
def test_media_types_that_have_a_number_keep_it(number: int) -> None:
    assert to_number(to_name(number)) == number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("text/html; charset=latin1", 0), ("Text/Plain", 0), ("text/xml", 41),
        ("application/problem+json", 50), ("application/atom+xml", 41), ("x/y+cbor", 60),
        ("video/mp4", OCTETS), ("", OCTETS), ("application/coap-payload;cf=300", 300),
        ("application/coap-payload;cf=x", OCTETS),
    ],
)  # fmt: skip
def test_others_become_the_nearest(name: str, number: int) -> None:
    assert to_number(name) == number
    assert to_name(300) == "application/coap-payload;cf=300"
