"""LSTP's messages on channels (row L3): opening one, its data and credit, ending it.

The same conventions as in `lstp_messages`.
"""

from __future__ import annotations

import struct
from typing import ClassVar

import attrs

from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.json_body import load
from tunnelkit.wire.lstp_messages import (
    COMMON_PATTERN,
    COMMON_WORDS,
    MAX_CHANNEL,
    MAX_TEXT,
    MAX_WINDOW,
    MessageType,
    body_if_any,
    body_of,
    read_code,
    read_reason,
    short,
)

FLAG_COMPRESSED = 1
FLAG_LAST = 2

_OFFSETS = struct.Struct(">QQ")


@attrs.frozen
class ConnectionRequest:
    """Asks for a channel (exactly one of destination, service, listener) or a connection (join)."""

    type: ClassVar[MessageType] = MessageType.CONNECTION_REQUEST

    resource: str = "channel"
    """``channel`` or ``connection`` (a further tunnel connection)."""
    destination: str | None = None
    """For a channel: ``tcp:HOST:PORT`` and the like."""
    service: str | None = None
    """For a channel: the name of a published service."""
    listener: int | None = None
    """For a channel: id of the listening channel whose accepted connection this is."""
    origin: str | None = None
    """With ``listener``: the client's address; ``from`` on the wire."""
    join: str | None = None
    """For a connection: a fresh random rendezvous id."""

    def body(self) -> bytes:
        fields = {
            "resource": None if self.resource == "channel" else self.resource,
            "destination": self.destination,
            "service": self.service,
            "listener": self.listener,
            "from": self.origin,
            "join": self.join,
        }
        return body_if_any(**fields)

    @classmethod
    def read(cls, body: bytes) -> ConnectionRequest:
        fields = load(body, "CONNECTION_REQUEST")
        if "resource" in fields:
            resource = fields.one_of("resource", ("channel", "connection"))
            if resource == "connection":
                return cls(resource, join=fields.matching("join", COMMON_PATTERN, COMMON_WORDS))
        named = ("destination" in fields) + ("service" in fields) + ("listener" in fields)
        if named != 1:
            raise RemoteProtocolError(
                "CONNECTION_REQUEST: exactly one of the fields destination, service and listener"
                f" must be there; there are {named}"
            )
        return cls(
            destination=fields.get_text("destination", MAX_TEXT, 1),
            service=fields.name("service") if "service" in fields else None,
            listener=fields.get_integer("listener", 1, MAX_CHANNEL),
            origin=fields.get_text("from", MAX_TEXT),
        )


@attrs.frozen
class ConnectionAck:
    """The request is accepted."""

    type: ClassVar[MessageType] = MessageType.CONNECTION_ACK

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls, body: bytes) -> ConnectionAck:
        load(body, "CONNECTION_ACK")
        return _CONNECTION_ACK


_CONNECTION_ACK = ConnectionAck()


@attrs.frozen
class ConnectionNack:
    """The request is refused."""

    type: ClassVar[MessageType] = MessageType.CONNECTION_NACK

    code: Code
    reason: str = attrs.field(default="", converter=short)

    def body(self) -> bytes:
        return body_of({"code": self.code.value, "reason": self.reason})

    @classmethod
    def read(cls, body: bytes) -> ConnectionNack:
        fields = load(body, "CONNECTION_NACK")
        return cls(read_code(fields), read_reason(fields))


@attrs.frozen
class ServiceBeginRequest:
    """The application starts: connect to the destination now."""

    type: ClassVar[MessageType] = MessageType.SERVICE_BEGIN_REQUEST

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls, body: bytes) -> ServiceBeginRequest:
        load(body, "SERVICE_BEGIN_REQUEST")
        return _SERVICE_BEGIN_REQUEST


_SERVICE_BEGIN_REQUEST = ServiceBeginRequest()


@attrs.frozen
class ServiceBeginAck:
    """The destination is connected."""

    type: ClassVar[MessageType] = MessageType.SERVICE_BEGIN_ACK

    bound: str = ""
    """The far socket's own address as ``tcp:HOST:PORT``."""

    def body(self) -> bytes:
        return body_of({"bound": self.bound})

    @classmethod
    def read(cls, body: bytes) -> ServiceBeginAck:
        return cls(load(body, "SERVICE_BEGIN_ACK").get_text("bound", MAX_TEXT) or "")


@attrs.frozen
class ServiceBeginNack:
    """The destination is not connected."""

    type: ClassVar[MessageType] = MessageType.SERVICE_BEGIN_NACK

    code: Code
    reason: str = attrs.field(default="", converter=short)

    def body(self) -> bytes:
        return body_of({"code": self.code.value, "reason": self.reason})

    @classmethod
    def read(cls, body: bytes) -> ServiceBeginNack:
        fields = load(body, "SERVICE_BEGIN_NACK")
        return cls(read_code(fields), read_reason(fields))


@attrs.frozen
class ServiceData:
    """Application bytes; the only message whose flags mean something."""

    type: ClassVar[MessageType] = MessageType.SERVICE_DATA

    data: bytes
    compressed: bool = False
    last: bool = False
    """Last data in this direction (half-close)."""

    def body(self) -> bytes:
        return self.data


@attrs.frozen
class ServiceDataPause:
    """Stop sending on this channel until the next RESUME."""

    type: ClassVar[MessageType] = MessageType.SERVICE_DATA_PAUSE

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls, body: bytes) -> ServiceDataPause:
        load(body, "SERVICE_DATA_PAUSE")
        return _SERVICE_DATA_PAUSE


_SERVICE_DATA_PAUSE = ServiceDataPause()


@attrs.frozen
class ServiceDataResume:
    """How far the application has taken the stream, and up to where the peer may send."""

    type: ClassVar[MessageType] = MessageType.SERVICE_DATA_RESUME

    taken: int
    """Absolute offset, plain bytes."""
    limit: int
    """Absolute offset, at most 16 MiB more than ``taken``."""

    def body(self) -> bytes:
        return _OFFSETS.pack(self.taken, self.limit)

    @classmethod
    def read(cls, body: bytes) -> ServiceDataResume:
        if len(body) != _OFFSETS.size:
            raise RemoteProtocolError(
                f"SERVICE_DATA_RESUME: the body must be 16 bytes; it is {len(body)}"
            )
        taken, limit = _OFFSETS.unpack(body)
        if not 0 <= limit - taken <= MAX_WINDOW:
            raise RemoteProtocolError(
                "SERVICE_DATA_RESUME: field limit must be from taken to taken + 16 MiB"
            )
        return cls(taken, limit)


@attrs.frozen
class ServiceFreeRequest:
    """Ends a channel: orderly without ``code``, as an abort with it."""

    type: ClassVar[MessageType] = MessageType.SERVICE_FREE_REQUEST

    code: Code | None = None
    reason: str = attrs.field(default="", converter=short)

    def body(self) -> bytes:
        if self.code is None:
            return b""
        return body_of({"code": self.code.value, "reason": self.reason})

    @classmethod
    def read(cls, body: bytes) -> ServiceFreeRequest:
        fields = load(body, "SERVICE_FREE_REQUEST")
        if "code" not in fields:
            return _ORDERLY
        return cls(read_code(fields), read_reason(fields))


_ORDERLY = ServiceFreeRequest()


@attrs.frozen
class ServiceFreeAck:
    """The channel's resources are freed."""

    type: ClassVar[MessageType] = MessageType.SERVICE_FREE_ACK

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls, body: bytes) -> ServiceFreeAck:
        load(body, "SERVICE_FREE_ACK")
        return _SERVICE_FREE_ACK


_SERVICE_FREE_ACK = ServiceFreeAck()


ChannelMessage = (
    ConnectionRequest
    | ConnectionAck
    | ConnectionNack
    | ServiceBeginRequest
    | ServiceBeginAck
    | ServiceBeginNack
    | ServiceData
    | ServiceDataPause
    | ServiceDataResume
    | ServiceFreeRequest
    | ServiceFreeAck
)
