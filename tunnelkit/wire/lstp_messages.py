"""LSTP's messages about the tunnel itself (row L3), named as in ``docs/spec/lstp.md``.

Those on channels are in `lstp_channel_messages`.

Every class has ``type`` (its number on the wire), ``body()`` (its fields as
bytes) and ``read(body)``, which raises `RemoteProtocolError` for anything that
breaks the rules of a field. A field that is None is absent on the wire.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import ClassVar

import attrs

from tunnelkit.errors import Code
from tunnelkit.wire.checkpoint import Checkpoint
from tunnelkit.wire.json_body import Fields, load
from tunnelkit.wire.message_fields import (
    body_if_any,
    body_of,
    read_code,
    read_reason,
    short,
)


class MessageType(IntEnum):
    """The type byte of the header."""

    COMMON_UNIQUE_INFO = 1
    TOPOLOGY_EXCHANGE = 2
    PROPERTY_EXCHANGE = 3
    CONNECTION_REQUEST = 4
    CONNECTION_ACK = 5
    CONNECTION_NACK = 6
    SERVICE_BEGIN_REQUEST = 7
    SERVICE_BEGIN_ACK = 8
    SERVICE_BEGIN_NACK = 9
    SERVICE_DATA = 10
    SERVICE_DATA_PAUSE = 11
    SERVICE_DATA_RESUME = 12
    SERVICE_FREE_REQUEST = 13
    SERVICE_FREE_ACK = 14
    SHUTDOWN = 15
    ERROR = 16


CLIENT_END = "client-end"
SERVER_END = "server-end"
BOTH = "both"
MIDDLE = "middle"
END_ROLES = (CLIENT_END, SERVER_END, BOTH)
HOP_ROLES = (*END_ROLES, MIDDLE)

MAX_TEXT = 1024
MAX_SERVICES = 128
MAX_WINDOW = 16 * 1024 * 1024
MAX_SECONDS = 10 * 365 * 86400.0
_MAX_PATH = 32
MAX_CHANNEL = 0xFFFFFFFF

COMMON_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")
COMMON_WORDS = "43 characters of base64url"
_NONCE = re.compile(r"[0-9a-f]{32}")


@attrs.frozen
class CommonUniqueInfo:
    """Who wants to meet whom: the first message of an end."""

    type: ClassVar[MessageType] = MessageType.COMMON_UNIQUE_INFO

    common: str
    """Rendezvous id, see `tunnelkit.wire.lstp.derive_common`."""
    unique: str
    """Name of the sender, as in its certificate without the ``tunnelkit:``."""
    role: str
    """``client-end``, ``server-end`` or ``both``."""
    version: int = 1

    def body(self) -> bytes:
        return body_of(
            {
                "version": self.version,
                "common": self.common,
                "unique": self.unique,
                "role": self.role,
            }
        )

    @classmethod
    def read(cls, body: bytes) -> CommonUniqueInfo:
        fields = load(body, "COMMON_UNIQUE_INFO")
        return cls(
            version=fields.integer("version", 1, 1),
            common=fields.matching("common", COMMON_PATTERN, COMMON_WORDS),
            unique=fields.name("unique"),
            role=fields.one_of("role", END_ROLES),
        )


@attrs.frozen
class Hop:
    """One party on the path."""

    name: str
    role: str
    """``client-end``, ``server-end``, ``both`` or ``middle``."""
    address: str
    """Text of the party's choice."""
    nonce: str
    """32 lower-case hex digits, random; a middle's is one per pairing."""

    def fields(self) -> dict[str, str]:
        """As an object for JSON."""
        return {
            "name": self.name,
            "role": self.role,
            "address": self.address,
            "nonce": self.nonce,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Hop:
        """From an object in JSON."""
        return cls(
            name=fields.name("name"),
            role=fields.one_of("role", HOP_ROLES),
            address=fields.text("address", 255),
            nonce=fields.matching("nonce", _NONCE, "32 lower-case hex digits"),
        )


@attrs.frozen
class TopologyExchange:
    """The path: in clear from the far end to here, inside TLS from the sender to here."""

    type: ClassVar[MessageType] = MessageType.TOPOLOGY_EXCHANGE

    hops: tuple[Hop, ...]
    admission: str | None = attrs.field(default=None, repr=False)
    """Token for the middle, in clear only; the middle removes it."""

    def body(self) -> bytes:
        return body_if_any(hops=[hop.fields() for hop in self.hops], admission=self.admission)

    @classmethod
    def read(cls, body: bytes) -> TopologyExchange:
        fields = load(body, "TOPOLOGY_EXCHANGE")
        hops = fields.objects("hops", _MAX_PATH)
        if not hops:
            raise fields.wrong("hops", "a list with at least one entry")
        return cls(
            hops=tuple(Hop.from_fields(entry) for entry in hops),
            admission=fields.get_text("admission", MAX_TEXT),
        )


@attrs.frozen
class Service:
    """One published service (trusted sockets, rows T1 to T3)."""

    name: str
    ttl: float | None = None
    """Seconds left; None: no end is known."""
    listen: int | None = None
    """Port that the outside end is asked to open, 1 to 65535."""

    @classmethod
    def from_fields(cls, fields: Fields) -> Service:
        """From an object in JSON."""
        return cls(
            name=fields.name("name"),
            ttl=None if fields.is_null("ttl") else fields.number("ttl", MAX_SECONDS),
            listen=None if fields.is_null("listen") else fields.integer("listen", 1, 65535),
        )


@attrs.frozen
class PropertyExchange:
    """Limits and tables of the sender; an absent field keeps its value. Empty: a keepalive."""

    type: ClassVar[MessageType] = MessageType.PROPERTY_EXCHANGE

    software: str | None = None
    compression: tuple[str, ...] | None = None
    """In order of preference."""
    max_channels: int | None = None
    window: int | None = None
    """Bytes the peer may send on a new channel before the first RESUME, at most 16 MiB."""
    services: tuple[Service, ...] | None = None
    keepalive: float | None = None
    """Seconds, more than 0: the sender is never silent for longer."""
    audit: Checkpoint | None = None
    """How far the sender's audit file has come."""

    def body(self) -> bytes:
        services = self.services
        return body_if_any(
            software=self.software,
            compression=self.compression,
            max_channels=self.max_channels,
            window=self.window,
            services=None if services is None else [attrs.asdict(entry) for entry in services],
            keepalive=self.keepalive,
            audit=None if self.audit is None else attrs.asdict(self.audit),
        )

    @classmethod
    def read(cls, body: bytes) -> PropertyExchange:
        if not body:
            return _NO_PROPERTIES
        fields = load(body, "PROPERTY_EXCHANGE")
        services = None
        if "services" in fields:
            entries = fields.objects("services", MAX_SERVICES)
            services = tuple(Service.from_fields(entry) for entry in entries)
            if len({entry.name for entry in services}) != len(services):
                raise fields.wrong("services", "a list without the same name twice")
        keepalive = None
        if "keepalive" in fields:
            keepalive = fields.number("keepalive", 86400)
            if not keepalive:
                raise fields.wrong("keepalive", "more than 0 seconds")
        return cls(
            software=fields.get_text("software", 255),
            compression=fields.texts("compression", 16, 32) if "compression" in fields else None,
            max_channels=fields.get_integer("max_channels", 0, MAX_CHANNEL),
            window=fields.get_integer("window", 0, MAX_WINDOW),
            services=services,
            keepalive=keepalive,
            audit=Checkpoint.from_fields(fields.object("audit")) if "audit" in fields else None,
        )


_NO_PROPERTIES = PropertyExchange()


@attrs.frozen
class Shutdown:
    """No new channels; the tunnel ends with the open ones, or after ``grace`` seconds."""

    type: ClassVar[MessageType] = MessageType.SHUTDOWN

    grace: float = 0
    reason: str = attrs.field(default="", converter=short)

    def body(self) -> bytes:
        return body_of({"grace": self.grace, "reason": self.reason})

    @classmethod
    def read(cls, body: bytes) -> Shutdown:
        fields = load(body, "SHUTDOWN")
        return cls(
            fields.number("grace", MAX_SECONDS) if "grace" in fields else 0, read_reason(fields)
        )


@attrs.frozen
class Error:
    """Something is wrong: with a channel, or (channel 0, ``fatal``) with the whole tunnel."""

    type: ClassVar[MessageType] = MessageType.ERROR

    code: Code
    reason: str = attrs.field(default="", converter=short)
    fatal: bool = False

    def body(self) -> bytes:
        return body_of({"code": self.code.value, "reason": self.reason, "fatal": self.fatal})

    @classmethod
    def read(cls, body: bytes) -> Error:
        fields = load(body, "ERROR")
        return cls(read_code(fields), read_reason(fields), fields.flag("fatal"))


TunnelMessage = CommonUniqueInfo | TopologyExchange | PropertyExchange | Shutdown | Error
