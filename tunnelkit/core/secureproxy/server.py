"""The Communication Server: introduces clients to each other, and then only relays (S4 to S7, S10).

A `CommunicationServer` knows every connection of a client and every browser
that wants to a published site. It is told what happens and answers with
commands for whoever owns the sockets:

    connected -> receive ... -> `Send` ... -> `Switch` -> through -> `Join` -> over
                             \\-> `Send` (ERROR), `Close`

and with records for the log. TLS, sockets and logins are somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunnelkit.core.secureproxy.commands import Close, Command, Left
from tunnelkit.core.secureproxy.connection import SILENT, Action, ServerConnection, State
from tunnelkit.core.secureproxy.hall import Due, Hall
from tunnelkit.core.secureproxy.introductions import Introductions
from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.secureproxy.policy import Policy
from tunnelkit.core.secureproxy.presence import Publishing
from tunnelkit.core.secureproxy.reception import Reception
from tunnelkit.core.secureproxy.registry import Registration, Registry
from tunnelkit.core.secureproxy.session import Input as Happened
from tunnelkit.core.secureproxy.session import Session, Visitor
from tunnelkit.core.secureproxy.sessions import Sessions
from tunnelkit.core.secureproxy.strangers import Strangers
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.secureproxy import Drain, Error, Keepalive, Message, MessageType

_REQUESTS = frozenset({MessageType.PUBLISH, MessageType.LOOKUP})
"""A refusal of one of these leaves the connection as it is."""


class CommunicationServer:
    """``name`` is the one in the server's certificate.

    ``servers``: others of the same configured name. Every verb returns the commands it caused,
    in the order in which they are to be done; nothing that anybody sends makes one raise. Times
    are seconds of one clock that never goes back.
    """

    def __init__(
        self,
        name: str,
        policy: Policy,
        limits: Limits | None = None,
        *,
        servers: tuple[str, ...] = (),
        make_id: Callable[[], str] | None = None,
        make_token: Callable[[], str] | None = None,
        shuffle: Callable[[list[Registration]], None] | None = None,
    ) -> None:
        self._hall = Hall(name, policy, limits or Limits())
        strangers = Strangers(self._hall.limits)
        self._sessions = Sessions(self._hall, strangers, self._refuse, make_id, make_token)
        self._introductions = Introductions(self._hall, self._sessions, strangers, shuffle)
        self._publishing = Publishing(self._hall)
        self._reception = Reception(self._hall, self._publishing, self._refuse, servers)
        self._servers = servers
        self._actions: dict[Action, Callable[[ServerConnection, Any, float], None]] = {
            Action.IDENTIFY: self._reception.identify,
            Action.PUBLISH: self._publishing.publish,
            Action.LOOK_UP: self._publishing.look_up,
            Action.TAKE_ANSWER: self._introductions.answered,
            Action.END_SESSION: self._introductions.answered,
            Action.INTRODUCE: self._introductions.connect,
            Action.JOIN: self._introductions.join,
            Action.KEEP: self._introductions.keep,
            Action.CLOSE: self._closed,
        }

    # -- for status -------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """What is in force."""
        return self._hall.policy

    @property
    def registry(self) -> Registry:
        """Who is present."""
        return self._hall.registry

    @property
    def sessions(self) -> dict[str, Session]:
        """All that have begun and are not over, by id."""
        return self._sessions.by_id

    # -- connections --------------------------------------------------------------

    def connected(self, connection: ServerConnection, now: float) -> list[Command]:
        """A client's TLS is up."""
        self._hall.deadlines.set((Due.SETUP, connection), now + self._hall.limits.setup)
        return self._hall.take()

    def receive(
        self, connection: ServerConnection, data: bytes | bytearray | memoryview, now: float
    ) -> list[Command]:
        """Bytes came inside the TLS of a connection that is not joined or lent."""
        connection.heard = now
        if connection.state not in (State.ENDED, State.LENT):
            try:
                connection.feed(data)
            except RemoteProtocolError as error:
                self._refuse(connection, error.code, str(error), now)
            self._go_on(connection, now)
        return self._hall.take()

    def identified(self, connection: ServerConnection, name: str, now: float) -> list[Command]:
        """The answer to `Authenticate`: the login is ``name``'s."""
        if connection.state is State.CHECKING:
            self._reception.admit(connection, name, now)
            self._go_on(connection, now)
        return self._hall.take()

    def rejected(self, connection: ServerConnection, now: float) -> list[Command]:
        """The answer to `Authenticate`: nobody's."""
        if connection.state is State.CHECKING:
            self._reception.rejected(connection, now)
        return self._hall.take()

    def claimed(self, connection: ServerConnection, generation: int, now: float) -> list[Command]:
        """The answer to `Claim`: the name is this client's, with this fencing number."""
        if connection.state is State.CHECKING:
            self._reception.claimed(connection, generation, now)
            self._go_on(connection, now)
        return self._hall.take()

    def not_claimed(
        self, connection: ServerConnection, code: Code, reason: str, now: float
    ) -> list[Command]:
        """The answer to `Claim`: it is somebody else's, or nobody knows. Later: not any more."""
        self._refuse(connection, code, reason, now, MessageType.HELLO)
        return self._hall.take()

    def through(self, connection: ServerConnection, now: float) -> list[Command]:
        """The answer to `Switch`: both close_notify have been exchanged."""
        self._sessions.through(connection, now)
        return self._hall.take()

    def lost(self, connection: ServerConnection, reason: str, now: float) -> list[Command]:
        """A connection that the server has not closed or joined is gone."""
        self._forget(connection, reason, now)
        return self._hall.take()

    # -- browsers, and what is joined -----------------------------------------------

    def visit(self, visitor: Visitor, now: float) -> list[Command]:
        """A browser wants to a published site: `Join`, `Lend` or `TurnAway` will follow."""
        self._introductions.visit(visitor, now)
        return self._hall.take()

    def visitor_left(self, visitor: Visitor, now: float) -> list[Command]:
        """A browser is gone that was not joined or turned away, or a lent connection is not
        needed any more."""
        self._introductions.visitor_left(visitor, now)
        return self._hall.take()

    def over(
        self, session: Session, by_initiator: bool, reason: str, counts: tuple[int, int], now: float
    ) -> list[Command]:
        """A session that was joined or lent is over; ``counts``: bytes to and from the target."""
        left = Happened.INITIATOR_LEFT if by_initiator else Happened.TARGET_LEFT
        self._sessions.happened(session, left, reason, now, counts=counts)
        return self._hall.take()

    # -- the administrator ------------------------------------------------------------

    def replace_policy(self, policy: Policy, now: float) -> list[Command]:
        """Another policy is in force; what it does not allow ends (S5)."""
        hall = self._hall
        hall.policy = policy
        for connection in list(self._hall.known):
            verdict = policy.may_register(connection.name)
            if not verdict and connection.state not in SILENT:
                hall.decide(connection.name, "stay", "", verdict, connection.observed)
                self._refuse(connection, Code.NOT_ALLOWED, "no rule allows it any more", now)
        for registration in hall.registry:
            gone = self._publishing.review(registration, now)
            if gone:
                reason = f"no rule allows {', '.join(gone)} any more"
                error = Error(Code.NOT_ALLOWED, reason, about=MessageType.PUBLISH)
                hall.send(registration.connection, error, now)
        self._sessions.review(now)
        return hall.take()

    def expel(self, name: str, reason: str, now: float) -> list[Command]:
        """``name`` is trusted no more, or an administrator says so: everything of it ends."""
        self._sessions.expel(name, reason, now)
        for connection in list(self._hall.known):
            if connection.name == name:
                self._refuse(connection, Code.NOT_ALLOWED, reason, now)
        return self._hall.take()

    def bar(self, name: str, until: float) -> None:
        """Let nobody of this name in until then."""
        self._hall.barred.bar(name, until)

    def end_session(self, session: Session, reason: str, now: float) -> list[Command]:
        """An administrator ends it."""
        self._sessions.happened(session, Happened.WITHDRAWN, reason, now, Code.NOT_ALLOWED)
        return self._hall.take()

    def drain(self, grace: float, now: float) -> list[Command]:
        """Take nobody new; tell those who are here to go elsewhere."""
        self._hall.draining = True
        for connection in list(self._hall.control):
            self._hall.send(connection, Drain(grace, self._servers), now)
        return self._hall.take()

    # -- time ---------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called; None: not before something happens."""
        return self._hall.deadlines.next_deadline()

    def deadline_passed(self, now: float) -> list[Command]:
        """Keepalives that are due, and the end of those who let a time limit pass."""
        for due, what in self._hall.deadlines.due(now):
            if isinstance(what, ServerConnection):
                self._connection_due(due, what, now)
            elif isinstance(what, Session):
                if due is Due.JOIN:
                    self._sessions.join_is_late(what, now)
                else:
                    reason = "the TLS with the server was not ended in time"
                    self._sessions.happened(what, Happened.TIMED_OUT, reason, now)
            elif isinstance(what, Registration):
                self._publishing.expire(what, now)
            elif due is Due.CHANGES:
                self._publishing.tell(now)
            else:
                self._introductions.turn(now)
        return self._hall.take()

    def _connection_due(self, due: Due, connection: ServerConnection, now: float) -> None:
        limits = self._hall.limits
        if due is Due.SETUP:
            reason = f"nothing to do within {limits.setup:.0f} seconds"
            self._refuse(connection, Code.TIMED_OUT, reason, now)
        elif now >= connection.heard + 3 * limits.keepalive:
            reason = f"nothing came for {3 * limits.keepalive:.0f} seconds"
            self._refuse(connection, Code.TIMED_OUT, reason, now)
        else:
            if now >= connection.said + limits.keepalive:
                self._hall.send(connection, Keepalive(), now)
            self._hall.deadlines.set((Due.ALIVE, connection), self._hall.next_sign(connection))

    # -- messages -------------------------------------------------------------------------

    def _go_on(self, connection: ServerConnection, now: float) -> None:
        """Take the messages that are there."""
        try:
            for action, message in connection.messages():
                self._take(connection, action, message, now)
        except RemoteProtocolError as error:
            self._refuse(connection, error.code, str(error), now)

    def _take(
        self, connection: ServerConnection, action: Action, message: Message, now: float
    ) -> None:
        handler = self._actions.get(action)
        if handler is None:
            return
        try:
            handler(connection, message, now)
        except RemoteProtocolError as error:
            if message.type in _REQUESTS:
                self._hall.send(connection, Error(error.code, str(error), about=message.type), now)
            else:
                self._refuse(connection, error.code, str(error), now, message.type)

    def _closed(self, connection: ServerConnection, message: Error, now: float) -> None:
        """The client gives up."""
        reason = f"the client says {message.code}: {message.reason}"
        self._forget(connection, reason, now)
        self._hall.do(Close(connection, reason))

    # -- ends -----------------------------------------------------------------------------

    def _refuse(
        self,
        connection: ServerConnection,
        code: Code,
        reason: str,
        now: float,
        about: int = 0,
    ) -> None:
        """ERROR where the server may still say something, and the connection is over."""
        state = connection.state
        if state is State.ENDED:
            return
        if state not in SILENT:
            self._hall.send(connection, Error(code, reason, True, about=about or None), now)
        self._forget(connection, f"{code}: {reason}", now)
        self._hall.do(Close(connection, f"{code}: {reason}"))

    def _forget(self, connection: ServerConnection, reason: str, now: float) -> None:
        """Give up everything that it has."""
        hall = self._hall
        connection.state = State.ENDED
        hall.forget(connection)
        self._publishing.unwatch(connection)
        self._sessions.left(connection, reason, now)
        registration = hall.registry.get(connection.name)
        if registration is not None and registration.connection is connection:
            self._unregister(registration, reason, now)

    def _unregister(self, registration: Registration, reason: str, now: float) -> None:
        hall = self._hall
        for offer in registration.offers.values():
            self._publishing.close_spares(offer)
        hall.deadlines.clear((Due.EXPIRY, registration))
        hall.registry.remove(registration)
        hall.do(Left(registration, reason))
        self._sessions.not_present(registration, now)
        self._publishing.tell_soon(now)
