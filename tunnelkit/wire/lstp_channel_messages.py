"""LSTP's messages on channels (row L3): opening one, its data and credit, ending it.

The same conventions as in `lstp_messages`.
"""

from __future__ import annotations

import builtins
import re
import struct
from typing import ClassVar, TypeVar

import attrs

from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.json_body import load, quoted
from tunnelkit.wire.lstp_messages import (
    COMMON_PATTERN,
    COMMON_WORDS,
    MAX_CHANNEL,
    MAX_TEXT,
    MAX_WINDOW,
    MessageType,
)
from tunnelkit.wire.message_fields import body_if_any, body_of, read_code, read_reason, short

FLAG_COMPRESSED = 1
FLAG_LAST = 2

_NO_FIELDS = (b"", b"{}")
"""What messages without fields usually are; no reader is needed for it."""
_PLAIN = rb'\{"%b":"([ !#-\[\]-~]{1,%d})"\}'
_USUAL_REQUEST = re.compile(_PLAIN % (b"destination", MAX_TEXT)).fullmatch
_USUAL_BEGIN_ACK = re.compile(_PLAIN % (b"bound", MAX_TEXT)).fullmatch
"""One field, in ASCII without escapes: what nearly all bodies are needs no parser."""
_OFFSETS = struct.Struct(">QQ")

_M = TypeVar("_M", bound="_WithoutBody")
_R = TypeVar("_R", bound="_WithReason")


class _WithoutBody:
    """A message that says everything by its type."""

    __slots__ = ()
    type: ClassVar[MessageType]

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls: builtins.type[_M], body: bytes) -> _M:
        if body not in _NO_FIELDS:
            load(body, cls.type.name)
        return cls()


@attrs.frozen
class _WithReason:
    """A refusal."""

    type: ClassVar[MessageType]

    code: Code
    reason: str = attrs.field(default="", converter=short)

    def body(self) -> bytes:
        return body_of({"code": self.code.value, "reason": self.reason})

    @classmethod
    def read(cls: builtins.type[_R], body: bytes) -> _R:
        fields = load(body, cls.type.name)
        return cls(read_code(fields), read_reason(fields))


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
        others = (self.service, self.listener, self.origin, self.join)
        if self.destination is not None and self.resource == "channel" and others == _ABSENT:
            return b'{"destination":%b}' % quoted(self.destination).encode("utf-8")
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
        usual = _USUAL_REQUEST(body)
        if usual is not None:
            return cls(destination=usual[1].decode("ascii"))
        fields = load(body, "CONNECTION_REQUEST")
        named = fields.those_of(_WHAT_IS_ASKED_FOR)
        if "resource" in named:
            resource = fields.one_of("resource", ("channel", "connection"))
            if resource == "connection":
                return cls(resource, join=fields.matching("join", COMMON_PATTERN, COMMON_WORDS))
            named = named[1:]
        if len(named) != 1:
            raise RemoteProtocolError(
                "CONNECTION_REQUEST: exactly one of the fields destination, service and listener"
                f" must be there; there are {len(named)}"
            )
        origin = fields.get_text("from", MAX_TEXT)
        if named == ("destination",):
            return cls(destination=fields.text("destination", MAX_TEXT, 1), origin=origin)
        if named == ("service",):
            return cls(service=fields.name("service"), origin=origin)
        return cls(listener=fields.integer("listener", 1, MAX_CHANNEL), origin=origin)


_ABSENT = (None, None, None, None)
_WHAT_IS_ASKED_FOR = ("resource", "destination", "service", "listener")


@attrs.frozen
class ConnectionAck(_WithoutBody):
    """The request is accepted."""

    type: ClassVar[MessageType] = MessageType.CONNECTION_ACK


@attrs.frozen
class ConnectionNack(_WithReason):
    """The request is refused."""

    type: ClassVar[MessageType] = MessageType.CONNECTION_NACK


@attrs.frozen
class ServiceBeginRequest(_WithoutBody):
    """The application starts: connect to the destination now."""

    type: ClassVar[MessageType] = MessageType.SERVICE_BEGIN_REQUEST


@attrs.frozen
class ServiceBeginAck:
    """The destination is connected."""

    type: ClassVar[MessageType] = MessageType.SERVICE_BEGIN_ACK

    bound: str = ""
    """The far socket's own address as ``tcp:HOST:PORT``."""

    def body(self) -> bytes:
        return b'{"bound":%b}' % quoted(self.bound).encode("utf-8")

    @classmethod
    def read(cls, body: bytes) -> ServiceBeginAck:
        usual = _USUAL_BEGIN_ACK(body)
        if usual is not None:
            return cls(usual[1].decode("ascii"))
        return cls(load(body, "SERVICE_BEGIN_ACK").get_text("bound", MAX_TEXT) or "")


@attrs.frozen
class ServiceBeginNack(_WithReason):
    """The destination is not connected."""

    type: ClassVar[MessageType] = MessageType.SERVICE_BEGIN_NACK


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
class ServiceDataPause(_WithoutBody):
    """Stop sending on this channel until the next RESUME."""

    type: ClassVar[MessageType] = MessageType.SERVICE_DATA_PAUSE


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
        if body in _NO_FIELDS:
            return _ORDERLY
        fields = load(body, "SERVICE_FREE_REQUEST")
        if "code" not in fields:
            return _ORDERLY
        return cls(read_code(fields), read_reason(fields))


_ORDERLY = ServiceFreeRequest()


@attrs.frozen
class ServiceFreeAck(_WithoutBody):
    """The channel's resources are freed."""

    type: ClassVar[MessageType] = MessageType.SERVICE_FREE_ACK


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
