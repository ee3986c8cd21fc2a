"""How a Communication Server brings an initiator and a target together (rows S6, S7, S10)."""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable

from tunnelkit.core.secureproxy.commands import TurnAway
from tunnelkit.core.secureproxy.connection import ServerConnection
from tunnelkit.core.secureproxy.hall import Due, Hall
from tunnelkit.core.secureproxy.registry import Registration
from tunnelkit.core.secureproxy.session import Input, State, Visitor
from tunnelkit.core.secureproxy.sessions import SESSIONS, Sessions
from tunnelkit.core.secureproxy.strangers import TURN, Strangers
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.secureproxy import (
    ANY,
    GROUP,
    PASS,
    SESSION,
    Answer,
    Connect,
    Error,
    Join,
    Spare,
)

MOST_ASKED = 4
"""Members of a group that are asked one after the other."""

CONNECTING = "CONNECT without an answer"

NO_SESSION = "there is no such session for this client"
"""Whatever is wrong with a JOIN: who guesses learns nothing."""


class Introductions:
    """Who asks, who comes, and browsers. The verbs are called by `CommunicationServer` only."""

    def __init__(
        self,
        hall: Hall,
        sessions: Sessions,
        strangers: Strangers,
        shuffle: Callable[[list[Registration]], None] | None = None,
    ) -> None:
        self._hall = hall
        self._sessions = sessions
        self._strangers = strangers
        self._shuffle = shuffle or random.SystemRandom().shuffle

    # -- clients --------------------------------------------------------------

    def connect(self, connection: ServerConnection, message: Connect, now: float) -> None:
        """CONNECT. Raises `RemoteProtocolError` for what is refused."""
        hall = self._hall
        if hall.draining:
            raise RemoteProtocolError("the server is stopping", code=Code.SHUTDOWN)
        hall.hold(connection, CONNECTING, hall.limits.connecting)
        hall.watch_over(connection, now)
        candidates, groups = self._candidates(connection.name, message)
        verdict = hall.decide(
            connection.name,
            "connect",
            f"{message.target}/{message.resource}",
            hall.policy.may_connect(connection.name, message.target, message.resource, groups),
            connection.observed,
        )
        if not verdict:
            raise RemoteProtocolError("no rule allows it", code=Code.NOT_ALLOWED)
        if not candidates:
            raise RemoteProtocolError(
                f"nobody offers {message.resource} as {message.target}", code=Code.NOT_PRESENT
            )
        hall.accounts.take(SESSIONS, connection.name, hall.limits.sessions)
        session = self._sessions.begin(connection, message.target, message.resource, verdict.rule)
        session.candidates = candidates
        self._sessions.ask_next(session, Code.NOT_PRESENT, "", now)

    def _candidates(self, name: str, message: Connect) -> tuple[list[Registration], frozenset[str]]:
        """Whom to ask, in order; for a name also the groups in which it offers the resource."""
        registry = self._hall.registry
        if not message.target.startswith(GROUP):
            registration = registry.get(message.target)
            if registration is None:
                return [], frozenset()
            found = [registration] if _offers(registration, message.resource) else []
            return found, registration.groups_with(message.resource)
        group = message.target[len(GROUP) :]
        members = [
            member
            for member in registry.members(group)
            if member.name != name
            and group in member.groups_with(message.resource)
            and _offers(member, message.resource)
        ]
        self._shuffle(members)
        return members[: MOST_ASKED if message.mode == ANY else 1], frozenset()

    def answered(self, connection: ServerConnection, message: Answer | Error, now: float) -> None:
        """ANSWER, or an ERROR that names a session, on a control connection.

        One that comes too late, or for somebody else's session, changes nothing.
        """
        session = self._sessions.by_id.get(message.session or "")
        if session is None or session.state is not State.ASKED:
            return
        if session.asked is None or session.asked.connection is not connection:
            return
        if isinstance(message, Answer) and message.accept:
            return
        self._sessions.refused(session, message.code or Code.REFUSED, message.reason, now)

    def join(self, connection: ServerConnection, message: Join, now: float) -> None:
        """JOIN. Raises `RemoteProtocolError` unless it comes from the client that was asked."""
        session = self._sessions.by_id.get(message.session)
        if (
            session is None
            or session.state is not State.ASKED
            or session.asked is None
            or session.asked.name != connection.name
            or not hmac.compare_digest(session.token, message.token)
        ):
            raise RemoteProtocolError(NO_SESSION, code=Code.NOT_ALLOWED)
        self._sessions.give_up_asking(session)
        self._sessions.start(session, connection, now)

    def keep(self, connection: ServerConnection, message: Spare, now: float) -> None:
        """SPARE. Raises `RemoteProtocolError` unless it comes from the resource's publisher."""
        registration = self._hall.registry.get(connection.name)
        offer = None if registration is None else registration.offers.get(message.resource)
        if offer is None or offer.resource.kind != PASS:
            raise RemoteProtocolError(
                f"{message.resource} is not published by this client", code=Code.NOT_ALLOWED
            )
        if len(offer.spares) >= self._hall.limits.spares:
            raise RemoteProtocolError(
                f"more than {self._hall.limits.spares} SPARE for one resource", code=Code.LIMIT
            )
        offer.spares.append(connection)
        connection.session = offer
        self._hall.watch_over(connection, now)

    # -- browsers -------------------------------------------------------------

    def visit(self, visitor: Visitor, now: float) -> None:
        """A browser has come."""
        hall = self._hall
        resource = f"{visitor.kind}:{visitor.host}"
        found = hall.registry.publisher(visitor.kind, visitor.host)
        if hall.draining or found is None:
            hall.do(TurnAway(visitor, "the server is stopping" if hall.draining else "not here"))
            return
        # A rule about a wildcard counts for every name that it covers.
        named = found[1].resource.name
        sources = named if resource not in hall.policy.sources else resource
        verdict = hall.policy.may_enter(sources, visitor.source)
        if not hall.decide("", "enter", resource, verdict, visitor.observed):
            hall.do(TurnAway(visitor, "no rule allows it"))
            return
        admitted = self._strangers.arrive(visitor, now)
        if admitted:
            self._introduce(visitor, now)
        elif admitted is None:
            hall.do(TurnAway(visitor, "too many wait"))
        else:
            self._look_again(now)

    def visitor_left(self, visitor: Visitor, now: float) -> None:
        """A browser has gone before, or while, it was served."""
        self._strangers.left(visitor)
        if visitor.session is not None:
            self._sessions.happened(
                visitor.session, Input.INITIATOR_LEFT, "the browser has gone", now
            )

    def turn(self, now: float) -> None:
        """Those who wait may have their turn."""
        for visitor in self._strangers.out_of_patience(now):
            self._hall.do(TurnAway(visitor, "too many wait"))
        for visitor in self._strangers.next_in_turn(now):
            self._introduce(visitor, now)
        self._look_again(now)

    def _look_again(self, now: float) -> None:
        key = (Due.TURN, None)
        if self._strangers.waiting and key not in self._hall.deadlines:
            self._hall.deadlines.set(key, now + TURN)

    def _introduce(self, visitor: Visitor, now: float) -> None:
        """It is this browser's turn."""
        hall = self._hall
        found = hall.registry.publisher(visitor.kind, visitor.host)
        if found is None:
            self._turn_away(visitor, "not here")
            return
        registration, offer = found
        verdict = hall.policy.may_publish(registration.name, offer.resource.name)
        session = self._sessions.begin(
            visitor, registration.name, offer.resource.name, verdict.rule
        )
        if offer.spares:
            spare = offer.spares.popleft()
            try:
                hall.accounts.take(SESSIONS, registration.name, hall.limits.sessions)
            except RemoteProtocolError as error:
                offer.spares.appendleft(spare)
                self._sessions.fail(session, error.code, str(error), now)
                return
            session.asked = registration
            self._sessions.start(session, spare, now)
            return
        session.candidates = [registration]
        self._sessions.ask_next(session, Code.NOT_PRESENT, "", now)

    def _turn_away(self, visitor: Visitor, reason: str) -> None:
        self._strangers.left(visitor)
        self._hall.do(TurnAway(visitor, reason))


def _offers(registration: Registration, resource: str) -> bool:
    """Whether clients can have sessions with it for ``resource``."""
    offer = registration.offers.get(resource)
    return offer is not None and offer.resource.kind == SESSION
