"""One session at a Communication Server, from CONNECT or a browser to its end (rows S6, S7, S10).

A `Session` has an initiator (a client's connection, or a `Visitor`: a browser)
and, once somebody has joined, a target. Its table says what follows from what;
the server does it.
"""

from __future__ import annotations

from enum import Enum, auto

import attrs

from tunnelkit.core.secureproxy.connection import ServerConnection
from tunnelkit.core.secureproxy.registry import Registration


class State(Enum):
    """Where a session is."""

    ASKED = auto()
    """INCOMING has gone to a target; JOIN has not come."""
    SWITCHING = auto()
    """Both are there, and end their TLS with the server."""
    JOINED = auto()
    """The two connections are one; the server copies bytes that it cannot read."""
    LENT = auto()
    """HTTP between the server and the target."""
    ENDED = auto()


class Input(Enum):
    """What may happen to it."""

    JOINED = auto()
    """The target has come."""
    JOINED_WEB = auto()
    """The target has come for HTTP."""
    REFUSED = auto()
    """It said no, its control connection is gone, or its time is over; others may be asked."""
    THROUGH = auto()
    """Both have ended their TLS."""
    INITIATOR_LEFT = auto()
    TARGET_LEFT = auto()
    TIMED_OUT = auto()
    """One of the two did not end its TLS in time."""
    WITHDRAWN = auto()
    """No rule allows it any more."""


class Action(Enum):
    """What is done about it."""

    START = auto()
    LEND = auto()
    ASK_NEXT = auto()
    CONNECT = auto()
    TELL_TARGET = auto()
    END = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.ASKED, Input.JOINED): (Action.START, State.SWITCHING),
    (State.ASKED, Input.JOINED_WEB): (Action.LEND, State.LENT),
    (State.ASKED, Input.REFUSED): (Action.ASK_NEXT, State.ASKED),
    (State.ASKED, Input.INITIATOR_LEFT): (Action.TELL_TARGET, State.ENDED),
    (State.ASKED, Input.WITHDRAWN): (Action.TELL_TARGET, State.ENDED),
    (State.SWITCHING, Input.THROUGH): (Action.CONNECT, State.JOINED),
    (State.SWITCHING, Input.TIMED_OUT): (Action.END, State.ENDED),
    (State.SWITCHING, Input.INITIATOR_LEFT): (Action.END, State.ENDED),
    (State.SWITCHING, Input.TARGET_LEFT): (Action.END, State.ENDED),
    (State.SWITCHING, Input.WITHDRAWN): (Action.END, State.ENDED),
    (State.JOINED, Input.INITIATOR_LEFT): (Action.END, State.ENDED),
    (State.JOINED, Input.TARGET_LEFT): (Action.END, State.ENDED),
    (State.JOINED, Input.WITHDRAWN): (Action.END, State.ENDED),
    (State.LENT, Input.INITIATOR_LEFT): (Action.END, State.ENDED),
    (State.LENT, Input.TARGET_LEFT): (Action.END, State.ENDED),
    (State.LENT, Input.WITHDRAWN): (Action.END, State.ENDED),
}
"""ASK_NEXT goes to ENDED if there is nobody else to ask."""


class Visitor:
    """A browser: one connection to a published site, or one request to a vhost."""

    __slots__ = ("address", "host", "kind", "observed", "owner", "session", "source")

    def __init__(
        self, host: str, kind: str, source: str, counted: str, observed: str, owner: object = None
    ) -> None:
        self.host = host
        """The name that it asked for."""
        self.kind = kind
        """``pass`` or ``web``."""
        self.source = source
        """Its address, as policies look at it."""
        self.address = counted
        """Its address, as limits count it."""
        self.observed = observed
        """``ADDRESS:PORT``."""
        self.owner = owner
        """For whoever owns the socket; the server does not look at it."""
        self.session: Session | None = None


@attrs.define(eq=False)
class Session:
    """``initiator`` leaves or stays; targets are asked one after the other until one comes."""

    id: str
    initiator: ServerConnection | Visitor
    target: str
    """As the initiator wrote it."""
    resource: str
    rule: str
    """The policy's, that allows it."""
    candidates: list[Registration] = attrs.field(factory=list)
    """Who else may be asked, the next one first."""
    state: State = State.ASKED
    asked: Registration | None = None
    """Who was asked last."""
    token: str = attrs.field(default="", repr=False)
    joined: ServerConnection | None = None
    """The target's connection."""
    peer: str = ""
    """The target's name."""
    groups: frozenset[str] = frozenset()
    """Those in which the target offers it, when it was asked."""
    through: set[object] = attrs.field(factory=set)
    """Who has ended its TLS."""

    @property
    def origin(self) -> str:
        """The initiator's name; empty for a browser."""
        return "" if isinstance(self.initiator, Visitor) else self.initiator.name

    @property
    def host(self) -> str | None:
        """The name that the browser asked for."""
        return self.initiator.host if isinstance(self.initiator, Visitor) else None

    def parties(self) -> list[ServerConnection]:
        """The clients' connections that it has."""
        both = (self.initiator, self.joined)
        return [one for one in both if isinstance(one, ServerConnection)]
