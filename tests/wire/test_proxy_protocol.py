"""The PROXY protocol: real headers, cut anywhere, damaged."""

from __future__ import annotations

import pytest

from tests.fuzz import damaged, pieces
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.proxy_protocol import SIGNATURE, ProxyHeaderReader, Source, v2_header

V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
V1_6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"
V2 = SIGNATURE + bytes.fromhex("2111000c c0000201 c0000202 dc04 01bb")
V2_6 = SIGNATURE + bytes.fromhex(
    "21210024" + "20010db8" + "00" * 11 + "01" + "00" * 16 + "dc0401bb"
)
WITH_EXTRAS = SIGNATURE + bytes.fromhex("2111000f c0000201 c0000202 dc04 01bb 040000")


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (V1, Source("192.0.2.1", 56324)),
        (V1_6, Source("2001:db8::1", 56324)),
        (V2, Source("192.0.2.1", 56324)),
        (V2_6, Source("2001:db8::1", 56324)),
        (WITH_EXTRAS, Source("192.0.2.1", 56324)),
        (b"PROXY UNKNOWN\r\n", Source()),
        (b"PROXY UNKNOWN some words\r\n", Source()),
        (SIGNATURE + bytes.fromhex("20000000"), Source()),
    ],
)
def test_a_header_cut_anywhere(header: bytes, source: Source) -> None:
    assert ProxyHeaderReader().feed(header + b"\x16more") == (source, b"\x16more")
    reader = ProxyHeaderReader()
    for at in range(len(header) - 1):
        assert reader.feed(header[at : at + 1]) is None
    assert reader.feed(header[-1:]) == (source, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 x 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
        b"PROXY TCP4 host 192.0.2.2 1 443\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 443\r\n",
        b"PROXY TCP4 " + b"1" * 107,
        SIGNATURE + bytes.fromhex("3111000c") + bytes(12),
        SIGNATURE + bytes.fromhex("2112000c") + bytes(12),
        SIGNATURE + bytes.fromhex("2111000b") + bytes(11),
        SIGNATURE + bytes.fromhex("2111ffff"),
        SIGNATURE[:-1] + b"x",
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="PROXY header"):
        ProxyHeaderReader().feed(data)


def test_a_header_of_our_own_is_read() -> None:
    for near, far in (("192.0.2.1", "127.0.0.1"), ("2001:db8::1", "::1")):
        header = v2_header((near, 4000), (far, 443))
        assert ProxyHeaderReader().feed(header) == (Source(near, 4000), b"")
    assert v2_header(("192.0.2.1", 56324), ("192.0.2.2", 443)) == V2
    mixed = v2_header(("192.0.2.1", 1), ("::1", 2))
    assert ProxyHeaderReader().feed(mixed) == (Source("192.0.2.1", 1), b"")


def test_damaged_headers_are_read_or_refused_the_same_way_however_they_come() -> None:
    def outcome(parts: list[bytes]) -> object:
        reader = ProxyHeaderReader()
        try:
            for number, part in enumerate(parts):
                found = reader.feed(part)
                if found is not None:
                    return found[0], found[1] + b"".join(parts[number + 1 :])
        except RemoteProtocolError as error:
            return str(error)
        return None

    for number, data in enumerate(damaged([V1, V1_6, V2, V2_6, WITH_EXTRAS])):
        assert outcome([data]) == outcome(pieces(data, [number, number * 7, number * 31]))
