"""Questions for addresses and what answers say, against the records that twisted.names writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.names import dns as names

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.dns import HEADER, MAX_MESSAGE
from tunnelkit.wire.dns_addresses import (
    AAAA,
    RECORDS,
    A,
    address_query,
    dotted,
    encode_name,
    is_within,
    read_addresses,
    read_name,
)


def answer(host: str, *records: tuple[str, str, str]) -> bytes:
    """An answer about ``host`` with ``(name, type, value)`` records."""
    message = names.Message(id=1, answer=1)
    message.maxSize = MAX_MESSAGE
    message.queries = [names.Query(host.encode(), names.A)]
    makers: dict[str, Any] = {
        "A": lambda value: names.Record_A(value, ttl=9),
        "AAAA": lambda value: names.Record_AAAA(value, ttl=9),
        "CNAME": lambda value: names.Record_CNAME(value.encode(), ttl=9),
        "TXT": lambda value: names.Record_TXT(value.encode(), ttl=9),
    }
    for name, kind, value in records:
        payload = makers[kind](value)
        message.answers.append(names.RRHeader(name.encode(), payload.TYPE, ttl=9, payload=payload))
    data: bytes = message.toStr()
    return data


@pytest.mark.parametrize("kind", [A, AAAA])
def test_a_query_is_read_as_what_it_is(kind: int) -> None:
    message = names.Message()
    message.fromStr(address_query("www.example", kind, 7))
    assert (message.id, message.recDes, message.answer) == (7, 1, 0)
    assert [(query.name.name, query.type, query.cls) for query in message.queries] == [
        (b"www.example", kind, names.IN)
    ]


@pytest.mark.parametrize("host", ["", "a..b", "a" * 64, ".".join(["a" * 63] * 4), "ä.example"])
def test_what_is_no_name_is_not_asked_for(host: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_name(host)


@pytest.mark.parametrize(
    ("host", "domain", "expected"),
    [
        ("corp.example", "corp.example", True),
        ("a.b.corp.example", "corp.example", True),
        ("acorp.example", "corp.example", False),
        ("example", "corp.example", False),
        ("corp.example.org", "corp.example", False),
        ("xcorp.example", "example", True),
    ],
)
def test_a_name_is_within_a_domain_by_whole_labels(host: str, domain: str, expected: bool) -> None:
    assert is_within(encode_name(host), encode_name(domain)) is expected


def test_a_name_can_be_shown() -> None:
    assert dotted(encode_name("www.Example")) == "www.Example"
    assert dotted(b"\0") == "."
    assert dotted(b"\2a\xff\1b\0") == "a\\xff.b"


def test_the_addresses_of_the_name_are_read() -> None:
    data = answer(
        "www.example",
        ("www.example", "A", "192.0.2.1"),
        ("www.example", "AAAA", "2001:db8::1"),
        ("WWW.example", "A", "192.0.2.2"),
        ("www.example", "TXT", "words"),
    )
    assert read_addresses(data, A) == ["192.0.2.1", "192.0.2.2"]
    assert read_addresses(data, AAAA) == ["2001:db8::1"]


def test_aliases_are_followed_in_any_order() -> None:
    data = answer(
        "www.example",
        ("c.example", "A", "192.0.2.1"),
        ("b.example", "CNAME", "c.example"),
        ("www.example", "CNAME", "b.example"),
    )
    assert read_addresses(data, A) == ["192.0.2.1"]


def test_records_of_other_names_do_not_count() -> None:
    data = answer("www.example", ("evil.example", "A", "192.0.2.1"))
    assert read_addresses(data, A) == []


def test_aliases_in_a_circle_end() -> None:
    data = answer("a.example", ("a.example", "CNAME", "b.example"), ("b.example", "CNAME", "a."))
    assert read_addresses(data, A) == []
    circle = answer(
        "a.example", ("a.example", "CNAME", "b.example"), ("b.example", "CNAME", "a.example")
    )
    assert read_addresses(circle, A) == []


def test_no_more_records_than_a_few_hundred_are_looked_at() -> None:
    many = [("www.example", "A", f"10.0.{number >> 8}.{number & 255}") for number in range(600)]
    assert len(read_addresses(answer("www.example", *many), A)) == RECORDS


@pytest.mark.parametrize(
    "tail",
    [
        b"\xc0",  # half a pointer
        b"\xc0\x0c",  # to itself
        b"\xc0\xff",  # forward
        b"\x40\x00",  # an unknown kind of label
        b"\x05abc",  # a label that does not end
        b"\x01a",  # a name that does not end
        b"\x01a" * 128 + b"\0",  # longer than a name can be
    ],
)
def test_a_name_that_cannot_be_read_is_an_error(tail: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_name(bytes(HEADER) + tail, HEADER)


def chain(links: int) -> bytes:
    """A name of one label, and ``links`` further ones that each are a label and a pointer."""
    starts = [0, *(3 + 4 * link for link in range(links - 1))]
    return b"\1a\0" + b"".join(b"\1b" + (0xC000 | start).to_bytes(2, "big") for start in starts)


def test_a_chain_of_pointers_is_as_long_as_a_name_at_most() -> None:
    assert read_name(chain(100), 3 + 4 * 99) == b"\1b" * 100 + b"\1a\0"
    with pytest.raises(RemoteProtocolError):
        read_name(chain(200), 3 + 4 * 199)


@pytest.mark.parametrize("cut", range(1, 45))
def test_an_answer_that_is_cut_off_is_an_error_or_says_less(cut: int) -> None:
    data = answer("www.example", ("www.example", "A", "192.0.2.1"))
    with pytest.raises(RemoteProtocolError):
        read_addresses(data[:-cut], A)


@given(st.binary(max_size=300))
def test_rubbish_is_an_error_and_nothing_else(rubbish: bytes) -> None:
    for data in (rubbish, b"\0\0\x81\x80\0\1\0\3\0\0\0\0" + rubbish):
        try:
            read_addresses(data, A)
        except RemoteProtocolError:
            pass
