"""Secure Proxy: messages that make a session (rows S6, S7, S10).

The same conventions as in `secureproxy_messages`.
"""

from __future__ import annotations

import re
from typing import ClassVar

import attrs

from tunnelkit.errors import Code
from tunnelkit.wire.json_body import load
from tunnelkit.wire.message_fields import body_if_any, read_code, read_reason, short
from tunnelkit.wire.secureproxy_fields import (
    HEX32,
    HEX32_WORDS,
    MAX_ENTRIES,
    MessageType,
    read_generation,
    read_host,
    read_resource,
    read_target,
)

ONE = "one"
ANY = "any"
MODES = (ONE, ANY)

TLS_CLIENT = "tls-client"
TLS_SERVER = "tls-server"
TLS_ROLES = (TLS_CLIENT, TLS_SERVER)

MAX_DEADLINE = 3600.0

HEX64 = re.compile(r"[0-9a-f]{64}")
HEX64_WORDS = "64 lower-case hex digits"


@attrs.frozen
class Connect:
    """An initiator asks for a session."""

    type: ClassVar[MessageType] = MessageType.CONNECT

    target: str
    """A name, or ``group:`` and a group's name."""
    resource: str
    mode: str = ONE
    """Of a group: ``one`` member, or ``any`` that accepts."""

    def body(self) -> bytes:
        return body_if_any(
            target=self.target,
            resource=self.resource,
            mode=None if self.mode == ONE else self.mode,
        )

    @classmethod
    def read(cls, body: bytes) -> Connect:
        fields = load(body, "CONNECT")
        mode = fields.one_of("mode", MODES) if "mode" in fields else ONE
        return cls(read_target(fields, "target"), read_resource(fields, "resource"), mode)


@attrs.frozen
class Incoming:
    """The server tells a target that somebody wants a session with it."""

    type: ClassVar[MessageType] = MessageType.INCOMING

    session: str
    """32 lower-case hex digits."""
    origin: str
    """``from`` on the wire: the initiator's verified name; empty for ``pass`` and ``web``."""
    target: str
    """As the initiator wrote it."""
    resource: str
    token: str = attrs.field(repr=False)
    """64 lower-case hex digits, for JOIN."""
    deadline: float
    """Seconds left for JOIN."""
    generation: int
    """Of the registration that it goes to."""
    observed: str | None = None
    """The initiator's address as the server sees it."""
    host: str | None = None
    """For ``pass`` and ``web``: the name that was asked for."""

    def body(self) -> bytes:
        return body_if_any(
            session=self.session,
            **{"from": self.origin},
            target=self.target,
            resource=self.resource,
            observed=self.observed,
            host=self.host,
            token=self.token,
            deadline=self.deadline,
            generation=self.generation,
        )

    @classmethod
    def read(cls, body: bytes) -> Incoming:
        fields = load(body, "INCOMING")
        return cls(
            session=fields.matching("session", HEX32, HEX32_WORDS),
            origin=fields.printable("from", 255),
            target=read_target(fields, "target"),
            resource=read_resource(fields, "resource"),
            token=fields.matching("token", HEX64, HEX64_WORDS),
            deadline=fields.number("deadline", MAX_DEADLINE),
            generation=read_generation(fields),
            observed=fields.get_text("observed", 255),
            host=read_host(fields, "host") if "host" in fields else None,
        )


@attrs.frozen
class Answer:
    """A target accepts a session in words, or refuses it early."""

    type: ClassVar[MessageType] = MessageType.ANSWER

    session: str
    accept: bool = False
    code: Code | None = None
    """Why not."""
    reason: str = attrs.field(default="", converter=short)

    def body(self) -> bytes:
        return body_if_any(
            session=self.session,
            accept=self.accept or None,
            code=None if self.code is None else self.code.value,
            reason=self.reason or None,
        )

    @classmethod
    def read(cls, body: bytes) -> Answer:
        fields = load(body, "ANSWER")
        accept = fields.flag("accept")
        if accept is ("code" in fields):
            raise fields.wrong("accept", "true, or else code must be given")
        return cls(
            fields.matching("session", HEX32, HEX32_WORDS),
            accept,
            None if accept else read_code(fields),
            read_reason(fields),
        )


@attrs.frozen
class Join:
    """A target comes for a session: the first thing on a connection of its own."""

    type: ClassVar[MessageType] = MessageType.JOIN

    session: str
    token: str = attrs.field(repr=False)

    def body(self) -> bytes:
        return body_if_any(session=self.session, token=self.token)

    @classmethod
    def read(cls, body: bytes) -> Join:
        fields = load(body, "JOIN")
        return cls(
            fields.matching("session", HEX32, HEX32_WORDS),
            fields.matching("token", HEX64, HEX64_WORDS),
        )


@attrs.frozen
class StartSecure:
    """Both are there: end this TLS, the next bytes are the two clients' own."""

    type: ClassVar[MessageType] = MessageType.START_SECURE

    session: str
    role: str
    """``tls-client`` for the initiator, ``tls-server`` for the target."""
    peer: str
    """The other client's verified name."""
    resource: str
    server: str
    """The server's name."""
    hops: tuple[str, ...] = ()
    """Names of the servers on the way, the receiver's first."""

    def body(self) -> bytes:
        return body_if_any(
            session=self.session,
            role=self.role,
            peer=self.peer,
            resource=self.resource,
            server=self.server,
            hops=list(self.hops) or None,
        )

    @classmethod
    def read(cls, body: bytes) -> StartSecure:
        fields = load(body, "START_SECURE")
        return cls(
            session=fields.matching("session", HEX32, HEX32_WORDS),
            role=fields.one_of("role", TLS_ROLES),
            peer=fields.name("peer"),
            resource=read_resource(fields, "resource"),
            server=fields.name("server"),
            hops=fields.get_texts("hops", MAX_ENTRIES, 255),
        )


@attrs.frozen
class _Start:
    """A browser is there."""

    type: ClassVar[MessageType]

    session: str
    host: str
    """The name that it asked for."""
    observed: str
    """Its address as the server sees it."""

    def body(self) -> bytes:
        return body_if_any(session=self.session, host=self.host, observed=self.observed)


@attrs.frozen
class StartPass(_Start):
    """End this TLS: the next bytes are the browser's, from its ClientHello on."""

    type: ClassVar[MessageType] = MessageType.START_PASS

    @classmethod
    def read(cls, body: bytes) -> StartPass:
        fields = load(body, "START_PASS")
        return cls(
            fields.matching("session", HEX32, HEX32_WORDS),
            read_host(fields, "host"),
            fields.text("observed", 255),
        )


@attrs.frozen
class StartWeb(_Start):
    """This TLS stays: HTTP/1.1 requests follow on it, one at a time."""

    type: ClassVar[MessageType] = MessageType.START_WEB

    @classmethod
    def read(cls, body: bytes) -> StartWeb:
        fields = load(body, "START_WEB")
        return cls(
            fields.matching("session", HEX32, HEX32_WORDS),
            read_host(fields, "host"),
            fields.text("observed", 255),
        )


@attrs.frozen
class Session:
    """First message of each client inside the TLS between the two: what it knows itself."""

    type: ClassVar[MessageType] = MessageType.SESSION

    session: str
    origin: str
    """``from`` on the wire: the initiator's name, from its certificate."""
    to: str
    """The target's name, from its certificate."""
    target: str
    """As the initiator wrote it."""
    resource: str
    binding: str | None = None
    """64 hex digits exported from the TLS between the two: other ones for each of them."""

    def body(self) -> bytes:
        return body_if_any(
            session=self.session,
            **{"from": self.origin},
            to=self.to,
            target=self.target,
            resource=self.resource,
            binding=self.binding,
        )

    @classmethod
    def read(cls, body: bytes) -> Session:
        fields = load(body, "SESSION")
        return cls(
            session=fields.matching("session", HEX32, HEX32_WORDS),
            origin=fields.name("from"),
            to=fields.name("to"),
            target=read_target(fields, "target"),
            resource=read_resource(fields, "resource"),
            binding=fields.matching("binding", HEX64, HEX64_WORDS) if "binding" in fields else None,
        )


@attrs.frozen
class Spare:
    """A publisher's connection that waits for a browser."""

    type: ClassVar[MessageType] = MessageType.SPARE

    resource: str
    """``pass:HOST``."""

    def body(self) -> bytes:
        return body_if_any(resource=self.resource)

    @classmethod
    def read(cls, body: bytes) -> Spare:
        fields = load(body, "SPARE")
        return cls(read_resource(fields, "resource"))


SessionMessage = (
    Connect | Incoming | Answer | Join | StartSecure | StartPass | StartWeb | Session | Spare
)
