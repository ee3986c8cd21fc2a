"""The sessions of a Communication Server, each from its beginning to its end (rows S5, S6, S7)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from tunnelkit.core.secureproxy.commands import (
    Close,
    Cut,
    Join,
    Lend,
    SessionBegan,
    SessionEnded,
    Switch,
    TurnAway,
)
from tunnelkit.core.secureproxy.connection import SILENT, ServerConnection
from tunnelkit.core.secureproxy.connection import Input as Happened
from tunnelkit.core.secureproxy.connection import State as ConnectionState
from tunnelkit.core.secureproxy.hall import Due, Hall
from tunnelkit.core.secureproxy.registry import Offer, Registration
from tunnelkit.core.secureproxy.session import TABLE, Action, Input, Session, State, Visitor
from tunnelkit.core.secureproxy.strangers import Strangers
from tunnelkit.core.table import step
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.secureproxy import (
    PASS,
    TLS_CLIENT,
    TLS_SERVER,
    Error,
    Incoming,
    MessageType,
    StartPass,
    StartSecure,
    StartWeb,
)

SESSIONS = "sessions"
INCOMING = "INCOMING without an answer"

Refuse = Callable[[ServerConnection, Code, str, float, int], None]
"""``(connection, code, reason, now, about)``: ERROR, and the connection is over."""


class Sessions:
    """``refuse`` is how a connection is told that there will be no session."""

    def __init__(
        self,
        hall: Hall,
        strangers: Strangers,
        refuse: Refuse,
        make_id: Callable[[], str] | None = None,
        make_token: Callable[[], str] | None = None,
    ) -> None:
        self._hall = hall
        self._strangers = strangers
        self._refuse = refuse
        self._make_id = make_id or (lambda: secrets.token_hex(16))
        self._make_token = make_token or (lambda: secrets.token_hex(32))
        self.by_id: dict[str, Session] = {}
        """All that have begun and are not over."""

    # -- asking ---------------------------------------------------------------

    def begin(
        self, initiator: ServerConnection | Visitor, target: str, resource: str, rule: str
    ) -> Session:
        """A new one, of which nobody has been asked yet."""
        session = Session(self._make_id(), initiator, target, resource, rule)
        initiator.session = session
        self.by_id[session.id] = session
        self._hall.do(SessionBegan(session))
        return session

    def refused(self, session: Session, code: Code, reason: str, now: float) -> None:
        """The one that was asked will not come."""
        self.give_up_asking(session)
        asked = session.asked
        if asked is not None:
            self._hall.accounts.give_back(SESSIONS, asked.name)
            session.asked = None
        self.happened(session, Input.REFUSED, reason, now, code)

    def give_up_asking(self, session: Session) -> None:
        """Nobody is being asked any more."""
        self._hall.deadlines.clear((Due.JOIN, session))
        if session.asked is not None and session.token:
            if isinstance(session.initiator, ServerConnection):
                self._hall.accounts.give_back(INCOMING, session.asked.name)
            session.token = ""

    def ask_next(self, session: Session, code: Code, reason: str, now: float) -> None:
        """INCOMING to the next candidate; if there is none, the initiator hears of the last."""
        while session.candidates:
            registration = session.candidates.pop(0)
            if self._hall.registry.get(registration.name) is not registration:
                continue
            try:
                self._ask(session, registration, now)
            except RemoteProtocolError as error:
                code, reason = error.code, f"{registration.name}: {error}"
                continue
            return
        self.fail(session, code, reason or "nobody is left to be asked", now)

    def _ask(self, session: Session, registration: Registration, now: float) -> None:
        hall = self._hall
        hall.accounts.take(SESSIONS, registration.name, hall.limits.sessions)
        if isinstance(session.initiator, ServerConnection):
            try:
                hall.accounts.take(INCOMING, registration.name, hall.limits.incoming)
            except RemoteProtocolError:
                hall.accounts.give_back(SESSIONS, registration.name)
                raise
        session.asked = registration
        session.groups = registration.groups_with(session.resource)
        session.token = self._make_token()
        hall.deadlines.set((Due.JOIN, session), now + hall.limits.join)
        incoming = Incoming(
            session=session.id,
            origin=session.origin,
            target=session.target,
            resource=session.resource,
            token=session.token,
            deadline=hall.limits.join,
            generation=registration.generation,
            observed=session.initiator.observed,
            host=session.host,
        )
        hall.send(registration.connection, incoming, now)

    def join_is_late(self, session: Session, now: float) -> None:
        """The one that was asked did not come in time."""
        assert session.asked is not None  # who is late was asked
        target = session.asked
        self._tell(target.connection, session, Code.TIMED_OUT, "no JOIN came in time", now)
        self.refused(session, Code.TIMED_OUT, f"{target.name} did not come in time", now)

    def not_present(self, registration: Registration, now: float) -> None:
        """A client is gone: what it was asked for fails at once, and its spares are of no use."""
        for session in self._asking(registration):
            self.refused(session, Code.UNREACHABLE, f"{registration.name} has gone", now)

    def _asking(self, registration: Registration) -> list[Session]:
        return [
            session
            for session in self.by_id.values()
            if session.asked is registration and session.state is State.ASKED
        ]

    # -- what follows ---------------------------------------------------------

    def happened(
        self,
        session: Session,
        happened: Input,
        reason: str,
        now: float,
        code: Code = Code.RESET,
        counts: tuple[int, int] = (0, 0),
    ) -> None:
        """Step the session and do what its table says. One that has ended is left alone."""
        if session.state is State.ENDED:
            return
        before = session.state
        action, session.state = step(TABLE, session.state, happened)
        if action is Action.ASK_NEXT:
            self.ask_next(session, code, reason, now)
        elif action is Action.TELL_TARGET:
            asked = session.asked
            self._end(session, reason, now)
            if asked is not None:
                self._tell(asked.connection, session, code, reason, now)
            if happened is not Input.INITIATOR_LEFT:
                self._dismiss(session.initiator, code, reason, now)
        elif action is Action.CONNECT:
            self._hall.deadlines.clear((Due.SWITCH, session))
            for party in session.parties():
                party.state = ConnectionState.ENDED
                self._hall.forget(party)
            self._hall.do(Join(session))
        elif action is Action.END:
            if before is not State.SWITCHING:
                self._hall.do(Cut(session, reason))
            elif isinstance(session.initiator, Visitor) and happened is not Input.INITIATOR_LEFT:
                self._hall.do(TurnAway(session.initiator, reason))
            self._end(session, reason, now, counts)

    def start(self, session: Session, connection: ServerConnection, now: float) -> None:
        """The target has come on ``connection``: tell both, and have their TLS ended."""
        hall = self._hall
        session.joined = connection
        session.peer = connection.name
        connection.session = session
        initiator = session.initiator
        lend = isinstance(initiator, Visitor) and initiator.kind != PASS
        _, session.state = step(TABLE, session.state, Input.JOINED_WEB if lend else Input.JOINED)
        connection.step(Happened.LENDING if lend else Happened.PARTNER_HERE)
        if isinstance(initiator, Visitor):
            self._strangers.settled(initiator)
            fields = session.id, initiator.host, initiator.observed
            hall.send(connection, StartWeb(*fields) if lend else StartPass(*fields), now)
            session.through.add(initiator)
        else:
            initiator.step(Happened.PARTNER_HERE)
            for one, other, role in (
                (initiator, connection, TLS_CLIENT),
                (connection, initiator, TLS_SERVER),
            ):
                start = StartSecure(
                    session.id, role, other.name, session.resource, hall.name, (hall.name,)
                )
                hall.send(one, start, now)
        for party in session.parties():
            hall.let_go(party)
            hall.deadlines.clear((Due.ALIVE, party))
            hall.deadlines.clear((Due.SETUP, party))
        if lend:
            hall.do(Lend(session, connection.leftover()))
            return
        hall.deadlines.set((Due.SWITCH, session), now + hall.limits.switch)
        for party in session.parties():
            hall.do(Switch(party))

    def through(self, connection: ServerConnection, now: float) -> None:
        """The TLS of one side has been ended, properly."""
        session = connection.session
        if not isinstance(session, Session) or session.state is not State.SWITCHING:
            return
        session.through.add(connection)
        if len(session.through) == 2:
            self.happened(session, Input.THROUGH, "", now)

    def review(self, now: float) -> None:
        """The policy is another: end what it does not allow any more (S5)."""
        policy = self._hall.policy
        for session in list(self.by_id.values()):
            initiator = session.initiator
            asked = session.asked
            if isinstance(initiator, Visitor):
                verdict = policy.may_enter(session.resource, initiator.source)
            else:
                verdict = policy.may_connect(
                    initiator.name, session.target, session.resource, session.groups
                )
            if verdict and asked is not None:
                verdict = policy.may_publish(asked.name, session.resource)
            if not verdict:
                self._hall.decide(
                    session.origin,
                    "go on",
                    f"{session.target}/{session.resource}",
                    verdict,
                    initiator.observed,
                )
                self.happened(session, Input.WITHDRAWN, verdict.rule, now, Code.NOT_ALLOWED)

    def expel(self, name: str, reason: str, now: float) -> None:
        """Nobody of this name is trusted any more: its sessions end."""
        for session in list(self.by_id.values()):
            peer = "" if session.asked is None else session.asked.name
            if name in (session.origin, peer):
                self.happened(session, Input.WITHDRAWN, reason, now, Code.NOT_ALLOWED)

    def left(self, connection: ServerConnection, reason: str, now: float) -> None:
        """A connection for a session, or a SPARE, is gone."""
        session = connection.session
        if isinstance(session, Offer):
            if connection in session.spares:
                session.spares.remove(connection)
        elif isinstance(session, Session):
            first = session.initiator is connection
            self.happened(
                session, Input.INITIATOR_LEFT if first else Input.TARGET_LEFT, reason, now
            )

    def fail(self, session: Session, code: Code, reason: str, now: float) -> None:
        """Nobody came: tell the initiator."""
        self._end(session, f"{code}: {reason}", now)
        self._dismiss(session.initiator, code, reason, now)

    def _dismiss(
        self, initiator: ServerConnection | Visitor, code: Code, reason: str, now: float
    ) -> None:
        if isinstance(initiator, Visitor):
            self._hall.do(TurnAway(initiator, f"{code}: {reason}"))
        else:
            self._refuse(initiator, code, reason, now, MessageType.CONNECT)

    def _end(
        self, session: Session, outcome: str, now: float, counts: tuple[int, int] = (0, 0)
    ) -> None:
        """It is over: everything that it has is given back, and its connections are closed."""
        hall = self._hall
        session.state = State.ENDED
        if self.by_id.pop(session.id, None) is None:
            return
        self.give_up_asking(session)
        hall.deadlines.clear((Due.SWITCH, session))
        if session.asked is not None:
            hall.accounts.give_back(SESSIONS, session.asked.name)
        if isinstance(session.initiator, Visitor):
            self._strangers.left(session.initiator)
            session.initiator.session = None
        else:
            hall.accounts.give_back(SESSIONS, session.initiator.name)
        for party in session.parties():
            # The initiator of a session that never began is told why: see `_dismiss`.
            if party.state in SILENT and party.state is not ConnectionState.ENDED:
                party.state = ConnectionState.ENDED
                hall.forget(party)
                hall.do(Close(party, outcome))
        hall.do(SessionEnded(session, outcome, *counts))

    def _tell(
        self, connection: ServerConnection, session: Session, code: Code, reason: str, now: float
    ) -> None:
        if connection.state is ConnectionState.PRESENT:
            self._hall.send(connection, Error(code, reason, session=session.id), now)
