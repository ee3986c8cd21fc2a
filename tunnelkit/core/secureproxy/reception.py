"""How a Communication Server finds out who a connection is, and lets it in (rows S4, S11)."""

from __future__ import annotations

import secrets

from tunnelkit.core.secureproxy.accounts import Failures
from tunnelkit.core.secureproxy.commands import Authenticate, Claim, Present
from tunnelkit.core.secureproxy.connection import Input, ServerConnection
from tunnelkit.core.secureproxy.hall import Hall
from tunnelkit.core.secureproxy.policy import REFUSE
from tunnelkit.core.secureproxy.presence import Publishing
from tunnelkit.core.secureproxy.registry import Registration
from tunnelkit.core.secureproxy.sessions import Refuse
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.secureproxy import PRESENT, SESSION, Hello, MessageType, Welcome

ASKING = "control connections that only ask"
OPENING = "connections for sessions that wait"


class Reception:
    """HELLO, logins, registration. ``servers``: others of the same configured name."""

    def __init__(
        self, hall: Hall, publishing: Publishing, refuse: Refuse, servers: tuple[str, ...]
    ) -> None:
        self._hall = hall
        self._publishing = publishing
        self._refuse = refuse
        self._servers = servers
        self._instance = secrets.token_hex(16)
        self._failures = Failures(hall.limits.logins)
        self._replaced: dict[tuple[str, str], float] = {}
        """Until when the runs that were replaced stay away."""

    def identify(self, connection: ServerConnection, hello: Hello, now: float) -> None:
        """HELLO. Raises `RemoteProtocolError` for who does not even say who it is."""
        connection.hello = hello
        if hello.login is None:
            if not connection.certificate:
                raise RemoteProtocolError(
                    "a certificate or a login is needed", code=Code.NOT_ALLOWED
                )
            self.admit(connection, connection.certificate, now)
        elif self._failures.too_many(hello.login.name, connection.address, now):
            raise RemoteProtocolError("too many logins have failed", code=Code.LIMIT)
        else:
            self._hall.do(Authenticate(connection))

    def admit(self, connection: ServerConnection, name: str, now: float) -> None:
        """It is known who it is: see whether, and as what, it may stay."""
        try:
            self._check(connection, name, now)
            hello = connection.hello
            assert hello is not None  # the state: HELLO has come
            connection.trust(name)
            if hello.purpose == PRESENT:
                self._claim(connection, hello, now)
            elif hello.purpose == SESSION:
                connection.step(Input.KNOWN_SESSION)
                self._hall.hold(connection, OPENING, self._hall.limits.opening)
            else:
                self._check_open()
                self._check_room()
                connection.step(Input.KNOWN_ASK)
                self._hall.hold(connection, ASKING, self._hall.limits.asking)
                self._welcome(connection, 0, now)
        except RemoteProtocolError as error:
            self._refuse(connection, error.code, str(error), now, MessageType.HELLO)
            return
        self._hall.known[connection] = None

    def claimed(self, connection: ServerConnection, generation: int, now: float) -> None:
        """The name is this client's: it is present."""
        hello = connection.hello
        assert hello is not None  # the state: HELLO has come
        try:
            self._check_open()
            before = self._hall.registry.get(connection.name)
            if before is None:
                self._check_room()
            elif before.generation > generation:
                raise RemoteProtocolError("registered from elsewhere", code=Code.REPLACED)
            else:
                self._make_way(before, connection, hello.run, now)
            connection.step(Input.KNOWN_PRESENT)
            self._hall.do(Present(self._hall.registry.add(connection, hello.run, generation)))
            self._publishing.tell_soon(now)
            self._welcome(connection, generation, now)
        except RemoteProtocolError as error:
            self._refuse(connection, error.code, str(error), now, MessageType.HELLO)

    def rejected(self, connection: ServerConnection, now: float) -> None:
        """The login is nobody's."""
        hello = connection.hello
        if hello is not None and hello.login is not None:
            self._failures.add(hello.login.name, connection.address, now)
        self._refuse(connection, Code.NOT_ALLOWED, "the login is wrong", now, MessageType.HELLO)

    def _check(self, connection: ServerConnection, name: str, now: float) -> None:
        verdict = self._hall.policy.may_register(name)
        if not verdict:
            self._hall.decide(name, "register", "", verdict, connection.observed)
            raise RemoteProtocolError("no rule allows it", code=Code.NOT_ALLOWED)
        seconds = self._hall.barred.seconds(name, now)
        if seconds:
            reason = f"kept out by hand for {seconds:.0f} s more"
            raise RemoteProtocolError(reason, code=Code.NOT_ALLOWED)
        if connection.certificate not in ("", name):
            raise RemoteProtocolError("the login is not the certificate's", code=Code.NOT_ALLOWED)

    def _claim(self, connection: ServerConnection, hello: Hello, now: float) -> None:
        """Ask for the name, unless it is clear that this client cannot have it."""
        hall = self._hall
        self._check_open()
        before = hall.registry.get(connection.name)
        replace = hall.policy.duplicate != REFUSE
        if before is None:
            self._check_room()
        elif before.run != hello.run and not replace:
            raise RemoteProtocolError(f"{connection.name} is registered already", code=Code.REFUSED)
        elif before.run != hello.run and self._stays_away(connection.name, hello.run, now):
            raise RemoteProtocolError("replaced a moment ago", code=Code.REPLACED)
        hall.do(Claim(connection, hello.run, replace))

    def _stays_away(self, name: str, run: str, now: float) -> bool:
        return self._replaced.get((name, run), now) > now

    def _check_open(self) -> None:
        if self._hall.draining:
            raise RemoteProtocolError("the server is stopping", code=Code.SHUTDOWN)

    def _check_room(self) -> None:
        if len(self._hall.control) >= self._hall.limits.clients:
            raise RemoteProtocolError("too many clients", code=Code.LIMIT)

    def _welcome(self, connection: ServerConnection, generation: int, now: float) -> None:
        hall = self._hall
        hall.control[connection] = None
        welcome = Welcome(
            hall.name,
            connection.observed,
            self._instance,
            generation,
            hall.limits.keepalive,
            self._servers,
        )
        hall.send(connection, welcome, now)
        hall.watch_over(connection, now)

    def _make_way(
        self, before: Registration, connection: ServerConnection, run: str, now: float
    ) -> None:
        """Another one of the same name takes its place."""
        reason = "this client has registered anew"
        if before.run != run:
            self._replaced = {key: until for key, until in self._replaced.items() if until > now}
            self._replaced[before.name, before.run] = now + self._hall.limits.replaced
            reason = f"registered from {connection.observed}"
        self._refuse(before.connection, Code.REPLACED, reason, now, 0)
