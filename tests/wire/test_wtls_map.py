"""The datagrams between the proxies (rows W5, W7, X19)."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from tests.fuzz import CASES, damaged
from tests.wire.wtls_vectors import KEY, TOKEN, VECTORS
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.dtls_records import Kind, classify
from tunnelkit.wire.wtls_map import SIZE, MapDatagram, MapType, decode, encode, is_map

WRITTEN = {
    "map": MapDatagram(MapType.MAP, TOKEN, 600),
    "map-ok": MapDatagram(MapType.MAP_OK, TOKEN, 600),
    "end": MapDatagram(MapType.END, TOKEN, 312),
    "end-ok": MapDatagram(MapType.END_OK, TOKEN, 312),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_datagrams_are_the_bytes_of_the_document(name: str) -> None:
    data = encode(WRITTEN[name], KEY)
    assert data == VECTORS[name]
    assert len(data) == SIZE
    assert decode(data, KEY) == WRITTEN[name]


def test_they_cannot_be_taken_for_dtls() -> None:
    assert is_map(VECTORS["map"])
    assert classify(VECTORS["map"]) is Kind.OTHER


def test_only_who_has_the_key_is_believed() -> None:
    with pytest.raises(RemoteProtocolError, match="map key"):
        decode(VECTORS["end"], bytes(32))
    refused = 0
    for data in damaged([VECTORS[name] for name in WRITTEN], seed=5):
        if data in VECTORS.values():
            continue
        with pytest.raises(RemoteProtocolError):
            decode(data, KEY)
        refused += 1
    assert refused > CASES // 2


def test_an_unknown_version_or_type_is_refused_even_with_the_key() -> None:
    for place, value, why in ((2, 2, "version"), (3, 9, "unknown type 9")):
        data = bytearray(VECTORS["map"])
        data[place] = value
        signed = bytes(data[:22])
        forged = signed + encode_tag(signed)
        with pytest.raises(RemoteProtocolError, match=why):
            decode(forged, KEY)


def encode_tag(signed: bytes) -> bytes:
    return hmac.digest(KEY, signed, hashlib.sha256)[:16]


def test_what_has_no_encoding_is_a_mistake_here() -> None:
    with pytest.raises(LocalProtocolError, match="32 bytes"):
        encode(WRITTEN["map"], b"short")
    with pytest.raises(LocalProtocolError, match="does not fit"):
        encode(MapDatagram(MapType.MAP, TOKEN, 65_536), KEY)
