"""One connection of a client to a Communication Server, inside its TLS (rows S4, S7; X7)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from tunnelkit.core.table import step
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.secureproxy import (
    Error,
    Hello,
    Message,
    MessageType,
    check_header,
    decode,
)

MAX_EARLY_BYTES = 65536
MAX_EARLY_MESSAGES = 32
"""What a connection may say before it is known whose it is."""


class State(Enum):
    """Where a connection is."""

    NEW = auto()
    """TLS is up; HELLO has not come."""
    CHECKING = auto()
    """Who it is is being found out; what comes behind HELLO waits."""
    PRESENT = auto()
    """Control connection of a registered client."""
    ASKING = auto()
    """Control connection of a client that only asks."""
    OPENING = auto()
    """For a session; CONNECT, JOIN or SPARE has not come."""
    CONNECTING = auto()
    """CONNECT waits for the target."""
    SPARE = auto()
    """Waits for a browser."""
    SWITCHING = auto()
    """START_SECURE or START_PASS was the last thing that the server said in this TLS."""
    LENT = auto()
    """START_WEB was; HTTP follows, which is read by others."""
    ENDED = auto()
    """Told to close, gone, or joined."""


class Input(Enum):
    """What may happen: messages, and below them what the server itself comes to."""

    HELLO = auto()
    PUBLISH = auto()
    LOOKUP = auto()
    ANSWER = auto()
    CONNECT = auto()
    JOIN = auto()
    SPARE = auto()
    KEEPALIVE = auto()
    ERROR = auto()
    SESSION_ERROR = auto()
    """ERROR that names a session."""
    OTHER = auto()
    """Any other message: never allowed."""

    KNOWN_PRESENT = auto()
    """It is known who the client is, and it wants to be present."""
    KNOWN_ASK = auto()
    KNOWN_SESSION = auto()
    PARTNER_HERE = auto()
    """The other side of the session is there: START_SECURE or START_PASS."""
    LENDING = auto()
    """START_WEB."""


class Action(Enum):
    """What is done about it."""

    IDENTIFY = auto()
    REGISTER = auto()
    WELCOME = auto()
    WAIT = auto()
    PUBLISH = auto()
    LOOK_UP = auto()
    TAKE_ANSWER = auto()
    INTRODUCE = auto()
    JOIN = auto()
    KEEP = auto()
    IGNORE = auto()
    START = auto()
    LEND = auto()
    END_SESSION = auto()
    CLOSE = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.NEW, Input.HELLO): (Action.IDENTIFY, State.CHECKING),
    (State.NEW, Input.ERROR): (Action.CLOSE, State.ENDED),
    (State.CHECKING, Input.KNOWN_PRESENT): (Action.REGISTER, State.PRESENT),
    (State.CHECKING, Input.KNOWN_ASK): (Action.WELCOME, State.ASKING),
    (State.CHECKING, Input.KNOWN_SESSION): (Action.WAIT, State.OPENING),
    (State.PRESENT, Input.PUBLISH): (Action.PUBLISH, State.PRESENT),
    (State.PRESENT, Input.LOOKUP): (Action.LOOK_UP, State.PRESENT),
    (State.PRESENT, Input.ANSWER): (Action.TAKE_ANSWER, State.PRESENT),
    (State.PRESENT, Input.SESSION_ERROR): (Action.END_SESSION, State.PRESENT),
    (State.PRESENT, Input.KEEPALIVE): (Action.IGNORE, State.PRESENT),
    (State.PRESENT, Input.ERROR): (Action.CLOSE, State.ENDED),
    (State.ASKING, Input.LOOKUP): (Action.LOOK_UP, State.ASKING),
    (State.ASKING, Input.KEEPALIVE): (Action.IGNORE, State.ASKING),
    (State.ASKING, Input.ERROR): (Action.CLOSE, State.ENDED),
    (State.OPENING, Input.CONNECT): (Action.INTRODUCE, State.CONNECTING),
    (State.OPENING, Input.JOIN): (Action.JOIN, State.OPENING),
    (State.OPENING, Input.SPARE): (Action.KEEP, State.SPARE),
    (State.OPENING, Input.KEEPALIVE): (Action.IGNORE, State.OPENING),
    (State.OPENING, Input.ERROR): (Action.CLOSE, State.ENDED),
    (State.OPENING, Input.PARTNER_HERE): (Action.START, State.SWITCHING),
    (State.OPENING, Input.LENDING): (Action.LEND, State.LENT),
    (State.CONNECTING, Input.KEEPALIVE): (Action.IGNORE, State.CONNECTING),
    (State.CONNECTING, Input.ERROR): (Action.CLOSE, State.ENDED),
    (State.CONNECTING, Input.SESSION_ERROR): (Action.CLOSE, State.ENDED),
    (State.CONNECTING, Input.PARTNER_HERE): (Action.START, State.SWITCHING),
    (State.SPARE, Input.KEEPALIVE): (Action.IGNORE, State.SPARE),
    (State.SPARE, Input.ERROR): (Action.CLOSE, State.ENDED),
    (State.SPARE, Input.PARTNER_HERE): (Action.START, State.SWITCHING),
    (State.SWITCHING, Input.KEEPALIVE): (Action.IGNORE, State.SWITCHING),
    (State.SWITCHING, Input.ERROR): (Action.CLOSE, State.ENDED),
    (State.SWITCHING, Input.SESSION_ERROR): (Action.CLOSE, State.ENDED),
}
"""CLOSE also ends the session that the connection is for. Every action but IGNORE may end in
ERROR and ENDED instead, where the server refuses."""

CONTROL = frozenset({State.PRESENT, State.ASKING})
"""States of control connections."""
SILENT = frozenset({State.SWITCHING, State.LENT, State.ENDED})
"""States in which the server says nothing of its own."""

_INPUTS = {
    MessageType.HELLO: Input.HELLO,
    MessageType.PUBLISH: Input.PUBLISH,
    MessageType.LOOKUP: Input.LOOKUP,
    MessageType.ANSWER: Input.ANSWER,
    MessageType.CONNECT: Input.CONNECT,
    MessageType.JOIN: Input.JOIN,
    MessageType.SPARE: Input.SPARE,
    MessageType.KEEPALIVE: Input.KEEPALIVE,
    MessageType.ERROR: Input.ERROR,
}


class ServerConnection:
    """The server fills in all but ``address``, ``certificate`` and ``owner``. Small: many wait."""

    __slots__ = (
        "_reader",
        "address",
        "certificate",
        "heard",
        "hello",
        "holding",
        "name",
        "observed",
        "owner",
        "said",
        "session",
        "state",
        "watched",
    )

    def __init__(
        self, address: str, observed: str, certificate: str = "", owner: object = None
    ) -> None:
        self.address = address
        """Where it comes from, as limits count: see `tunnelkit.core.secureproxy.strangers`."""
        self.observed = observed
        """``ADDRESS:PORT`` for other clients and the log."""
        self.certificate = certificate
        """The name in its certificate; empty without one."""
        self.owner = owner
        """For whoever owns the socket; the server does not look at it."""
        self.state = State.NEW
        self.name = ""
        """Who it is, once that is known."""
        self.hello: Hello | None = None
        self.session: object = None
        """What it is for, from CONNECT, JOIN or a browser's arrival on."""
        self.holding = ""
        """What limits count it as at the moment."""
        self.watched: set[str] | None = None
        """What its LOOKUPs watch."""
        self.heard = self.said = 0.0
        """When something last came, and last went out."""
        self._reader = FrameReader(check_header, MAX_EARLY_BYTES, MAX_EARLY_MESSAGES)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes have come. Raises `RemoteProtocolError` for too many that have to wait."""
        self._reader.feed(data)
        if self.state is State.CHECKING and self._reader.held > MAX_EARLY_BYTES:
            raise RemoteProtocolError(f"more than {MAX_EARLY_BYTES} bytes before the answer")

    def messages(self) -> Iterator[tuple[Action, Message]]:
        """Each message that is complete, and what to do about it, while there is a state for it.

        The state is stepped before a message is given, and the next one is not looked at before
        the caller is done with it. Raises `RemoteProtocolError`.
        """
        while self.state not in (State.CHECKING, State.LENT, State.ENDED):
            frame = self._reader.next_frame()
            if frame is None:
                return
            message = decode(frame)
            happened = _INPUTS.get(message.type, Input.OTHER)
            if isinstance(message, Error) and message.session is not None:
                happened = Input.SESSION_ERROR
            yield self.step(happened), message

    def step(self, happened: Input) -> Action:
        """Go to the next state. Raises `RemoteProtocolError` if there is none."""
        action, self.state = step(TABLE, self.state, happened)
        return action

    def trust(self, name: str) -> None:
        """It is known who this is: from now on it may say as much as it likes, in its time."""
        self.name = name
        self._reader.most_bytes = None
        self._reader.most_messages = None

    def leftover(self) -> bytes:
        """Bytes behind the last message: HTTP, of a connection that is lent."""
        return self._reader.leftover
