"""SOCKS messages: exact bytes, what is refused, and any input whatever."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import damaged
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import socks
from tunnelkit.wire.socks_address import encode_address, split_address

IPV6 = bytes.fromhex("20010db8000000000000000000000001")
LONG_NAME = "a" * 255

ADDRESSES = [
    ("192.0.2.7", 80, b"\x01\xc0\x00\x02\x07\x00\x50"),
    ("example.com", 443, b"\x03\x0bexample.com\x01\xbb"),
    ("2001:db8::1", 65535, b"\x04" + IPV6 + b"\xff\xff"),
    (LONG_NAME, 0, b"\x03\xff" + LONG_NAME.encode() + b"\x00\x00"),
]

Whole = tuple[Callable[[bytes], object], object, bytes]
MESSAGES: list[Whole] = [
    (socks.parse_greeting, (0, 2), b"\x05\x02\x00\x02"),
    (socks.parse_greeting, (), b"\x05\x00"),
    (socks.parse_method, 2, b"\x05\x02"),
    (socks.parse_method, 255, b"\x05\xff"),
    (socks.parse_credentials, socks.Credentials(b"me", b"pw"), b"\x01\x02me\x02pw"),
    (socks.parse_credentials, socks.Credentials(b"", b""), b"\x01\x00\x00"),
    (socks.parse_verdict, True, b"\x01\x00"),
    (socks.parse_verdict, False, b"\x01\x01"),
    (socks.parse_verdict, True, b"\x05\x00"),
    (
        socks.parse_request5,
        socks.Request(5, 1, "192.0.2.7", 80),
        b"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50",
    ),
    (
        socks.parse_request5,
        socks.Request(5, 3, "example.com", 443),
        b"\x05\x03\x00\x03\x0bexample.com\x01\xbb",
    ),
    (
        socks.parse_request5,
        socks.Request(5, 2, "2001:db8::1", 1),
        b"\x05\x02\x00\x04" + IPV6 + b"\x00\x01",
    ),
    (
        socks.parse_reply5,
        socks.Reply(0, "192.0.2.7", 80),
        b"\x05\x00\x00\x01\xc0\x00\x02\x07\x00\x50",
    ),
    (
        socks.parse_request4,
        socks.Request(4, 1, "192.0.2.7", 80, b"me"),
        b"\x04\x01\x00\x50\xc0\x00\x02\x07me\x00",
    ),
    (
        socks.parse_request4,
        socks.Request(4, 1, "example.com", 80),
        b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.com\x00",
    ),
    (socks.parse_request4, socks.Request(4, 2, "0.0.0.0", 0), b"\x04\x02\x00\x00\0\0\0\0\0"),
    (socks.parse_reply4, socks.Reply(90, "192.0.2.7", 80), b"\x00\x5a\x00\x50\xc0\x00\x02\x07"),
    (socks.parse_reply4, socks.Reply(91, "0.0.0.0", 0), b"\x04\x5b\x00\x00\x00\x00\x00\x00"),
]


@pytest.mark.parametrize(("host", "port", "data"), ADDRESSES)
def test_addresses_have_the_bytes_of_rfc_1928(host: str, port: int, data: bytes) -> None:
    assert encode_address(host, port) == data
    assert split_address(data + b"rest") == (host, port, len(data))
    assert split_address(b"xyz" + data, 3) == (host, port, len(data) + 3)


@pytest.mark.parametrize(("parse", "value", "data"), MESSAGES)
def test_messages_are_read_with_their_size_and_only_when_whole(
    parse: Callable[[bytes], object], value: object, data: bytes
) -> None:
    assert parse(data) == (value, len(data))
    assert parse(data + b"behind") == (value, len(data))
    for size in range(len(data)):
        assert parse(data[:size]) is None


def test_messages_are_written_byte_for_byte() -> None:
    assert socks.encode_greeting((0, 2)) == b"\x05\x02\x00\x02"
    assert socks.encode_method(2) == b"\x05\x02"
    assert socks.encode_credentials(socks.Credentials(b"me", b"pw")) == b"\x01\x02me\x02pw"
    assert socks.encode_verdict(True) == b"\x01\x00"
    assert socks.encode_verdict(False) == b"\x01\x01"
    request5 = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"
    assert socks.encode_request5(1, "example.com", 443) == request5
    assert socks.encode_reply5(5) == b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"
    assert socks.encode_reply5(0, "2001:db8::1", 1) == b"\x05\x00\x00\x04" + IPV6 + b"\x00\x01"
    request4 = b"\x04\x01\x00\x50\xc0\x00\x02\x07me\x00"
    assert socks.encode_request4(1, "192.0.2.7", 80, b"me") == request4
    request4a = b"\x04\x01\x00\x50\x00\x00\x00\x01me\x00example.com\x00"
    assert socks.encode_request4(1, "example.com", 80, b"me", names=True) == request4a
    assert socks.encode_reply4(90, "192.0.2.7", 80) == b"\x00\x5a\x00\x50\xc0\x00\x02\x07"
    assert socks.encode_reply4(90, "2001:db8::1", 80) == b"\x00\x5a\x00\x50\x00\x00\x00\x00"


def test_a_socks_5_refusal_is_complete_at_its_code() -> None:
    assert socks.parse_reply5(b"\x05\x02") == (socks.Reply(2, "", 0), 2)


@pytest.mark.parametrize(
    ("parse", "data", "what"),
    [
        (socks.parse_greeting, b"\x04", "begins with 4, not 5"),
        (socks.parse_method, b"H", "begins with 72, not 5"),
        (socks.parse_credentials, b"\x05", "begins with 5, not 1"),
        (socks.parse_verdict, b"\x02", "begins with 2, not 1"),
        (socks.parse_request5, b"\x05\x01\x00\x02", "address type 2"),
        (socks.parse_request5, b"\x05\x01\x00\x03\x00\x00\x50", "host name is empty"),
        (socks.parse_request5, b"\x05\x01\x00\x03\x01\x00\x00\x50", "no host name has"),
        (socks.parse_request5, b"\x05\x01\x00\x03\x01\xe4\x00\x50", "no host name has"),
        (socks.parse_reply5, b"\x04", "begins with 4, not 5"),
        (socks.parse_request4, b"\x05", "begins with 5, not 4"),
        (socks.parse_request4, b"\x04\x01\x00\x50\x01\x02\x03\x04" + b"u" * 256, "255 bytes"),
        (socks.parse_request4, b"\x04\x01\x00\x50\0\0\0\x01\0" + b"h" * 256, "255 bytes"),
        (socks.parse_request4, b"\x04\x01\x00\x50\0\0\0\x01\0\0", "host name is empty"),
        (socks.parse_reply4, b"\x05", "begins with 5, not 0"),
    ],
)
def test_broken_rules_are_named_as_soon_as_they_can_be_seen(
    parse: Callable[[bytes], object], data: bytes, what: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=what):
        parse(data)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 1),
        ("a" * 256, 1),
        ("two words", 1),
        ("\x7f", 1),
        ("nul\0", 1),
        ("m\xfcller.example", 1),
        ("fe80::1%eth0", 1),
        ("192.0.2.7", -1),
        ("192.0.2.7", 65536),
    ],
)
def test_addresses_that_cannot_be_carried_are_refused_here(host: str, port: int) -> None:
    with pytest.raises(LocalProtocolError):
        encode_address(host, port)


def test_what_socks_4_cannot_carry_is_refused_here() -> None:
    with pytest.raises(LocalProtocolError, match="only IPv4"):
        socks.encode_request4(1, "example.com", 80)
    with pytest.raises(LocalProtocolError, match="only IPv4"):
        socks.encode_request4(1, "::1", 80)
    with pytest.raises(LocalProtocolError, match=r"0\.0\.0\.9"):
        socks.encode_request4(1, "0.0.0.9", 80)  # would be read as SOCKS 4a
    for user in (b"n\0l", b"u" * 256):
        with pytest.raises(LocalProtocolError, match="user ids"):
            socks.encode_request4(1, "192.0.2.7", 80, user)


def test_too_long_logins_and_empty_offers_are_refused_here() -> None:
    for login in (socks.Credentials(b"u" * 256, b""), socks.Credentials(b"u", b"p" * 256)):
        with pytest.raises(LocalProtocolError, match="255"):
            socks.encode_credentials(login)
    with pytest.raises(LocalProtocolError, match="methods"):
        socks.encode_greeting(())


def test_udp_datagrams_carry_their_address_in_front() -> None:
    datagram = socks.encode_datagram("192.0.2.7", 53, b"query")
    assert datagram == b"\x00\x00\x00\x01\xc0\x00\x02\x07\x00\x35query"
    assert socks.parse_datagram(datagram) == ("192.0.2.7", 53, 10)
    assert socks.parse_datagram(memoryview(datagram)) == ("192.0.2.7", 53, 10)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x01\x7f",
        b"\0\0\0\x03",
        b"\0\0\x01\x01\xc0\x00\x02\x07\x00\x35x",  # a fragment
        b"\0\0\0\x09\xc0\x00\x02\x07\x00\x35x",
    ],
)
def test_bad_datagrams_are_protocol_errors(datagram: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        socks.parse_datagram(datagram)


def test_passwords_are_not_in_the_repr() -> None:
    assert "hunter2" not in repr(socks.Credentials(b"me", b"hunter2"))


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
    ],
)
def test_every_reason_has_the_reply_code_that_clients_know(code: Code, reply: int) -> None:
    assert socks.reply5_for(code) == reply


def test_every_code_of_the_wire_has_a_reply_code_that_is_a_refusal() -> None:
    assert all(1 <= socks.reply5_for(code) <= 8 for code in Code)


hosts = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(r"[a-z0-9-]{1,20}(\.[a-z0-9-]{1,20}){0,3}", fullmatch=True),
)


@given(hosts, st.integers(0, 65535), st.binary(max_size=20))
def test_every_address_comes_back_as_it_was(host: str, port: int, rest: bytes) -> None:
    data = encode_address(host, port)
    read, read_port, size = split_address(data + rest)
    assert (read_port, size) == (port, len(data))
    try:
        assert ipaddress.ip_address(read) == ipaddress.ip_address(host)
    except ValueError:
        assert read == host


PARSERS = sorted({parse.__name__ for parse, _, _ in MESSAGES})


@pytest.mark.parametrize("name", PARSERS)
def test_any_input_gives_a_message_or_none_or_a_protocol_error(name: str) -> None:
    parse = getattr(socks, name)
    seeds = [data for parser, _, data in MESSAGES if parser.__name__ == name]
    for case in damaged(seeds):
        try:
            parsed = parse(case)
        except RemoteProtocolError:
            continue
        assert parsed is None or 0 < parsed[1] <= len(case)
        assert parsed is not None or len(case) < 600


def test_any_datagram_gives_an_address_or_a_protocol_error() -> None:
    seeds = [b"\0\0\0" + data + b"payload" for _, _, data in ADDRESSES]
    for case in damaged(seeds):
        try:
            host, port, offset = socks.parse_datagram(case)
        except RemoteProtocolError:
            continue
        assert host
        assert 0 <= port <= 65535
        assert 3 < offset <= len(case)
