"""Secure Proxy on the wire: LSTP's 12-byte header on channel 0, and 18 messages of JSON.

The messages themselves are in `secureproxy_messages` and
`secureproxy_session_messages`, importable from here.
"""

from __future__ import annotations

from tunnelkit.wire.lstp import HEADER, HEADER_SIZE, MAX_BODY
from tunnelkit.wire.message_set import MessageSet
from tunnelkit.wire.secureproxy_fields import (
    ASK,
    GROUP,
    KINDS,
    MAX_ENTRIES,
    MAX_RESOURCES,
    PASS,
    PRESENT,
    SESSION,
    WEB,
    MessageType,
    is_host,
)
from tunnelkit.wire.secureproxy_messages import (
    ControlMessage,
    Drain,
    Entry,
    Error,
    Hello,
    Keepalive,
    Login,
    Lookup,
    Ok,
    Presence,
    Publish,
    Resource,
    Welcome,
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

_MESSAGES: MessageSet[Message] = MessageSet(
    (
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
)

check_header = _MESSAGES.check_header
decode = _MESSAGES.decode
encode = _MESSAGES.encode
