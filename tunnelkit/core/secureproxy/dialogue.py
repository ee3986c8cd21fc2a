"""A client's connection for one session, inside its TLS with the server (rows S6, S10)::

    client                                server
     | HELLO, then CONNECT, JOIN or SPARE   |
     |------------------------------------->|
     |                           KEEPALIVE  |
     |<------------------------------------>|
     |   START_SECURE, START_PASS, START_WEB|     event `Started`
     |<-------------------------------------|

Behind START_SECURE and START_PASS the TLS is ended on both sides, and the TCP
connection is the two clients', or the browser's. Behind START_WEB the server's
HTTP requests follow in the same TLS: `leftover`.
"""

from __future__ import annotations

from enum import Enum, auto

import attrs

from tunnelkit.core.secureproxy.names import covers
from tunnelkit.core.table import step
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.secureproxy import (
    GROUP,
    PASS,
    TLS_CLIENT,
    TLS_SERVER,
    Connect,
    Error,
    Hello,
    Incoming,
    Join,
    Keepalive,
    MessageType,
    Spare,
    StartPass,
    StartSecure,
    StartWeb,
    check_header,
    decode,
    encode,
)

KEEPALIVE = 10.0
"""Seconds of silence after which KEEPALIVE is sent; three times as long is death."""

Start = StartSecure | StartPass | StartWeb


@attrs.frozen
class Started:
    """The other side is there."""

    start: Start


@attrs.frozen
class Refused:
    """There will be no session."""

    code: Code
    reason: str


Event = Started | Refused


class State(Enum):
    """Where a connection for a session is."""

    WAITING = auto()
    """It is said what it is for; the server has not decided."""
    STARTED = auto()
    """The server says nothing more."""
    LENT = auto()
    """HTTP follows."""
    ENDED = auto()


class Input(Enum):
    """What may come."""

    START_SECURE = auto()
    START_PASS = auto()
    START_WEB = auto()
    KEEPALIVE = auto()
    ERROR = auto()
    OTHER = auto()
    """Any other message: never allowed."""


class Action(Enum):
    """What is done about it."""

    CHECK = auto()
    IGNORE = auto()
    REPORT_ERROR = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.WAITING, Input.START_SECURE): (Action.CHECK, State.STARTED),
    (State.WAITING, Input.START_PASS): (Action.CHECK, State.STARTED),
    (State.WAITING, Input.START_WEB): (Action.CHECK, State.LENT),
    (State.WAITING, Input.KEEPALIVE): (Action.IGNORE, State.WAITING),
    (State.WAITING, Input.ERROR): (Action.REPORT_ERROR, State.ENDED),
}

_INPUTS = {
    MessageType.START_SECURE: Input.START_SECURE,
    MessageType.START_PASS: Input.START_PASS,
    MessageType.START_WEB: Input.START_WEB,
    MessageType.KEEPALIVE: Input.KEEPALIVE,
    MessageType.ERROR: Input.ERROR,
}


class SessionDialogue:
    """``purpose`` is CONNECT, the INCOMING that is answered by JOIN, or SPARE.

    Send ``data_to_send()`` after making it and after every call. `receive` gives the
    one event; it raises `RemoteProtocolError` where the server breaks a rule, or says something
    else than was asked for: send ``data_to_send()``, then close.
    """

    def __init__(self, hello: Hello, purpose: Connect | Incoming | Spare, now: float) -> None:
        self._purpose = purpose
        said = Join(purpose.session, purpose.token) if isinstance(purpose, Incoming) else purpose
        self._reader = FrameReader(check_header)
        self._outbound = encode(hello) + encode(said)
        self._heard = self._said = now
        self.state = State.WAITING

    def data_to_send(self) -> bytes:
        """What has to go out now; empties the queue."""
        data, self._outbound = self._outbound, b""
        return data

    @property
    def leftover(self) -> bytes:
        """Bytes behind START_WEB."""
        return self._reader.leftover

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called; None when the server has decided."""
        if self.state is not State.WAITING:
            return None
        return min(self._heard + 3 * KEEPALIVE, self._said + KEEPALIVE)

    def deadline_passed(self, now: float) -> list[Event]:
        """KEEPALIVE, or `Refused` with TIMED_OUT after too long a silence."""
        if self.state is not State.WAITING:
            return []
        if now >= self._heard + 3 * KEEPALIVE:
            self.state = State.ENDED
            silence = f"nothing came from the server for {3 * KEEPALIVE:.0f} seconds"
            return [Refused(Code.TIMED_OUT, silence)]
        if now >= self._said + KEEPALIVE:
            self._said = now
            self._outbound += encode(Keepalive())
        return []

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> list[Event]:
        """Take bytes as they come, cut anywhere: at most one event."""
        self._heard = now
        self._reader.feed(data)
        try:
            while self.state is State.WAITING:
                frame = self._reader.next_frame()
                if frame is None:
                    break
                message = decode(frame)
                action, self.state = step(TABLE, self.state, _INPUTS.get(message.type, Input.OTHER))
                if isinstance(message, Error):
                    return [Refused(message.code, message.reason)]
                if action is Action.IGNORE:
                    self._reader.uncount(frame)
                    continue
                assert isinstance(message, StartSecure | StartPass | StartWeb)  # the table
                self._check(message)
                return [Started(message)]
            if self.state is State.STARTED and self._reader.held:
                raise RemoteProtocolError("the server says something behind START")
        except RemoteProtocolError as error:
            self.state = State.ENDED
            self._outbound += encode(Error(error.code, str(error), True))
            raise
        return []

    def _check(self, message: Start) -> None:
        """What the server says must be what this client knows."""
        if self.state is State.STARTED and self._reader.held:
            raise RemoteProtocolError("the server says something behind START")
        purpose = self._purpose
        if isinstance(purpose, Connect):
            _check_initiator(purpose, message)
        elif isinstance(purpose, Incoming):
            _check_target(purpose, message)
        elif not isinstance(message, StartPass):
            raise _unexpected(message)
        elif not covers(purpose.resource, PASS, message.host):
            _same("the site", purpose.resource, f"{PASS}:{message.host}")


def _check_initiator(asked: Connect, message: Start) -> None:
    if not isinstance(message, StartSecure):
        raise _unexpected(message)
    _require_role(message, TLS_CLIENT)
    _same("the resource", asked.resource, message.resource)
    if not asked.target.startswith(GROUP):
        _same("the peer", asked.target, message.peer)


def _check_target(asked: Incoming, message: Start) -> None:
    _same("the session", asked.session, message.session)
    if isinstance(message, StartSecure):
        if asked.host is not None:
            raise _unexpected(message)
        _require_role(message, TLS_SERVER)
        _same("the resource", asked.resource, message.resource)
        _same("the peer", asked.origin, message.peer)
        return
    kind = "pass:" if isinstance(message, StartPass) else "web:"
    if asked.host is None or not asked.resource.startswith(kind):
        raise _unexpected(message)
    _same("the host", asked.host, message.host)


def _require_role(message: StartSecure, role: str) -> None:
    """Two that both wait for the other, or both begin, would not get far."""
    if message.role != role:
        raise RemoteProtocolError(
            f"the server says this end's role is {message.role}, but it is {role}",
            code=Code.ROLE_CONFLICT,
        )


def _same(what: str, own: str, told: str) -> None:
    if own != told:
        raise RemoteProtocolError(
            f"{what} is {own!r} here, the server says {told!r}", code=Code.SETUP_MISMATCH
        )


def _unexpected(message: Start) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"{message.type.name} is not what was asked for", code=Code.SETUP_MISMATCH
    )
