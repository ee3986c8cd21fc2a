"""Secure Proxy on the wire: LSTP's 12-byte header on channel 0, and 18 messages of JSON.

The messages themselves are in `secureproxy_messages` and
`secureproxy_session_messages`, importable from here.
"""

from __future__ import annotations

from collections.abc import Callable

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import Frame
from tunnelkit.wire.lstp import HEADER, HEADER_SIZE, MAX_BODY
from tunnelkit.wire.secureproxy_messages import (
    ASK,
    GROUP,
    KINDS,
    MAX_ENTRIES,
    MAX_RESOURCES,
    PASS,
    PRESENT,
    SESSION,
    WEB,
    ControlMessage,
    Drain,
    Entry,
    Error,
    Hello,
    Keepalive,
    Login,
    Lookup,
    MessageType,
    Ok,
    Presence,
    Publish,
    Resource,
    Welcome,
    is_host,
)
from tunnelkit.wire.secureproxy_session_messages import (
    ANY,
    ONE,
    TLS_CLIENT,
    TLS_SERVER,
    Answer,
    Connect,
    Incoming,
    Join,
    Session,
    SessionMessage,
    Spare,
    StartPass,
    StartSecure,
    StartWeb,
)

__all__ = [
    "ALPN",
    "ANY",
    "ASK",
    "GROUP",
    "HEADER",
    "HEADER_SIZE",
    "KINDS",
    "MAX_BODY",
    "MAX_ENTRIES",
    "MAX_RESOURCES",
    "ONE",
    "PASS",
    "PRESENT",
    "SESSION",
    "TLS_CLIENT",
    "TLS_SERVER",
    "WEB",
    "Answer",
    "Connect",
    "Drain",
    "Entry",
    "Error",
    "Hello",
    "Incoming",
    "Join",
    "Keepalive",
    "Login",
    "Lookup",
    "Message",
    "MessageType",
    "Ok",
    "Presence",
    "Publish",
    "Resource",
    "Session",
    "Spare",
    "StartPass",
    "StartSecure",
    "StartWeb",
    "Welcome",
    "check_header",
    "decode",
    "encode",
    "is_host",
]

Message = ControlMessage | SessionMessage

ALPN = b"secure-proxy/1"
"""What a client and the Communication Server agree on; between clients it is a mux's."""

_READERS: dict[int, Callable[[bytes], Message]] = {
    int(message.type): message.read
    for message in (
        Hello,
        Welcome,
        Publish,
        Connect,
        Incoming,
        Answer,
        Join,
        StartSecure,
        StartPass,
        Lookup,
        Presence,
        Drain,
        Error,
        Ok,
        Keepalive,
        Session,
        Spare,
        StartWeb,
    )
}


def check_header(length: int, kind: int) -> None:
    """Refuse a message by its header, before any of its body is kept (rule X7).

    Raises `RemoteProtocolError` for an unknown type or a body over its limit.
    """
    if length > MAX_BODY:
        raise RemoteProtocolError(
            f"a message of type {kind} with {length} bytes; at most {MAX_BODY} are allowed"
        )
    if kind not in _READERS:
        raise RemoteProtocolError(f"unknown message type {kind}")


def decode(frame: Frame) -> Message:
    """The message in ``frame``; flags and unknown fields are ignored.

    Raises `RemoteProtocolError` naming the message, the field and what is expected.
    """
    if frame.channel:
        raise RemoteProtocolError(f"channel {frame.channel}, channel 0 expected")
    reader = _READERS.get(frame.type)
    if reader is None:
        raise RemoteProtocolError(f"unknown message type {frame.type}")
    return reader(frame.body)


def encode(message: Message) -> bytes:
    """Header and body. Raises `LocalProtocolError` if the body is over its limit."""
    body = message.body()
    if len(body) > MAX_BODY:
        raise LocalProtocolError(f"a body of {len(body)} bytes is too large for {message.type}")
    return HEADER.pack(len(body), message.type, 0, 0, 0) + body
