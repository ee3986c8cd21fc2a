"""The sockets of a Communication Server: its core decides, this file does (rows S1, S4 to S7, S10).

    listener -> `Arrivals` -> a client's TLS, HTTP, or a browser that is passed on unopened

Two connections that belong together become one by a relay of
`tunnelkit.net.sockets.relay`, and nothing here sees their bytes any more.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.core.decision import Decision
from tunnelkit.core.secureproxy.commands import (
    Authenticate,
    Claim,
    Close,
    Command,
    Cut,
    Join,
    Left,
    Lend,
    Send,
    Switch,
    TurnAway,
)
from tunnelkit.core.secureproxy.connection import ServerConnection
from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.secureproxy.names import normal_host
from tunnelkit.core.secureproxy.policy import Policy
from tunnelkit.core.secureproxy.server import CommunicationServer
from tunnelkit.core.secureproxy.session import Session, Visitor
from tunnelkit.interfaces import IRegistry
from tunnelkit.net.secureproxy.arrivals import Arrivals, Arrived, Network
from tunnelkit.net.secureproxy.browsers import Browser, Errand, refuse
from tunnelkit.net.secureproxy.client_stream import Client, ClientStream
from tunnelkit.net.secureproxy.joined import JoinedSessions, Side
from tunnelkit.net.secureproxy.leases import Leases
from tunnelkit.net.secureproxy.server_status import ServerStatus, rows
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.tcp import Listener, bind_tcp
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.net.traffic import Traffic
from tunnelkit.wire.secureproxy import ALPN, PASS, WEB, Login
from tunnelkit.wire.tls_peek import UNRECOGNIZED_NAME

_log = Logger()

NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
"""The fatal alert for a client that speaks only other protocols."""
HTTP = b"http/1.1"

CheckLogin = Callable[[Login], Deferred[str]]
"""The name that a login proves; fails for one that proves nothing."""
Browse = Callable[[Arrived, str], object]
"""``(arrived, host)``: TLS for this server itself or a vhost, whose HTTP somebody answers."""
Record = Callable[[Command], object]
"""Is told of each `Decided`, `Present`, `Left`, `SessionBegan` and `SessionEnded`."""

_REJECTED = ("unknown-name", "no-protocol", "not-proved", "login")
_FOR_SOCKETS = (Authenticate, Claim, Close, Cut, Join, Lend, Send, Switch, TurnAway)


class SecureProxyServer:
    """``name`` is the one in the certificate of ``context``, a server's (`server_context`).

    ``record`` gets what is to be logged; ``check_login`` is None where only certificates count;
    ``browse`` is None where the server answers no browser itself.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        context: TlsContext,
        policy: Policy,
        *,
        record: Record,
        registry: IRegistry,
        limits: Limits | None = None,
        check_login: CheckLogin | None = None,
        browse: Browse | None = None,
        proxies: Sequence[Network] = (),
    ) -> None:
        self.shared = Shared.of(reactor)
        self.name = name
        self.context = context
        """For the next handshake; may be replaced."""
        self.core = CommunicationServer(name, policy, limits)
        self._leases = Leases(
            self.shared.reactor,
            registry,
            name,
            lambda one, generation: self.do(self.core.claimed(one, generation, self._now())),
            lambda one, code, why: self.do(self.core.not_claimed(one, code, why, self._now())),
        )
        self.arrivals = Arrivals(self.shared, self._arrived, proxies)
        self.browse = browse
        self.further: Mapping[bytes, Browse] = {}
        """Who serves connections of further protocols, by ALPN; for the server's own name only."""
        self._record = record
        self._check_login = check_login
        self._now: Callable[[], float] = self.shared.reactor.seconds
        self._timer = Timer(self.shared.reactor, self._deadline_passed)
        self._streams: set[ClientStream] = set()
        """All whose handshake has begun and whose TLS is not off."""
        self._joined = JoinedSessions(
            self.shared,
            lambda session, by_initiator, reason, counts: self.do(
                self.core.over(session, by_initiator, reason, counts, self._now())
            ),
        )
        self._rejected = Counter(dict.fromkeys(_REJECTED, 0))

    # -- arrivals -----------------------------------------------------------------

    def listen(self, decision: Decision) -> Listener:
        """Listen; raises `BindError`. The caller closes the listener."""
        return Listener(self.shared.poller, bind_tcp(decision), self.arrivals.accept)

    def accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """A connected socket, as a `Listener` hands it out."""
        self.arrivals.accept(sock, address)

    def _arrived(self, arrived: Arrived) -> None:
        """A connection has said what it wants: it is routed once, for good (X21)."""
        name = arrived.hello.name
        host = normal_host(name) if name else ""
        kind = self.core.policy.kind_of(host) if host else None
        if kind == PASS:
            assert host is not None
            self._pass_on(arrived, host)
        elif host is None or (host not in ("", self.name) and kind != WEB):
            self._rejected["unknown-name"] += 1
            _log.warn("Refused {address}: an unknown name", address=arrived.observed)
            refuse(arrived.carrier, UNRECOGNIZED_NAME)
        elif ALPN in arrived.hello.alpn and kind != WEB:
            self._take_in(arrived)
        elif kind != WEB and (further := self._further(arrived.hello.alpn)) is not None:
            further(arrived, host)
        elif self.browse is not None and (not arrived.hello.alpn or HTTP in arrived.hello.alpn):
            self.browse(arrived, host)
        else:
            self._rejected["no-protocol"] += 1
            refuse(arrived.carrier, NO_APPLICATION_PROTOCOL)

    def _further(self, offered: Sequence[bytes]) -> Browse | None:
        """Who serves what the client would like best, unless that is HTTP (S14)."""
        for alpn in offered:
            if alpn == HTTP:
                return None
            if alpn in self.further:
                return self.further[alpn]
        return None

    def _take_in(self, arrived: Arrived) -> None:
        stream = ClientStream(
            self.shared,
            self,
            self.context,
            arrived.carrier,
            arrived.counted,
            arrived.observed,
        )
        self._streams.add(stream)
        stream.start(arrived.seen)

    def _pass_on(self, arrived: Arrived, host: str) -> None:
        visitor = Visitor(host, PASS, arrived.host, arrived.counted, arrived.observed)
        visitor.owner = Browser(self, visitor, arrived.carrier, arrived.seen)
        self.do(self.core.visit(visitor, self._now()))

    # -- what clients' connections tell (`ClientHost`) ---------------------------------

    def client_up(self, client: ClientStream) -> None:
        """See `ClientHost`."""
        assert client.connection is not None
        self.do(self.core.connected(client.connection, self._now()))

    def client_received(self, client: ClientStream, view: memoryview) -> None:
        """See `ClientHost`."""
        assert client.connection is not None
        self._leases.heard_from(client.connection)
        self.do(self.core.receive(client.connection, view, self._now()))

    def client_through(self, client: ClientStream) -> None:
        """See `ClientHost`."""
        assert client.connection is not None
        self.do(self.core.through(client.connection, self._now()))

    def client_lost(self, client: ClientStream, reason: str) -> None:
        """See `ClientHost`."""
        self._streams.discard(client)
        if client.connection is not None:
            self.do(self.core.lost(client.connection, reason, self._now()))
        else:
            self._rejected["not-proved"] += 1
            _log.debug("No client: {reason}", reason=reason)

    def browser_lost(self, visitor: Visitor) -> None:
        """A browser that waits is gone."""
        self.do(self.core.visitor_left(visitor, self._now()))

    # -- commands ------------------------------------------------------------------

    def do(self, commands: Iterable[Command]) -> None:
        """Do what the core says."""
        for command in commands:
            if isinstance(command, Send):
                _stream_of(command.connection).send(command.data)
            elif not isinstance(command, _FOR_SOCKETS):
                self._record(command)
                if isinstance(command, Left):
                    self._leases.release(command.registration.connection)
            elif isinstance(command, Switch):
                _stream_of(command.connection).switch()
            elif isinstance(command, Close):
                stream = _stream_of(command.connection)
                self._streams.discard(stream)
                stream.close()
            elif isinstance(command, Authenticate):
                self._authenticate(command.connection)
            elif isinstance(command, Claim):
                self._leases.claim(command)
            elif isinstance(command, Join):
                self._join(command.session)
            elif isinstance(command, TurnAway):
                _waiting(command.visitor).turn_away(command.reason)
            elif isinstance(command, Lend):
                self._lend(command)
            elif isinstance(command, Cut):
                self._joined.cut(command.session, command.reason)
        self._arm()

    def _authenticate(self, connection: ServerConnection) -> None:
        login = None if connection.hello is None else connection.hello.login
        if login is None or self._check_login is None:
            # Not from within the core's own turn.
            self.shared.reactor.callLater(0, self._login_checked, None, connection)
            return
        self._check_login(login).addCallbacks(
            self._login_checked,
            lambda _: self._login_checked(None, connection),
            callbackArgs=(connection,),
        )

    def _login_checked(self, name: str | None, connection: ServerConnection) -> None:
        now = self._now()
        if name is None:
            self._rejected["login"] += 1
            self.do(self.core.rejected(connection, now))
        else:
            self.do(self.core.identified(connection, name, now))

    def _join(self, session: Session) -> None:
        target = session.joined
        assert target is not None
        self._joined.join(session, self._taken(session.initiator), self._taken(target))

    def _taken(self, party: ServerConnection | Visitor) -> Side:
        if isinstance(party, Visitor):
            return _browser_of(party).give_away()
        stream = _stream_of(party)
        self._streams.discard(stream)
        assert stream.unwrapped is not None
        return stream.unwrapped.carrier, stream.unwrapped.leftover

    def _lend(self, command: Lend) -> None:
        session = command.session
        visit, target = session.initiator, session.joined
        assert isinstance(visit, Visitor)
        assert isinstance(visit.owner, Errand)
        assert target is not None
        stream = _stream_of(target)
        self._streams.discard(stream)
        carrier = stream.lend(command.leftover)
        self._joined.lend(session, carrier)
        visit.owner.lent(carrier)

    def ask_site(self, host: str) -> Errand:
        """A connection for HTTP to the client that publishes ``host``, see `Errand`.

        It is the server's own, and may serve one browser after the other: who may come is
        asked for each request.
        """
        visitor = Visitor(host, WEB, "", f"{WEB}:{host}", self.name)
        errand = Errand(self, visitor)
        visitor.owner = errand
        self.do(self.core.visit(visitor, self._now()))
        return errand

    def errand_over(self, visitor: Visitor) -> None:
        """A lent connection has ended, or is not waited for any more."""
        session = visitor.session
        if session is not None:
            self._joined.returned(session)
        self.do(self.core.visitor_left(visitor, self._now()))

    # -- time ------------------------------------------------------------------------

    def _arm(self) -> None:
        deadline = self.core.next_deadline()
        if deadline is None:
            self._timer.stop()
        else:
            self._timer.start_by(deadline, 0.001)

    def _deadline_passed(self) -> None:
        self.do(self.core.deadline_passed(self._now()))

    # -- the administrator --------------------------------------------------------------

    def replace_policy(self, policy: Policy) -> None:
        """Another policy is in force from now on."""
        self.do(self.core.replace_policy(policy, self._now()))

    def expel(self, name: str, reason: str) -> None:
        """End everything of a client that is not trusted any more."""
        self.do(self.core.expel(name, reason, self._now()))

    def traffic(self) -> Iterator[Traffic]:
        """A row for each client that is present, and for each session."""
        return rows(self.core, self._joined)

    def end_one(self, number: str) -> bool:
        """End the client or session that has this `Traffic.id`; False: there is none."""
        kind, _, name = number.partition("-")
        if kind == "client" and self.core.registry.get(name) is not None:
            self.expel(name, "ended by hand")
            return True
        session = self.core.sessions.get(name) if kind == "session" else None
        if session is None:
            return False
        self.do(self.core.end_session(session, "ended by hand", self._now()))
        return True

    def throw_out(self, name: str, seconds: float) -> int:
        """End everything of a client, and let nobody of that name in for so long; how much."""
        self.core.bar(name, self._now() + seconds)
        theirs = sum(client.name == name for client in self.clients())
        self.expel(name, "thrown out by hand")
        return theirs

    def clients(self) -> list[Client]:
        """Every client's connection, joined ones too."""
        connections = [stream.connection for stream in self._streams]
        for session in self.core.sessions.values():
            connections += session.parties()
        return [
            Client(connection.name, stream.listings, stream.until)
            for connection in connections
            if connection is not None and connection.name
            for stream in (_stream_of(connection),)
        ]

    def status(self) -> ServerStatus:
        """What is going on now."""
        return ServerStatus(
            nameless=len(self.arrivals),
            clients=len(self.core.registry),
            sessions=len(self.core.sessions),
            bytes_relayed=self._joined.bytes_relayed,
            rejected={"no-hello": self.arrivals.dropped, **self._rejected},
        )

    def drain(self, grace: float) -> Deferred[None]:
        """Take nobody new, tell those who are here; fires when the last joined session is over.

        One through which nothing passes is ended.
        """
        self.arrivals.close()
        self.do(self.core.drain(grace, self._now()))
        return self._joined.drain()

    def close(self) -> None:
        """End everything now."""
        self._joined.close()
        for stream in list(self._streams):
            stream.abort()
        self._streams.clear()
        self._timer.stop()


def _stream_of(connection: ServerConnection) -> ClientStream:
    assert isinstance(connection.owner, ClientStream)
    return connection.owner


def _waiting(visitor: Visitor) -> Browser | Errand:
    assert isinstance(visitor.owner, Browser | Errand)
    return visitor.owner


def _browser_of(visitor: Visitor) -> Browser:
    assert isinstance(visitor.owner, Browser)
    return visitor.owner
