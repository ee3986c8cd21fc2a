"""Every LSTP message against bytes written down beside it."""

from __future__ import annotations

import pytest

from tests.wire.vectors import read_vectors
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.lstp import (
    HEADER,
    HEADER_SIZE,
    MAX_BODY,
    MAX_DATA,
    CommonUniqueInfo,
    ConnectionAck,
    ConnectionNack,
    ConnectionRequest,
    Error,
    Hop,
    Message,
    MessageType,
    PropertyExchange,
    Service,
    ServiceBeginAck,
    ServiceBeginNack,
    ServiceBeginRequest,
    ServiceData,
    ServiceDataPause,
    ServiceDataResume,
    ServiceFreeAck,
    ServiceFreeRequest,
    Shutdown,
    TopologyExchange,
    check_header,
    decode,
    derive_common,
    encode,
)

COMMON = "TLyWCZpkZ84AJGHxBUm0iYJl6-YYi0XvrMRCk1FuYsQ"

MESSAGES: dict[str, tuple[Message, int]] = {
    "common-unique-info": (CommonUniqueInfo(COMMON, "alice", "client-end"), 0),
    "topology-exchange": (
        TopologyExchange(
            (
                Hop("alice", "client-end", "laptop", "00112233445566778899aabbccddeeff"),
                Hop("m", "middle", "192.0.2.1:7000", "ffeeddccbbaa99887766554433221100"),
            )
        ),
        0,
    ),
    "topology-exchange-with-admission": (
        TopologyExchange((Hop("bob", "both", "", "0123456789abcdef" * 2),), "sesame"),
        0,
    ),
    "property-exchange-empty": (PropertyExchange(), 0),
    "property-exchange": (
        PropertyExchange(
            software="tunnelkit",
            compression=("zlib", "none"),
            max_channels=1024,
            window=262144,
            services=(Service("wiki", 3600, 8080), Service("git")),
            keepalive=10,
        ),
        0,
    ),
    "connection-request": (ConnectionRequest(destination="tcp:[::1]:80"), 1),
    "connection-request-service": (ConnectionRequest(service="@dns"), 2),
    "connection-request-accepted": (ConnectionRequest(listener=7, origin="tcp:192.0.2.9:40000"), 4),
    "connection-request-connection": (ConnectionRequest("connection", join=COMMON), 3),
    "connection-ack": (ConnectionAck(), 1),
    "connection-nack": (ConnectionNack(Code.NOT_ALLOWED, "no rule"), 1),
    "service-begin-request": (ServiceBeginRequest(), 1),
    "service-begin-ack": (ServiceBeginAck("tcp:10.0.0.5:51000"), 1),
    "service-begin-nack": (ServiceBeginNack(Code.REFUSED, "café is closed"), 1),
    "service-data": (ServiceData(b"hello"), 1),
    "service-data-last-empty": (ServiceData(b"", last=True), 1),
    "service-data-compressed-last": (ServiceData(b"\x78\x9c", True, True), 0xFFFFFFFE),
    "service-data-pause": (ServiceDataPause(), 1),
    "service-data-resume": (ServiceDataResume(65536, 327680), 1),
    "service-free-request": (ServiceFreeRequest(), 1),
    "service-free-request-abort": (ServiceFreeRequest(Code.RESET, "connection reset"), 1),
    "service-free-ack": (ServiceFreeAck(), 1),
    "shutdown": (Shutdown(30, "restart"), 0),
    "error": (Error(Code.SETUP_MISMATCH, "the two ends saw different paths", fatal=True), 0),
}


VECTORS = read_vectors("lstp.txt")


def test_there_is_a_vector_for_each_of_the_16_messages() -> None:
    assert VECTORS.keys() == MESSAGES.keys()
    assert {data[4] for data in VECTORS.values()} == set(MessageType) == set(range(1, 17))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_encoded_as_written_down(name: str) -> None:
    message, channel = MESSAGES[name]
    assert encode(message, channel).hex() == VECTORS[name].hex()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_decoded_as_written_down(name: str) -> None:
    message, channel = MESSAGES[name]
    length, kind, flags, reserved, number = HEADER.unpack_from(VECTORS[name])
    check_header(length, kind)
    assert (reserved, number, length) == (0, channel, len(VECTORS[name]) - HEADER_SIZE)
    assert decode(kind, flags, VECTORS[name][HEADER_SIZE:]) == message


@pytest.mark.parametrize("kind", range(1, 17))
def test_a_body_over_its_limit_is_refused_by_its_header(kind: int) -> None:
    most = MAX_DATA if kind == MessageType.SERVICE_DATA else MAX_BODY
    check_header(0, kind)
    check_header(most, kind)
    for length in (most + 1, 0xFFFFFFFF):
        with pytest.raises(RemoteProtocolError, match=str(most)):
            check_header(length, kind)


@pytest.mark.parametrize("kind", [0, 17, 255])
def test_an_unknown_type_is_refused(kind: int) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown message type"):
        check_header(0, kind)
    with pytest.raises(RemoteProtocolError, match="unknown message type"):
        decode(kind, 0, b"")


def test_common_is_derived_from_the_secret_and_the_tunnels_name() -> None:
    # printf x | openssl dgst -sha256 -mac HMAC -macopt hexkey:00...00, then base64url
    assert derive_common(bytes(32), "x") == COMMON
    assert len(derive_common(b"s" * 32, "büro")) == 43
    assert derive_common(b"s" * 32, "a") != derive_common(b"s" * 32, "b")
    with pytest.raises(LocalProtocolError):
        derive_common(b"short", "x")
