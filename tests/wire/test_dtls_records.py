"""Datagrams are told apart before OpenSSL sees them (rule X19)."""

from __future__ import annotations

import pytest

from tests.fuzz import CASES, damaged
from tests.wire.wtls_vectors import VECTORS
from tunnelkit.core.dtls_cookies import Cookies
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.dtls_records import (
    ClientHello,
    Kind,
    classify,
    epoch,
    hello_verify_request,
    offered_cookie,
    records,
)

DEVICE = ("192.0.2.1", 40_000)


def hello(
    cookie: bytes = b"", name: bytes = b"", number: int = 0, random: bytes = bytes(32)
) -> bytes:
    """A ClientHello as a device sends it."""
    body = b"\xfe\xfd" + random + b"\0" + bytes([len(cookie)]) + cookie
    body += b"\x00\x02\xc0\x2b" + b"\x01\x00"
    if name:
        entry = b"\0" + len(name).to_bytes(2, "big") + name
        content = len(entry).to_bytes(2, "big") + entry
        extension = b"\0\0" + len(content).to_bytes(2, "big") + content
        body += len(extension).to_bytes(2, "big") + extension
    size = len(body).to_bytes(3, "big")
    message = b"\x01" + size + number.to_bytes(2, "big") + b"\0\0\0" + size + body
    head = b"\x16\xfe\xff\0\0" + number.to_bytes(6, "big") + len(message).to_bytes(2, "big")
    return head + message


def record(kind: int, body: bytes = b"12345678", epoch: int = 1) -> bytes:
    head = bytes([kind]) + b"\xfe\xfd" + epoch.to_bytes(2, "big") + bytes(6)
    return head + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (hello(), Kind.HELLO),
        (hello(b"cookie", b"bank.example"), Kind.HELLO),
        (hello()[:12], Kind.OTHER),
        (hello()[:-1], Kind.OTHER),
        (hello()[:24] + b"\x01" + hello()[25:], Kind.FRAGMENT),
        (hello()[:21] + b"\x01" + hello()[22:], Kind.FRAGMENT),
        (record(20, b"\1", 0), Kind.RECORD),
        (record(21), Kind.RECORD),
        (record(22), Kind.RECORD),
        (record(22, bytes(12), 0), Kind.RECORD),
        (record(22, bytes(11), 0), Kind.OTHER),
        (record(23), Kind.RECORD),
        (record(26), Kind.RECORD),
        (record(23, b""), Kind.OTHER),
        (record(23, bytes(16_641)), Kind.OTHER),
        (record(25), Kind.CONNECTION_ID),
        (b"\x2f" + bytes(30), Kind.CONNECTION_ID),
        (record(19), Kind.OTHER),
        (record(27), Kind.OTHER),
        (b"\x16\x03\x01" + bytes(20), Kind.OTHER),
        (b"\x40\x01\x00\x01" + bytes(20), Kind.OTHER),
        (VECTORS["map"], Kind.OTHER),
    ],
)
def test_a_datagram_is_what_its_first_record_is(data: bytes, kind: Kind) -> None:
    assert classify(data) is kind


def test_a_hello_says_what_it_asks_for() -> None:
    said = ClientHello.read(hello(b"cookie", b"Bank.Example", 1, bytes(range(32))))
    assert said.cookie == b"cookie"
    assert said.server_name == "bank.example"
    assert said.random == bytes(range(32))
    assert said.sequence == b"\0\0\0\0\0\1"
    assert said.parameters == ClientHello.read(hello(random=bytes(range(32)))).parameters
    assert ClientHello.read(hello()).server_name == ""


def test_damaged_hellos_are_read_or_refused() -> None:
    read = 0
    for data in damaged([hello(), hello(b"0123456789abcdef", b"bank.example")], seed=7):
        if classify(data) is not Kind.HELLO:
            continue
        try:
            said = ClientHello.read(data)
        except RemoteProtocolError:
            continue
        assert len(said.random) == 32
        read += 1
    assert read > CASES // 50


def test_the_answer_to_a_first_hello_is_the_bytes_of_the_document_and_shorter() -> None:
    answer = hello_verify_request(ClientHello.read(hello()), bytes(range(16)))
    assert answer == VECTORS["hello-verify-request"]
    assert len(answer) < len(hello())
    assert offered_cookie(answer) == bytes(range(16))


@pytest.mark.parametrize(
    "data", [b"", hello(), record(22), record(23), b"\x16\xfe\xff" + bytes(30)]
)
def test_nothing_else_offers_a_cookie(data: bytes) -> None:
    assert offered_cookie(data) == b""


def test_a_run_of_records_is_cut_where_they_end() -> None:
    first, second = record(22, b"abc", 0), record(23, b"defg")
    assert [bytes(each) for each in records(first + second + b"\x17rest")] == [first, second]
    assert [epoch(each) for each in records(first + second)] == [0, 1]
    assert list(records(first[:-1])) == []


def test_a_cookie_is_good_for_one_address_one_hello_and_two_minutes() -> None:
    cookies = Cookies(b"a" * 32, 0.0)
    mine = cookies.make(DEVICE, ClientHello.read(hello()))
    again = ClientHello.read(hello(mine, number=1))
    assert cookies.check(DEVICE, again)
    assert not cookies.check(("192.0.2.1", 40_001), again)
    assert not cookies.check(("192.0.2.2", 40_000), again)
    assert not cookies.check(DEVICE, ClientHello.read(hello(mine, random=b"x" * 32)))
    assert not cookies.check(DEVICE, ClientHello.read(hello()))
    assert not cookies.is_old(59.0)
    assert cookies.is_old(60.0)
    cookies.renew(b"b" * 32, 60.0)
    assert cookies.check(DEVICE, again)
    cookies.renew(b"c" * 32, 120.0)
    assert not cookies.check(DEVICE, again)
