"""LSTP on the wire: the 12-byte header, its limits, and encode and decode of all 16 messages.

Header, big-endian: length of the body (4), type (1), flags (1), reserved (2,
sent as zero, ignored), channel (4; 0 is the tunnel itself). The messages
themselves are in `lstp_messages` and `lstp_channel_messages`, importable from here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Callable

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.lstp_channel_messages import (
    FLAG_COMPRESSED,
    FLAG_LAST,
    ChannelMessage,
    ConnectionAck,
    ConnectionNack,
    ConnectionRequest,
    ServiceBeginAck,
    ServiceBeginNack,
    ServiceBeginRequest,
    ServiceData,
    ServiceDataPause,
    ServiceDataResume,
    ServiceFreeAck,
    ServiceFreeRequest,
)
from tunnelkit.wire.lstp_messages import (
    BOTH,
    CLIENT_END,
    END_ROLES,
    HOP_ROLES,
    MAX_SERVICES,
    MAX_WINDOW,
    MIDDLE,
    SERVER_END,
    CommonUniqueInfo,
    Error,
    Hop,
    MessageType,
    PropertyExchange,
    Service,
    Shutdown,
    TopologyExchange,
    TunnelMessage,
)
from tunnelkit.wire.message_fields import MAX_REASON

__all__ = [
    "ALPN",
    "BOTH",
    "CLIENT_END",
    "END_ROLES",
    "FLAG_COMPRESSED",
    "FLAG_LAST",
    "HEADER",
    "HEADER_SIZE",
    "HOP_ROLES",
    "LIMITS",
    "MAX_BODY",
    "MAX_DATA",
    "MAX_HOPS",
    "MAX_REASON",
    "MAX_SERVICES",
    "MAX_WINDOW",
    "MIDDLE",
    "SERVER_END",
    "CommonUniqueInfo",
    "ConnectionAck",
    "ConnectionNack",
    "ConnectionRequest",
    "Error",
    "Hop",
    "Message",
    "MessageType",
    "PropertyExchange",
    "Service",
    "ServiceBeginAck",
    "ServiceBeginNack",
    "ServiceBeginRequest",
    "ServiceData",
    "ServiceDataPause",
    "ServiceDataResume",
    "ServiceFreeAck",
    "ServiceFreeRequest",
    "Shutdown",
    "TopologyExchange",
    "WITHOUT_BODY",
    "check_header",
    "decode",
    "derive_common",
    "encode",
    "encode_body",
]

Message = TunnelMessage | ChannelMessage

ALPN = b"lstp/1"
HEADER = struct.Struct(">IBBHI")
"""length, type, flags, reserved, channel."""
HEADER_SIZE = HEADER.size
MAX_DATA = 262144
"""Largest body of SERVICE_DATA."""
MAX_BODY = 16384
"""Largest body of any other message."""
MAX_HOPS = 8
"""Most hops that a topology in clear may have."""

_SERVICE_DATA = int(MessageType.SERVICE_DATA)
_LAST_TYPE = max(MessageType)

LIMITS: dict[int, int] = {
    int(kind): MAX_DATA if kind is MessageType.SERVICE_DATA else MAX_BODY for kind in MessageType
}
"""Largest body of each type."""

_READERS: dict[int, Callable[[bytes], Message]] = {
    int(message.type): message.read
    for message in (
        CommonUniqueInfo,
        TopologyExchange,
        PropertyExchange,
        ConnectionRequest,
        ConnectionAck,
        ConnectionNack,
        ServiceBeginRequest,
        ServiceBeginAck,
        ServiceBeginNack,
        ServiceDataPause,
        ServiceDataResume,
        ServiceFreeRequest,
        ServiceFreeAck,
        Shutdown,
        Error,
    )
}

WITHOUT_BODY: dict[int, Message] = {
    int(message.type): message
    for message in (
        ConnectionAck(),
        ServiceBeginRequest(),
        ServiceDataPause(),
        ServiceFreeRequest(),
        ServiceFreeAck(),
    )
}
"""What messages mean that have nothing but a header."""


def check_header(length: int, kind: int) -> None:
    """Refuse a message by its header, before any of its body is kept (rule X7).

    Raises `RemoteProtocolError` for an unknown type or a body over its limit.
    """
    if length > MAX_BODY and (kind != _SERVICE_DATA or length > MAX_DATA):
        raise RemoteProtocolError(
            f"a message of type {kind} with {length} bytes;"
            f" at most {MAX_DATA if kind == _SERVICE_DATA else MAX_BODY} are allowed"
        )
    if not 1 <= kind <= _LAST_TYPE:
        raise RemoteProtocolError(f"unknown message type {kind}")


def decode(kind: int, flags: int, body: bytes) -> Message:
    """The message in ``body``; unknown flags and fields are ignored.

    Raises `RemoteProtocolError` naming the message, the field and what is expected.
    """
    if not body and (message := WITHOUT_BODY.get(kind)) is not None:
        return message
    reader = _READERS.get(kind)
    if reader is not None:
        return reader(body)
    if kind == _SERVICE_DATA:
        return ServiceData(body, bool(flags & FLAG_COMPRESSED), bool(flags & FLAG_LAST))
    raise RemoteProtocolError(f"unknown message type {kind}")


def encode(message: Message, channel: int = 0) -> bytes:
    """Header and body. Raises `LocalProtocolError` if the body is over its limit."""
    flags = 0
    if type(message) is ServiceData:
        flags = FLAG_COMPRESSED * message.compressed | FLAG_LAST * message.last
    kind, body = message.type, message.body()
    if len(body) > MAX_BODY:  # most messages are far from it
        return encode_body(kind, body, channel, flags)
    return HEADER.pack(len(body), kind, flags, 0, channel) + body


def encode_body(kind: int, body: bytes, channel: int = 0, flags: int = 0) -> bytes:
    """Header and a body that is already bytes: the way to forward one byte for byte."""
    if len(body) > (MAX_DATA if kind == _SERVICE_DATA else MAX_BODY):
        raise LocalProtocolError(f"a body of {len(body)} bytes is too large for type {kind}")
    return HEADER.pack(len(body), kind, flags, 0, channel) + body


def derive_common(secret: bytes, tunnel: str) -> str:
    """The rendezvous id of the tunnel named ``tunnel``: 43 characters of base64url.

    HMAC-SHA256 of the name in UTF-8 under the 32-byte rendezvous ``secret``, so
    that nobody without the secret can guess it. Raises `LocalProtocolError`
    for a secret of another length.
    """
    if len(secret) != 32:
        raise LocalProtocolError(f"a rendezvous secret has 32 bytes, not {len(secret)}")
    digest = hmac.new(secret, tunnel.encode("utf-8"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
