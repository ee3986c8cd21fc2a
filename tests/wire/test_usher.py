"""Every Usher record against bytes written down from the table of its specification (U1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.checkpoint import Checkpoint
from tunnelkit.wire.usher import (
    HEADER,
    HEADER_SIZE,
    MAX_DATA,
    MAX_UDP,
    MAX_UDP_ANY,
    Address,
    AddressType,
    Direction,
    Record,
    RecordType,
    UsherAck,
    UsherCheckpoint,
    UsherClose,
    UsherCredit,
    UsherEnd,
    UsherOpen,
    UsherOpenReply,
    UsherPing,
    UsherRst,
    UsherSend,
    UsherSendUdp,
    UsherSendUdpAny,
    UsherService,
    UsherSettings,
    UsherShutdown,
    Version,
    check_header,
    decode,
    encode,
    limits,
)

V1, V1_1 = Version.V1, Version.V1_1

RECORDS: dict[Version, dict[str, tuple[Record, int]]] = {
    V1: {
        "open-ipv4": (UsherOpen(AddressType.IPV4, "192.0.2.1", 80), 1),
        "open-name": (UsherOpen(AddressType.NAME, "intra", 50000), 32767),
        "open-udp": (UsherOpen(AddressType.IPV4, "10.0.0.53", 53, protocol=17), 2),
        "open-reply": (UsherOpenReply(300), 1),
        "open-reply-failed": (UsherOpenReply(-1, "not-allowed: no rule"), 1),
        "send": (UsherSend(b"hello"), 300),
        "send-empty": (UsherSend(b""), 300),
        "ack": (UsherAck(5), 1),
        "ack-largest": (UsherAck(65535), 1),
        "close-read": (UsherClose(Direction.READ), 300),
        "close-write": (UsherClose(Direction.WRITE), 300),
        "close-both": (UsherClose(Direction.BOTH), 300),
        "send-udp": (
            UsherSendUdp(Address("10.0.0.1", 40000), Address("192.0.2.53", 53), b"abc"),
            0,
        ),
        "send-udp-empty": (
            UsherSendUdp(Address("127.0.0.1", 65535), Address("224.0.0.1", 0), b""),
            0,
        ),
        "end-tunnel": (UsherEnd("shutdown"), 0),
        "end-session": (UsherEnd(), 300),
        "rst": (UsherRst("reset: café"), 300),
    },
    V1_1: {
        "settings": (UsherSettings(262144, 10000, 10, "tunnelkit"), 0),
        "settings-empty": (UsherSettings(), 0),
        "ping": (UsherPing(1), 0),
        "ping-answer": (UsherPing(1, answer=True), 0),
        "shutdown": (UsherShutdown(30, "restart"), 0),
        "open-ipv6": (UsherOpen(AddressType.IPV6, "2001:db8::1", 443), 1),
        "open-text": (UsherOpen(AddressType.TEXT, "service:@dns"), 1),
        "open-accepted": (UsherOpen(AddressType.ACCEPTED, "tcp:192.0.2.9:40000", listener=7), 9),
        "open-onward": (
            UsherOpen(AddressType.ONWARD, "tcp:web:80", via=("gate-a", "gate-b")),
            1,
        ),
        "open-reply": (UsherOpenReply(300, "tcp:10.0.0.5:51000"), 1),
        "early-send": (UsherSend(b"hello"), -1),
        "credit": (UsherCredit(65536, 327680), 300),
        "send-udp-any": (UsherSendUdpAny(Address("::1", 40000), Address("ns", 53), b"abc"), 0),
        "send-udp-any-ipv4": (
            UsherSendUdpAny(Address("10.0.0.1", 40000), Address("192.0.2.53", 53), b""),
            0,
        ),
        "service": (UsherService(), 0),
        "checkpoint": (
            UsherCheckpoint(Checkpoint(bytes(range(16)).hex(), 1000, bytes(range(32, 64)).hex())),
            0,
        ),
    },
}
CASES = [(version, name) for version, records in RECORDS.items() for name in records]


def read_vectors(name: str) -> dict[str, bytes]:
    """The bytes in ``tests/vectors`` by name."""
    vectors: dict[str, bytes] = {}
    current = ""
    path = Path(__file__).parents[1] / "vectors" / name
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
            vectors[current] = b""
        elif line[:6] in {"header", "body  "}:
            vectors[current] += bytes.fromhex(line[6:])
    return vectors


VECTORS = {V1: read_vectors("usher.txt"), V1_1: read_vectors("usher_1_1.txt")}


def test_there_is_a_vector_for_each_record() -> None:
    for version, vectors in VECTORS.items():
        assert vectors.keys() == RECORDS[version].keys()
    kinds = {
        HEADER.unpack_from(data)[1] for vectors in VECTORS.values() for data in vectors.values()
    }
    assert kinds == set(RecordType)


@pytest.mark.parametrize(("version", "name"), CASES)
def test_a_record_is_encoded_as_written_down(version: Version, name: str) -> None:
    record, session = RECORDS[version][name]
    assert encode(record, session, version).hex() == VECTORS[version][name].hex()


@pytest.mark.parametrize(("version", "name"), CASES)
def test_a_record_is_decoded_as_written_down(version: Version, name: str) -> None:
    record, session = RECORDS[version][name]
    data = VECTORS[version][name]
    length, kind, number = HEADER.unpack_from(data)
    check_header(length, kind, version)
    assert (length, number) == (len(data) - HEADER_SIZE, session)
    assert decode(kind, data[HEADER_SIZE:], version) == record


@pytest.mark.parametrize("name", sorted({*VECTORS[V1]} - {"ack", "ack-largest", "open-reply"}))
def test_what_usher_1_has_is_the_same_in_usher_1_1(name: str) -> None:
    record, session = RECORDS[V1][name]
    assert encode(record, session, V1_1) == VECTORS[V1][name]


FREE = {RecordType.SEND: 0, RecordType.SEND_UDP: 12, RecordType.SEND_UDP_ANY: 16}
"""Where data of any length begins."""


@pytest.mark.parametrize(
    ("version", "name"), [case for case in CASES if case[1] not in ("send-udp-any", "service")]
)
def test_a_record_cut_short_is_refused(version: Version, name: str) -> None:
    data = VECTORS[version][name]
    kind, body = HEADER.unpack_from(data)[1], data[HEADER_SIZE:]
    for size in range(min(len(body), FREE.get(kind, len(body)))):
        with pytest.raises(RemoteProtocolError, match="Usher"):
            decode(kind, body[:size], version)


@pytest.mark.parametrize("name", ["open-ipv4", "open-reply", "ack", "close-read", "end-tunnel"])
def test_bytes_behind_a_record_of_fixed_form_are_refused(name: str) -> None:
    data = VECTORS[V1][name]
    with pytest.raises(RemoteProtocolError):
        decode(HEADER.unpack_from(data)[1], data[HEADER_SIZE:] + b"\0", V1)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RecordType.OPEN, "0006 0003 0050" + "00" * 16),
        (RecordType.OPEN, "0006 0000 0050 c0000201"),
        (RecordType.OPEN, "0006 0002 0050 00"),
        (RecordType.OPEN, "0006 0002 0050 6100 6100"),
        (RecordType.OPEN, "0006 0002 0050 61"),
        (RecordType.OPEN, "0006 0002 0050 ff00"),
        (RecordType.OPEN_REPLY, "0000"),
        (RecordType.OPEN_REPLY, "fffe 00"),
        (RecordType.OPEN_REPLY, "8000 00"),
        (RecordType.OPEN_REPLY, "ffff"),
        (RecordType.OPEN_REPLY, "ffff eda08000"),
        (RecordType.ACK, "0000"),
        (RecordType.CLOSE, "0003"),
        (RecordType.CLOSE, "ffff"),
        (RecordType.END, ""),
        (RecordType.END, "6162"),
        (RecordType.RST, "c08000"),
    ],
)
def test_what_no_usher_1_record_may_say_is_refused(kind: RecordType, body: str) -> None:
    with pytest.raises(RemoteProtocolError, match="Usher"):
        decode(kind, bytes.fromhex(body), V1)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RecordType.OPEN, "0006 0007 0000 6100"),
        (RecordType.OPEN, "0006 0006 0000 0000 6100"),
        (RecordType.OPEN, "0006 0006 0000 0001 00 6100"),
        (RecordType.OPEN, "0006 0006 0000 0001 0a00 6100"),
        (RecordType.OPEN, "0006 0006 0000 0002 6100 6100"),
        (RecordType.OPEN, "0006 0006 0000 0009" + "6100" * 10),
        (RecordType.OPEN, "0006 0006 0000 0001" + "61" * 256 + "00 6100"),
        (RecordType.OPEN, "0006 0004 0000 00"),
        (RecordType.OPEN, "0006 0005 0000 0000 6100"),
        (RecordType.OPEN, "0006 0005 0000 ffff 6100"),
        (RecordType.OPEN_REPLY, "0001"),
        (RecordType.SETTINGS, "0001 0001 01000001 00"),
        (RecordType.SETTINGS, "0001 0003 00000000 00"),
        (RecordType.SETTINGS, "0002 0003 00000001 0003 00000001 00"),
        (RecordType.SETTINGS, "ffff 00"),
        (RecordType.PING, "0002 0000000000000000"),
        (RecordType.CHECKPOINT, "0000000000000000" + "00" * 48),
        (RecordType.CHECKPOINT, "0020000000000000" + "00" * 48),
        (RecordType.CHECKPOINT, "0000000000000001" + "00" * 49),
        (RecordType.SEND_UDP_ANY, "0004 6100 0035 0004 6100 0035"),
        (RecordType.SEND_UDP_ANY, "0002 00 0035 0002 6100 0035"),
        (RecordType.SEND_UDP_ANY, "0002" + "61" * 254 + "00 0035 0002 6100 0035"),
    ],
)
def test_what_no_usher_1_1_record_may_say_is_refused(kind: RecordType, body: str) -> None:
    with pytest.raises(RemoteProtocolError, match="Usher"):
        decode(kind, bytes.fromhex(body), V1_1)


def test_settings_that_are_not_known_are_ignored() -> None:
    body = bytes.fromhex("0002 00ff 12345678 0003 00000005 00")
    assert decode(RecordType.SETTINGS, body, V1_1) == UsherSettings(keepalive=5)


@pytest.mark.parametrize("version", Version)
def test_lengths_are_refused_by_the_header(version: Version) -> None:
    special = {
        RecordType.SEND: MAX_DATA,
        RecordType.SEND_UDP: MAX_UDP,
        RecordType.SEND_UDP_ANY: MAX_UDP_ANY,
    }
    assert (MAX_DATA, MAX_UDP) == (262144, 65519)
    for kind in limits(version):
        most = special.get(RecordType(kind), 1024)
        check_header(0, kind, version)
        check_header(most, kind, version)
        for length in (-1, -(2**31), most + 1, 2**31 - 1):
            with pytest.raises(RemoteProtocolError, match=str(most)):
                check_header(length, kind, version)


@pytest.mark.parametrize(
    ("version", "kinds"),
    [(V1, (0, -2, 8, 16, 20, 32767, -32768)), (V1_1, (0, -2, 8, 15, 23, RecordType.ACK))],
)
def test_an_unknown_type_is_refused(version: Version, kinds: tuple[int, ...]) -> None:
    for kind in kinds:
        with pytest.raises(RemoteProtocolError, match="unknown record type"):
            check_header(0, kind, version)


@pytest.mark.parametrize(
    "record",
    [
        UsherOpen(AddressType.NAME, "a\0b", 1),
        UsherOpen(AddressType.NAME, "", 1),
        UsherOpen(AddressType.NAME, "a" * 1024, 1),
        UsherOpen(AddressType.NAME, "\ud800", 1),
        UsherOpen(AddressType.IPV4, "::1", 1),
        UsherOpen(AddressType.IPV6, "10.0.0.1", 1),
        UsherOpen(AddressType.IPV4, "10.0.0.1", 65536),
        UsherOpen(AddressType.ONWARD, "tcp:a:1"),
        UsherOpen(AddressType.ONWARD, "tcp:a:1", via=("g",) * 9),
        UsherOpen(AddressType.ONWARD, "tcp:a:1", via=("g" * 256,)),
        UsherOpen(AddressType.ONWARD, "tcp:a:1", via=("",)),
        UsherOpen(AddressType.ONWARD, "tcp:a:1", via=("g" * 250,) * 5),
        UsherOpenReply(0),
        UsherOpenReply(-2),
        UsherOpenReply(32768),
        UsherAck(0),
        UsherAck(65536),
        UsherCredit(-1, 0),
        UsherSendUdp(Address("::1", 1), Address("10.0.0.1", 1), b""),
        UsherSendUdp(Address("10.0.0.1", 65536), Address("10.0.0.1", 1), b""),
        UsherSendUdp(Address("10.0.0.1", 1), Address("10.0.0.1", 1), bytes(65508)),
        UsherSendUdpAny(Address("a" * 254, 1), Address("10.0.0.1", 1), b""),
        UsherSend(bytes(MAX_DATA + 1)),
    ],
)
def test_what_cannot_be_sent_is_an_error_here(record: Record) -> None:
    with pytest.raises(LocalProtocolError):
        encode(record, 1, V1 if isinstance(record, UsherAck) else V1_1)


def test_a_record_of_usher_1_1_cannot_be_sent_in_usher_1() -> None:
    with pytest.raises(LocalProtocolError, match="usher/1 has no record PING"):
        encode(UsherPing(1), 0, V1)


@pytest.mark.parametrize(
    ("alpn", "version"),
    [(b"usher/1", V1), (b"usher/1.1", V1_1), (b"", V1), (None, V1)],
)
def test_the_agreed_protocol_decides_the_version(alpn: bytes | None, version: Version) -> None:
    assert Version.of(alpn) is version
