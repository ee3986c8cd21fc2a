"""SOCKS 4, 4a and 5 (RFC 1928, RFC 1929) as bytes: what each message looks like.

Every ``parse_*`` function takes the bytes received so far and returns None while
they are not yet a whole message, otherwise the message and how many bytes it took.
A rule broken by the sender raises `RemoteProtocolError` as soon as it can be seen;
something that the protocol cannot carry raises `LocalProtocolError` in ``encode_*``.
No message is longer than 518 bytes, so nothing needs a cap beyond its own format.

An address stands as ``host`` (an IPv4 address, an IPv6 address without brackets, or a
name in ASCII) and ``port`` (0 to 65535). All numbers are big-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

import attrs

from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.primitives import Reader, Truncated
from tunnelkit.wire.socks_address import (
    IPV4,
    dotted,
    encode_address,
    name_bytes,
    packed_ip,
    port_bytes,
    read_address,
    split_address,
    text_of_name,
)

_T = TypeVar("_T")

NO_AUTHENTICATION = 0
USER_PASSWORD = 2
NO_ACCEPTABLE_METHOD = 0xFF

GRANTED4, REJECTED4 = 90, 91
"""The SOCKS 4 reply codes that tunnelkit sends."""


class Command(IntEnum):
    """What a client asks for; the same numbers in SOCKS 4 (which has no UDP) and 5."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class Reply5(IntEnum):
    """Reply codes of SOCKS 5, RFC 1928 section 6."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


_MEANING5: dict[int, tuple[str, Code]] = {
    Reply5.GENERAL_FAILURE: ("general failure", Code.UNREACHABLE),
    Reply5.NOT_ALLOWED: ("not allowed by ruleset", Code.NOT_ALLOWED),
    Reply5.NETWORK_UNREACHABLE: ("network unreachable", Code.UNREACHABLE),
    Reply5.HOST_UNREACHABLE: ("host unreachable", Code.UNREACHABLE),
    Reply5.CONNECTION_REFUSED: ("connection refused", Code.REFUSED),
    Reply5.TTL_EXPIRED: ("timed out (TTL expired)", Code.TIMED_OUT),
    Reply5.COMMAND_NOT_SUPPORTED: ("command not supported", Code.REFUSED),
    Reply5.ADDRESS_TYPE_NOT_SUPPORTED: ("address type not supported", Code.REFUSED),
}
_MEANING4 = {
    REJECTED4: ("request rejected or failed", Code.REFUSED),
    92: ("it cannot reach identd on this machine", Code.NOT_ALLOWED),
    93: ("identd on this machine reports another user", Code.NOT_ALLOWED),
}

# HOST_UNREACHABLE rather than NETWORK_UNREACHABLE wherever both would do: the first is never wrong.
_CODE_TO_REPLY5 = {
    Code.REFUSED: Reply5.CONNECTION_REFUSED,
    Code.RESET: Reply5.CONNECTION_REFUSED,
    Code.UNREACHABLE: Reply5.HOST_UNREACHABLE,
    Code.NO_SUCH_HOST: Reply5.HOST_UNREACHABLE,
    Code.NO_SUCH_SERVICE: Reply5.HOST_UNREACHABLE,
    Code.TIMED_OUT: Reply5.TTL_EXPIRED,
    Code.NOT_ALLOWED: Reply5.NOT_ALLOWED,
}


def reply5_for(code: Code) -> Reply5:
    """The SOCKS 5 reply code that tells a client why it was refused."""
    return _CODE_TO_REPLY5.get(code, Reply5.GENERAL_FAILURE)


def meaning_of_reply5(reply: int) -> tuple[str, Code]:
    """A SOCKS 5 reply code other than SUCCEEDED in words, and as the `Code` nearest to it."""
    return _MEANING5.get(reply) or (f"reply code {reply}", Code.REFUSED)


def meaning_of_reply4(reply: int) -> tuple[str, Code]:
    """A SOCKS 4 reply code other than GRANTED4 in words, and as the `Code` nearest to it."""
    return _MEANING4.get(reply) or (f"reply code {reply}", Code.REFUSED)


@attrs.frozen
class Request:
    """A client's request, of either version."""

    version: int
    """4 (also for 4a) or 5."""
    command: int
    """Usually a `Command`, but any byte can come."""
    host: str
    port: int
    user: bytes = b""
    """The user id of SOCKS 4, which nothing verifies; empty for SOCKS 5."""


@attrs.frozen
class Reply:
    """A server's answer to a request; host and port are its own address for the connection."""

    code: int
    host: str
    port: int


@attrs.frozen
class Credentials:
    """User name and password, RFC 1929; each at most 255 bytes."""

    user: bytes
    password: bytes = attrs.field(repr=False)


# -- SOCKS 5 --------------------------------------------------------------


def _whole(read: Callable[[Reader], _T], data: bytes, what: str) -> tuple[_T, int] | None:
    reader = Reader(data, what)
    try:
        value = read(reader)
    except Truncated:
        return None
    return value, reader.offset


def _expect_version(reader: Reader, expected: int, what: str) -> None:
    version = reader.u8()
    if version != expected:
        raise RemoteProtocolError(f"{what} begins with {version}, not {expected}")


def encode_greeting(methods: tuple[int, ...]) -> bytes:
    """The client's first message: version 5 and the ways to log in that it offers."""
    if not 0 < len(methods) <= 255:
        raise LocalProtocolError("a greeting offers 1 to 255 methods")
    return bytes((5, len(methods), *methods))


def _read_greeting(reader: Reader) -> tuple[int, ...]:
    _expect_version(reader, 5, "the SOCKS 5 greeting")
    return tuple(reader.block8())


def parse_greeting(data: bytes) -> tuple[tuple[int, ...], int] | None:
    """The methods that a client offers (possibly none)."""
    return _whole(_read_greeting, data, "the SOCKS 5 greeting")


def encode_method(method: int) -> bytes:
    """The server's choice among the methods offered."""
    return bytes((5, method))


def _read_method(reader: Reader) -> int:
    _expect_version(reader, 5, "the answer to the SOCKS 5 greeting")
    return reader.u8()


def parse_method(data: bytes) -> tuple[int, int] | None:
    """The method that the server chose."""
    return _whole(_read_method, data, "the answer to the SOCKS 5 greeting")


def encode_credentials(credentials: Credentials) -> bytes:
    """User name and password, RFC 1929."""
    user, password = credentials.user, credentials.password
    if len(user) > 255 or len(password) > 255:
        raise LocalProtocolError("SOCKS 5 carries user names and passwords of at most 255 bytes")
    return bytes((1, len(user))) + user + bytes((len(password),)) + password


def _read_credentials(reader: Reader) -> Credentials:
    _expect_version(reader, 1, "the user name and password message")
    user = reader.block8()
    return Credentials(user, reader.block8())


def parse_credentials(data: bytes) -> tuple[Credentials, int] | None:
    """User name and password, RFC 1929; both may be empty, as some clients send them."""
    return _whole(_read_credentials, data, "the user name and password message")


def encode_verdict(accepted: bool) -> bytes:
    """The server's answer to user name and password."""
    return b"\x01\x00" if accepted else b"\x01\x01"


def _read_verdict(reader: Reader) -> bool:
    version = reader.u8()
    # RFC 1929 says version 1; servers that repeat the 5 of SOCKS are common enough to bear with.
    if version not in (1, 5):
        raise RemoteProtocolError(f"the answer to the password begins with {version}, not 1")
    return reader.u8() == 0


def parse_verdict(data: bytes) -> tuple[bool, int] | None:
    """True if the server accepts user name and password."""
    return _whole(_read_verdict, data, "the answer to the password")


def encode_request5(command: int, host: str, port: int) -> bytes:
    """A SOCKS 5 request."""
    return bytes((5, command, 0)) + encode_address(host, port)


def _read_request5(reader: Reader) -> Request:
    _expect_version(reader, 5, "the SOCKS 5 request")
    command = reader.u8()
    reader.u8()  # reserved
    host, port = read_address(reader)
    return Request(5, command, host, port)


def parse_request5(data: bytes) -> tuple[Request, int] | None:
    """A SOCKS 5 request."""
    return _whole(_read_request5, data, "the SOCKS 5 request")


def encode_reply5(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """The answer to a SOCKS 5 request."""
    return bytes((5, code, 0)) + encode_address(host, port)


def _read_reply5(reader: Reader) -> Reply:
    _expect_version(reader, 5, "the SOCKS 5 reply")
    code = reader.u8()
    if code != Reply5.SUCCEEDED:
        return Reply(code, "", 0)
    reader.u8()  # reserved
    host, port = read_address(reader)
    return Reply(code, host, port)


def parse_reply5(data: bytes) -> tuple[Reply, int] | None:
    """The answer to a SOCKS 5 request.

    A refusal ends with its code here: many servers close without sending the rest well-formed.
    """
    return _whole(_read_reply5, data, "the SOCKS 5 reply")


def encode_datagram(host: str, port: int, payload: bytes) -> bytes:
    """One UDP datagram with the header of RFC 1928 section 7 (no fragments)."""
    return b"\x00\x00\x00" + encode_address(host, port) + payload


def parse_datagram(datagram: bytes | memoryview) -> tuple[str, int, int]:
    """Host, port and the offset of the payload of a datagram; fragments are refused."""
    if len(datagram) < 4:
        raise RemoteProtocolError("the datagram is shorter than its SOCKS header")
    if datagram[2]:
        raise RemoteProtocolError("the datagram is a fragment, which tunnelkit does not reassemble")
    return split_address(datagram, 3)


# -- SOCKS 4 and 4a -------------------------------------------------------


def encode_request4(
    command: int, host: str, port: int, user: bytes = b"", *, names: bool = False
) -> bytes:
    """A SOCKS 4 request, or with ``names`` a SOCKS 4a one, in which host may be a name."""
    if len(user) > 255 or 0 in user:
        raise LocalProtocolError("SOCKS 4 carries user ids of at most 255 bytes without NUL")
    head = bytes((4, command)) + port_bytes(port)
    packed = packed_ip(host)
    if packed is not None and packed[0] == IPV4:
        address = packed[1]
        if address[:3] == b"\0\0\0" and address[3]:
            raise LocalProtocolError(f"SOCKS 4 cannot carry the address {host}")
        return head + address + user + b"\0"
    if not names:
        raise LocalProtocolError(f"SOCKS 4 carries only IPv4 addresses, not {host[:300]}")
    # SOCKS 4a has no IPv6, but servers that resolve names mostly take the text of an address too.
    return head + b"\0\0\0\x01" + user + b"\0" + name_bytes(host) + b"\0"


def _read_request4(reader: Reader) -> Request:
    _expect_version(reader, 4, "the SOCKS 4 request")
    command, port, address = reader.u8(), reader.u16(), reader.take(4)
    user = reader.until(0, 255)
    host = dotted(address)
    if address[:3] == b"\0\0\0" and address[3]:
        host = text_of_name(reader.until(0, 255), "the SOCKS 4a host name")
    return Request(4, command, host, port, user)


def parse_request4(data: bytes) -> tuple[Request, int] | None:
    """A SOCKS 4 or 4a request."""
    return _whole(_read_request4, data, "the SOCKS 4 request")


def encode_reply4(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """The answer to a SOCKS 4 request; an address that is not IPv4 is sent as 0.0.0.0."""
    packed = packed_ip(host)
    address = packed[1] if packed is not None and packed[0] == IPV4 else b"\0\0\0\0"
    return bytes((0, code)) + port_bytes(port) + address


def _read_reply4(reader: Reader) -> Reply:
    version = reader.u8()
    # The version of a reply is 0; servers that repeat the 4 of the request exist.
    if version not in (0, 4):
        raise RemoteProtocolError(f"the SOCKS 4 reply begins with {version}, not 0")
    code, port = reader.u8(), reader.u16()
    return Reply(code, dotted(reader.take(4)), port)


def parse_reply4(data: bytes) -> tuple[Reply, int] | None:
    """The answer to a SOCKS 4 request."""
    return _whole(_read_reply4, data, "the SOCKS 4 reply")
