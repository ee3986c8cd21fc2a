"""What a Communication Server wants done by whoever owns the sockets, and what it wants logged."""

from __future__ import annotations

import attrs

from tunnelkit.core.secureproxy.connection import ServerConnection
from tunnelkit.core.secureproxy.registry import Registration
from tunnelkit.core.secureproxy.session import Session, Visitor


@attrs.frozen
class Send:
    """Send these bytes inside the TLS of that connection."""

    connection: ServerConnection
    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Close:
    """Close that connection once everything for it has gone out.

    The server has forgotten it already; ``lost`` need not be called.
    """

    connection: ServerConnection
    reason: str


@attrs.frozen
class Authenticate:
    """Check the login in the HELLO of that connection, then call ``identified`` or ``rejected``."""

    connection: ServerConnection


@attrs.frozen
class Claim:
    """Claim the name of that connection for its client, then call ``claimed`` or ``not_claimed``.

    Once it is claimed, `Left` says that it is not needed any more.
    """

    connection: ServerConnection
    run: str
    """Of the client's process."""
    replace: bool
    """Another one of the name has to go."""


@attrs.frozen
class Switch:
    """End the TLS of that connection, keep the TCP connection, then call ``through``."""

    connection: ServerConnection


@attrs.frozen
class Join:
    """Make the initiator's and the target's TCP connections one; call ``over`` at its end."""

    session: Session


@attrs.frozen
class Lend:
    """HTTP requests of the session's visitor may go over ``session.joined``."""

    session: Session
    leftover: bytes = attrs.field(repr=False)


@attrs.frozen
class TurnAway:
    """This visitor gets nothing: an alert, or an answer of HTTP."""

    visitor: Visitor
    reason: str


@attrs.frozen
class Cut:
    """End a session that is joined or lent, on both sides."""

    session: Session
    reason: str


@attrs.frozen
class Decided:
    """For the log: who wanted what, and what the policy said."""

    who: str
    action: str
    what: str
    allowed: bool
    rule: str
    observed: str


@attrs.frozen
class Present:
    """For the log: a client has registered."""

    registration: Registration


@attrs.frozen
class Left:
    """For the log: a client is not present any more."""

    registration: Registration
    reason: str


@attrs.frozen
class SessionBegan:
    """For the access log: a session was asked for, and is allowed."""

    session: Session


@attrs.frozen
class SessionEnded:
    """For the access log: it is over, or never came to be."""

    session: Session
    outcome: str
    sent: int = 0
    """Bytes from initiator to target, once joined."""
    received: int = 0
    """Bytes from target to initiator."""


Command = (
    Send
    | Close
    | Authenticate
    | Claim
    | Switch
    | Join
    | Lend
    | TurnAway
    | Cut
    | Decided
    | Present
    | Left
    | SessionBegan
    | SessionEnded
)
