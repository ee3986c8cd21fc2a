"""DTLS 1.2 as far as it can be seen from outside (RFC 6347): what a datagram is, and its hello.

Every datagram of a stranger is looked at here before OpenSSL sees it (rule X19). What is in clear:
the header of each record, and the messages before the keys::

    record     TYPE 1 | VERSION 2 | EPOCH 2 | SEQUENCE 6 | LENGTH 2 | content
    handshake  TYPE 1 | LENGTH 3 | MESSAGE SEQUENCE 2 | OFFSET 3 | FRAGMENT LENGTH 3 | body
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum

import attrs

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Writer
from tunnelkit.wire.tls_peek import read_extensions

RECORD_HEADER = 13

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CONNECTION_ID, ACK = 25, 26
CLIENT_HELLO, HELLO_VERIFY_REQUEST = 1, 3

_HEADER = struct.Struct(">BBxH6xH")
_HANDSHAKE_HEADER = 12
_DTLS_1_0 = b"\xfe\xff"
_LONGEST_RECORD = (1 << 14) + 256
_WHAT = "DTLS ClientHello"


class Kind(Enum):
    """What a datagram is, by its first record."""

    HELLO = "a ClientHello"
    FRAGMENT = "a piece of a ClientHello"
    RECORD = "another record of DTLS 1.2, or an acknowledgement"
    CONNECTION_ID = "a connection id or DTLS 1.3"
    OTHER = "none of these"


def classify(data: bytes | memoryview) -> Kind:
    """What ``data`` is. Whoever gets a HELLO knows that its headers are whole, not its content."""
    if len(data) < RECORD_HEADER:
        return Kind.OTHER
    first, version, epoch_of, length = _HEADER.unpack_from(data)
    if first == CONNECTION_ID or 32 <= first < 64:
        return Kind.CONNECTION_ID
    if (
        version != 0xFE
        or not CHANGE_CIPHER_SPEC <= first <= ACK
        or not 0 < length <= _LONGEST_RECORD
        or RECORD_HEADER + length > len(data)
    ):
        return Kind.OTHER
    if first == HANDSHAKE and not epoch_of:
        if length < _HANDSHAKE_HEADER:
            return Kind.OTHER
        if data[13] == CLIENT_HELLO:
            whole = data[14:17] == data[22:25] and data[19:22] == b"\0\0\0"
            fits = int.from_bytes(data[14:17], "big") == length - _HANDSHAKE_HEADER
            return Kind.HELLO if whole and fits else Kind.FRAGMENT
    return Kind.RECORD


def records(data: bytes | memoryview) -> Iterator[memoryview]:
    """The records in a datagram or a run of them, each with its header; ends at what is none."""
    view = memoryview(data)
    while len(view) >= RECORD_HEADER:
        end = RECORD_HEADER + (view[11] << 8 | view[12])
        if end > len(view):
            return
        yield view[:end]
        view = view[end:]


def epoch(record: bytes | memoryview) -> int:
    """The epoch of a record: 0 is in clear."""
    return record[3] << 8 | record[4]


@attrs.frozen
class ClientHello:
    """What is needed of a hello. `ClientHello.read` checks it."""

    random: bytes
    """32 bytes; a repeated hello has the same."""
    cookie: bytes
    """Empty in a first hello."""
    parameters: bytes
    """What both hellos of a handshake have in common, in order: version, random, session id,
    cipher suites, compression methods."""
    server_name: str
    """In lower case; empty: none."""
    sequence: bytes
    """Record sequence number, 6 bytes, which the answer repeats (4.2.1)."""
    message_sequence: bytes

    @classmethod
    def read(cls, data: bytes | memoryview) -> ClientHello:
        """The hello in a datagram that `classify` calls HELLO; raises `RemoteProtocolError`."""
        length = data[11] << 8 | data[12]
        reader = Reader(data[RECORD_HEADER + _HANDSHAKE_HEADER : RECORD_HEADER + length], _WHAT)
        version, random = reader.take(2), reader.take(32)
        session, cookie = reader.block8(), reader.block8()
        suites, compressions = reader.block16(), reader.block8()
        if not suites or len(suites) % 2 or not compressions or len(session) > 32:
            raise RemoteProtocolError(f"{_WHAT}: a field has an impossible length")
        if version[0] != 0xFE:
            raise RemoteProtocolError(f"{_WHAT}: not a version of DTLS")
        name = read_extensions(reader).name
        parameters = Writer().put(version).put(random).block8(session).block16(suites)
        return cls(
            random,
            cookie,
            parameters.block8(compressions).done(),
            name,
            bytes(data[5:11]),
            bytes(data[17:19]),
        )


def hello_verify_request(hello: ClientHello, cookie: bytes) -> bytes:
    """The answer to a first hello: come again with ``cookie``. It is shorter than any hello."""
    body = Writer().put(_DTLS_1_0).block8(cookie).done()
    size = len(body).to_bytes(3, "big")
    message = Writer().u8(HELLO_VERIFY_REQUEST).put(size).put(hello.message_sequence)
    message.put(b"\0\0\0").put(size).put(body)
    record = Writer().u8(HANDSHAKE).put(_DTLS_1_0).put(b"\0\0").put(hello.sequence)
    return record.block16(message.done()).done()


def offered_cookie(data: bytes | memoryview) -> bytes:
    """The cookie in a HelloVerifyRequest; empty if the datagram begins with anything else."""
    start = RECORD_HEADER + _HANDSHAKE_HEADER
    if len(data) < start + 3 or data[0] != HANDSHAKE or epoch(data):
        return b""
    if data[RECORD_HEADER] != HELLO_VERIFY_REQUEST:
        return b""
    cookie = bytes(data[start + 3 : start + 3 + data[start + 2]])
    return cookie if len(cookie) == data[start + 2] else b""
