"""Secure Proxy: messages on a control connection (rows S4, S7), as in ``docs/spec/secureproxy.md``.

Those that make a session are in `secureproxy_session_messages`. Every class has
``type`` (its number on the wire), ``body()`` (its fields as bytes) and
``read(body)``, which raises `RemoteProtocolError` for anything that breaks the
rules of a field. A field that is None is absent on the wire.
"""

from __future__ import annotations

import builtins
from typing import ClassVar, TypeVar

import attrs

from tunnelkit.errors import Code
from tunnelkit.wire.json_body import Fields, load
from tunnelkit.wire.message_fields import body_if_any, read_code, read_reason, short
from tunnelkit.wire.secureproxy_fields import (
    _PLAIN_NAME,
    _PLAIN_WORDS,
    GROUP,
    HEX32,
    HEX32_WORDS,
    KINDS,
    MAX_ADDRESSES,
    MAX_ENTRIES,
    MAX_GROUPS,
    MAX_HOST,
    MAX_KEEPALIVE,
    MAX_PROPERTIES,
    MAX_RESOURCES,
    MAX_SERVERS,
    MAX_TTL,
    PURPOSES,
    SESSION,
    VERSION,
    MessageType,
    read_generation,
    read_host,
    read_resource,
    read_target,
)

_M = TypeVar("_M", bound="_WithoutBody")


class _WithoutBody:
    """A message that says everything by its type."""

    __slots__ = ()
    type: ClassVar[MessageType]

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls: builtins.type[_M], body: bytes) -> _M:
        load(body, cls.type.name)
        return cls()


@attrs.frozen
class Login:
    """Who a client says it is, where its certificate does not say so (S11)."""

    name: str
    password: str | None = attrs.field(default=None, repr=False)
    token: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Hello:
    """What a connection is for: the first message of a client on each one."""

    type: ClassVar[MessageType] = MessageType.HELLO

    purpose: str
    """``for`` on the wire: ``present``, ``ask`` or ``session``."""
    run: str
    """32 lower-case hex digits, new at each start of the client's process."""
    software: str | None = None
    properties: tuple[tuple[str, str], ...] = ()
    """Names and values, for the administrator to read."""
    addresses: tuple[str, ...] = ()
    """The client's own, if it is configured to tell them."""
    login: Login | None = None

    def body(self) -> bytes:
        login = self.login
        proof = None
        if login is not None:
            proof = {"name": login.name, "password": login.password, "token": login.token}
            proof = {name: value for name, value in proof.items() if value is not None}
        return body_if_any(
            version=VERSION,
            **{"for": self.purpose},
            run=self.run,
            software=self.software,
            properties=dict(self.properties) or None,
            addresses=list(self.addresses) or None,
            login=proof,
        )

    @classmethod
    def read(cls, body: bytes) -> Hello:
        fields = load(body, "HELLO")
        fields.integer("version", VERSION, VERSION)
        login = None
        if "login" in fields:
            given = fields.object("login")
            login = Login(
                given.name("name"), given.get_text("password", 1024), given.get_text("token", 1024)
            )
            if (login.password is None) is (login.token is None):
                raise fields.wrong("login", "a name with either a password or a token")
        return cls(
            purpose=fields.one_of("for", PURPOSES),
            run=fields.matching("run", HEX32, HEX32_WORDS),
            software=fields.get_text("software", 255),
            properties=fields.pairs("properties", MAX_PROPERTIES, 255),
            addresses=fields.get_texts("addresses", MAX_ADDRESSES, 255),
            login=login,
        )


@attrs.frozen
class Welcome:
    """The server's answer on a control connection."""

    type: ClassVar[MessageType] = MessageType.WELCOME

    server: str
    """Its name."""
    observed: str
    """Where the client comes from, as the server sees it."""
    instance: str
    """32 lower-case hex digits, new at each start of the server."""
    generation: int
    """Fencing number of this registration: a later one of the same name has a greater one."""
    keepalive: float
    """Seconds: who has nothing to say says KEEPALIVE that often."""
    servers: tuple[str, ...] = ()
    """``HOST:PORT`` of other servers of the same name."""

    def body(self) -> bytes:
        return body_if_any(
            version=VERSION,
            server=self.server,
            observed=self.observed,
            instance=self.instance,
            generation=self.generation,
            keepalive=self.keepalive,
            servers=list(self.servers) or None,
        )

    @classmethod
    def read(cls, body: bytes) -> Welcome:
        fields = load(body, "WELCOME")
        fields.integer("version", VERSION, VERSION)
        keepalive = fields.number("keepalive", MAX_KEEPALIVE)
        if not keepalive:
            raise fields.wrong("keepalive", "more than 0 seconds")
        return cls(
            server=fields.name("server"),
            observed=fields.text("observed", 255),
            instance=fields.matching("instance", HEX32, HEX32_WORDS),
            generation=read_generation(fields),
            keepalive=keepalive,
            servers=fields.get_texts("servers", MAX_SERVERS, 255),
        )


@attrs.frozen
class Resource:
    """One thing that a client publishes."""

    name: str
    """``tunnel`` or another plain name for sessions, ``pass:HOST``, ``web:HOST``."""
    kind: str = SESSION
    host: str | None = None
    """For ``pass`` and ``web``: the name that browsers ask for."""
    ttl: float | None = None
    """Seconds until it is withdrawn; None: no end is known."""
    groups: tuple[str, ...] | None = None
    """Groups in which it is offered; None: all that the policy gives to the client."""

    def fields(self) -> dict[str, object]:
        """As an object for JSON."""
        given: dict[str, object] = {"name": self.name, "kind": self.kind}
        if self.host is not None:
            given["host"] = self.host
        if self.ttl is not None:
            given["ttl"] = self.ttl
        if self.groups is not None:
            given["groups"] = list(self.groups)
        return given

    @classmethod
    def from_fields(cls, fields: Fields) -> Resource:
        """From an object in JSON."""
        name = read_resource(fields, "name")
        kind = fields.one_of("kind", KINDS)
        host = None if kind == SESSION else read_host(fields, "host")
        if name != f"{kind}:{host}" if host is not None else ":" in name:
            raise fields.wrong("name", "a plain name for a session, otherwise KIND:HOST")
        groups = None
        if "groups" in fields:
            groups = fields.texts("groups", MAX_GROUPS, 64)
            if not all(map(_PLAIN_NAME.fullmatch, groups)):
                raise fields.wrong("groups", f"a list of {_PLAIN_WORDS} each")
        ttl = None if fields.is_null("ttl") else fields.number("ttl", MAX_TTL)
        return cls(name, kind, host, ttl, groups)


@attrs.frozen
class Publish:
    """The whole table of what the client publishes; answered by OK or ERROR."""

    type: ClassVar[MessageType] = MessageType.PUBLISH

    resources: tuple[Resource, ...]

    def body(self) -> bytes:
        return body_if_any(resources=[entry.fields() for entry in self.resources])

    @classmethod
    def read(cls, body: bytes) -> Publish:
        fields = load(body, "PUBLISH")
        resources = tuple(map(Resource.from_fields, fields.objects("resources", MAX_RESOURCES)))
        if len({entry.name for entry in resources}) != len(resources):
            raise fields.wrong("resources", "a list without the same name twice")
        return cls(resources)


@attrs.frozen
class Lookup:
    """Who is there; answered by PRESENCE or ERROR."""

    type: ClassVar[MessageType] = MessageType.LOOKUP

    target: str
    """A name, or ``group:`` and a group's name."""
    watch: bool = False
    """Tell of changes too, until this connection ends."""

    def body(self) -> bytes:
        group = self.target.startswith(GROUP)
        return body_if_any(
            name=None if group else self.target,
            group=self.target[len(GROUP) :] if group else None,
            watch=self.watch or None,
        )

    @classmethod
    def read(cls, body: bytes) -> Lookup:
        fields = load(body, "LOOKUP")
        if ("name" in fields) is ("group" in fields):
            raise fields.wrong("name", "given, or else group")
        if "group" in fields:
            group = fields.matching("group", _PLAIN_NAME, _PLAIN_WORDS)
            return cls(GROUP + group, fields.flag("watch"))
        name = read_target(fields, "name")
        if name.startswith(GROUP):
            raise fields.wrong("name", "a client's name")
        return cls(name, fields.flag("watch"))


@attrs.frozen
class Entry:
    """One client, as far as the asker may know of it."""

    name: str
    present: bool
    resources: tuple[str, ...] = ()

    def fields(self) -> dict[str, object]:
        """As an object for JSON."""
        return {"name": self.name, "present": self.present, "resources": list(self.resources)}

    @classmethod
    def from_fields(cls, fields: Fields) -> Entry:
        """From an object in JSON."""
        if "present" not in fields:
            raise fields.wrong("present", "true or false")
        return cls(
            fields.name("name"),
            fields.flag("present"),
            fields.get_texts("resources", MAX_RESOURCES, MAX_HOST + 5),
        )


@attrs.frozen
class Presence:
    """Who is there, once when asked and, if watched, at each change."""

    type: ClassVar[MessageType] = MessageType.PRESENCE

    of: str
    """What was asked for: a name, or ``group:`` and a group's name."""
    entries: tuple[Entry, ...]
    more: bool = False
    """Whether entries had to be left out."""

    def body(self) -> bytes:
        return body_if_any(
            of=self.of, entries=[entry.fields() for entry in self.entries], more=self.more or None
        )

    @classmethod
    def read(cls, body: bytes) -> Presence:
        fields = load(body, "PRESENCE")
        entries = tuple(map(Entry.from_fields, fields.objects("entries", MAX_ENTRIES)))
        return cls(read_target(fields, "of"), entries, fields.flag("more"))


@attrs.frozen
class Drain:
    """The server will stop: register elsewhere, then leave."""

    type: ClassVar[MessageType] = MessageType.DRAIN

    grace: float
    """Seconds until it does."""
    servers: tuple[str, ...] = ()
    """``HOST:PORT`` of others."""

    def body(self) -> bytes:
        return body_if_any(grace=self.grace, servers=list(self.servers) or None)

    @classmethod
    def read(cls, body: bytes) -> Drain:
        fields = load(body, "DRAIN")
        return cls(fields.number("grace", MAX_TTL), fields.get_texts("servers", MAX_SERVERS, 255))


@attrs.frozen
class Error:
    """Something is wrong: with a request, a session, or (``fatal``) the connection."""

    type: ClassVar[MessageType] = MessageType.ERROR

    code: Code
    reason: str = attrs.field(default="", converter=short)
    fatal: bool = False
    session: str | None = None
    """This session is off."""
    about: int | None = None
    """Type of the request that this answers."""

    def body(self) -> bytes:
        return body_if_any(
            code=self.code.value,
            reason=self.reason or None,
            fatal=self.fatal or None,
            session=self.session,
            about=self.about,
        )

    @classmethod
    def read(cls, body: bytes) -> Error:
        fields = load(body, "ERROR")
        session = None
        if "session" in fields:
            session = fields.matching("session", HEX32, HEX32_WORDS)
        return cls(
            read_code(fields),
            read_reason(fields),
            fields.flag("fatal"),
            session,
            fields.get_integer("about", 0, 255),
        )


@attrs.frozen
class Ok(_WithoutBody):
    """The request that was waiting longest is done."""

    type: ClassVar[MessageType] = MessageType.OK


@attrs.frozen
class Keepalive(_WithoutBody):
    """Nothing, said so that the other side knows that this one lives."""

    type: ClassVar[MessageType] = MessageType.KEEPALIVE


ControlMessage = Hello | Welcome | Publish | Lookup | Presence | Drain | Error | Ok | Keepalive
