"""A client's control connection to a Communication Server, inside its TLS (row S4)::

    client                                server
     | HELLO                                |
     |------------------------------------->|
     |                              WELCOME |     event `Welcomed`
     |<-------------------------------------|
     | PUBLISH, LOOKUP                      |
     |------------------------------------->|
     |              OK, PRESENCE, or ERROR  |     `Published`, `Seen`, `RequestRefused`
     |<-------------------------------------|
     |                             INCOMING |     `Asked`; dial in and JOIN, or `refuse`
     |<-------------------------------------|

Send ``data_to_send()`` after making it and after every call. Once `Ended` has come, or
`receive` has raised `RemoteProtocolError`, it is over: send what there is, then close.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

import attrs

from tunnelkit.core.table import step
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.secureproxy import (
    PRESENT,
    Answer,
    Drain,
    Error,
    Hello,
    Incoming,
    Keepalive,
    Lookup,
    Message,
    MessageType,
    Presence,
    Publish,
    Resource,
    Welcome,
    check_header,
    decode,
    encode,
)

GREETING_LIMIT = 10.0
"""Seconds for WELCOME."""
PUBLISH_INTERVAL = 1.1
"""Seconds between two PUBLISH: the server takes one a second."""


@attrs.frozen
class Welcomed:
    """The server has let the client in."""

    welcome: Welcome


@attrs.frozen
class Published:
    """The table that was sent last counts."""


@attrs.frozen
class RequestRefused:
    """PUBLISH (``target`` is empty) or a LOOKUP was refused."""

    code: Code
    reason: str
    target: str = ""


@attrs.frozen
class Asked:
    """Somebody wants a session."""

    incoming: Incoming


@attrs.frozen
class SessionOff:
    """A session that was asked for is off: do not dial, or hang up."""

    session: str
    code: Code
    reason: str


@attrs.frozen
class Seen:
    """The answer to a LOOKUP, or a change of what is watched."""

    presence: Presence


@attrs.frozen
class Draining:
    """The server stops in ``grace`` seconds: register elsewhere, then leave."""

    grace: float
    servers: tuple[str, ...]


@attrs.frozen
class Ended:
    """The server has ended it, or is silent (TIMED_OUT)."""

    code: Code
    reason: str


Event = Welcomed | Published | RequestRefused | Asked | SessionOff | Seen | Draining | Ended


class State(Enum):
    """Where a control connection is."""

    GREETING = auto()
    """HELLO is sent."""
    READY = auto()
    ENDED = auto()


class Input(Enum):
    """What may come."""

    WELCOME = auto()
    OK = auto()
    PRESENCE = auto()
    INCOMING = auto()
    DRAIN = auto()
    KEEPALIVE = auto()
    REFUSAL = auto()
    """ERROR without ``fatal`` about PUBLISH or LOOKUP."""
    SESSION_ERROR = auto()
    """ERROR without ``fatal`` that names a session."""
    ERROR = auto()
    OTHER = auto()
    """Any other message: never allowed."""


class Action(Enum):
    """What is done about it."""

    BEGIN = auto()
    REPORT_DONE = auto()
    REPORT_PRESENCE = auto()
    CHECK_INCOMING = auto()
    REPORT_DRAIN = auto()
    IGNORE = auto()
    REPORT_REFUSAL = auto()
    REPORT_SESSION = auto()
    REPORT_END = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.GREETING, Input.WELCOME): (Action.BEGIN, State.READY),
    (State.GREETING, Input.ERROR): (Action.REPORT_END, State.ENDED),
    (State.READY, Input.OK): (Action.REPORT_DONE, State.READY),
    (State.READY, Input.PRESENCE): (Action.REPORT_PRESENCE, State.READY),
    (State.READY, Input.INCOMING): (Action.CHECK_INCOMING, State.READY),
    (State.READY, Input.DRAIN): (Action.REPORT_DRAIN, State.READY),
    (State.READY, Input.KEEPALIVE): (Action.IGNORE, State.READY),
    (State.READY, Input.REFUSAL): (Action.REPORT_REFUSAL, State.READY),
    (State.READY, Input.SESSION_ERROR): (Action.REPORT_SESSION, State.READY),
    (State.READY, Input.ERROR): (Action.REPORT_END, State.ENDED),
}

_INPUTS = {
    MessageType.WELCOME: Input.WELCOME,
    MessageType.OK: Input.OK,
    MessageType.PRESENCE: Input.PRESENCE,
    MessageType.INCOMING: Input.INCOMING,
    MessageType.DRAIN: Input.DRAIN,
    MessageType.KEEPALIVE: Input.KEEPALIVE,
}
_REQUESTS = (MessageType.PUBLISH, MessageType.LOOKUP)


class ControlDialogue:
    """The client's side. Times are seconds of one clock that never goes back."""

    def __init__(self, hello: Hello, now: float) -> None:
        self._present = hello.purpose == PRESENT
        self._reader = FrameReader(check_header, None, None)
        self._outbound = bytearray(encode(hello))
        self._requests: deque[Publish | Lookup] = deque()
        """Sent and not answered; the server answers in order."""
        self._unsent: list[Publish | Lookup] = []
        """Asked for before WELCOME."""
        self._table: Publish | None = None
        """A table that waits for its second to be over."""
        self._published = -PUBLISH_INTERVAL
        self._heard = self._said = now
        self._keepalive = GREETING_LIMIT / 3
        self.state = State.GREETING
        self.welcome: Welcome | None = None

    # -- wishes -----------------------------------------------------------------

    def publish(self, resources: tuple[Resource, ...], now: float) -> None:
        """``resources`` is the whole table; it goes out as soon as the server may take it."""
        if not self._present:
            raise LocalProtocolError("a client that is not present publishes nothing")
        self._table = Publish(resources)
        self._send_table(now)

    def look_up(self, target: str, now: float, *, watch: bool = False) -> None:
        """Ask who is there: a name, or ``group:`` and a group's."""
        self._request(Lookup(target, watch), now)

    def refuse(self, session: str, code: Code, reason: str, now: float) -> None:
        """No session: the initiator is told."""
        if self.state is State.READY:
            self._send(Answer(session, code=code, reason=reason), now)

    def leave(self, reason: str, now: float) -> None:
        """Say that the client goes."""
        if self.state is not State.ENDED:
            self._send(Error(Code.SHUTDOWN, reason, True), now)
            self.state = State.ENDED

    def data_to_send(self) -> bytes:
        """What has to go out now; empties the queue."""
        data = bytes(self._outbound)
        self._outbound.clear()
        return data

    # -- time ---------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called; None once it is over."""
        if self.state is State.ENDED:
            return None
        due = self._heard + 3 * self._keepalive
        if self.state is State.READY:
            due = min(due, self._said + self._keepalive)
            if self._table is not None:
                due = min(due, self._published + PUBLISH_INTERVAL)
        return due

    def deadline_passed(self, now: float) -> list[Event]:
        """KEEPALIVE, a table that had to wait, or `Ended` after too long a silence."""
        if self.state is State.ENDED:
            return []
        if now >= self._heard + 3 * self._keepalive:
            self.state = State.ENDED
            silence = f"nothing came from the server for {3 * self._keepalive:.0f} seconds"
            return [Ended(Code.TIMED_OUT, silence)]
        if self.state is State.READY:
            self._send_table(now)
            if now >= self._said + self._keepalive:
                self._send(Keepalive(), now)
        return []

    # -- messages -------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> list[Event]:
        """Take bytes as they come, cut anywhere. Raises `RemoteProtocolError`."""
        self._heard = now
        self._reader.feed(data)
        events: list[Event] = []
        try:
            while self.state is not State.ENDED:
                frame = self._reader.next_frame()
                if frame is None:
                    break
                events += self._take(decode(frame), now)
        except RemoteProtocolError as error:
            self._send(Error(error.code, str(error), True), now)
            self.state = State.ENDED
            raise
        return events

    def _take(self, message: Message, now: float) -> list[Event]:
        happened = _INPUTS.get(message.type, Input.OTHER)
        if isinstance(message, Error):
            happened = _error_input(message)
        action, self.state = step(TABLE, self.state, happened)
        if action is Action.IGNORE:
            return []
        if action is Action.REPORT_DONE:
            self._answered(Publish)
            return [Published()]
        if isinstance(message, Welcome):
            return self._begin(message, now)
        if isinstance(message, Presence):
            head = self._requests[0] if self._requests else None
            if isinstance(head, Lookup) and head.target == message.of:
                self._requests.popleft()
            return [Seen(message)]
        if isinstance(message, Incoming):
            return self._check_incoming(message, now)
        if isinstance(message, Drain):
            return [Draining(message.grace, message.servers)]
        assert isinstance(message, Error)  # the table: nothing else is left
        if action is Action.REPORT_REFUSAL:
            refused = self._answered(Publish if message.about == MessageType.PUBLISH else Lookup)
            target = refused.target if isinstance(refused, Lookup) else ""
            return [RequestRefused(message.code, message.reason, target)]
        if action is Action.REPORT_SESSION:
            return [SessionOff(message.session or "", message.code, message.reason)]
        return [Ended(message.code, message.reason)]

    def _begin(self, welcome: Welcome, now: float) -> list[Event]:
        self.welcome = welcome
        self._keepalive = welcome.keepalive
        waiting, self._unsent = self._unsent, []
        for request in waiting:
            self._request(request, now)
        self._send_table(now)
        return [Welcomed(welcome)]

    def _check_incoming(self, incoming: Incoming, now: float) -> list[Event]:
        """A server that has forgotten about a later registration speaks for an earlier one."""
        assert self.welcome is not None  # the table: WELCOME comes first
        if incoming.generation < self.welcome.generation:
            reason = f"generation {incoming.generation} is over"
            self.refuse(incoming.session, Code.SETUP_MISMATCH, reason, now)
            return []
        return [Asked(incoming)]

    def _answered(self, kind: type[Publish | Lookup]) -> Publish | Lookup | None:
        """The request that a message answers: none, if a policy withdrew what was published."""
        if self._requests and isinstance(self._requests[0], kind):
            return self._requests.popleft()
        return None

    # -- sending ----------------------------------------------------------------------

    def _send_table(self, now: float) -> None:
        table = self._table
        if table is None or self.state is not State.READY:
            return
        if now >= self._published + PUBLISH_INTERVAL:
            self._table = None
            self._published = now
            self._request(table, now)

    def _request(self, request: Publish | Lookup, now: float) -> None:
        if self.state is State.GREETING:
            self._unsent.append(request)
        elif self.state is State.READY:
            self._requests.append(request)
            self._send(request, now)

    def _send(self, message: Message, now: float) -> None:
        self._said = now
        self._outbound += encode(message)


def _error_input(error: Error) -> Input:
    if error.fatal:
        return Input.ERROR
    if error.session is not None:
        return Input.SESSION_ERROR
    return Input.REFUSAL if error.about in _REQUESTS else Input.ERROR
