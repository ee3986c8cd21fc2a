"""What the parts of a Communication Server share: the policy, who is there, deadlines, commands."""

from __future__ import annotations

from enum import Enum, auto

from tunnelkit.core.barred import Barred
from tunnelkit.core.deadlines import Deadlines
from tunnelkit.core.secureproxy.accounts import Accounts
from tunnelkit.core.secureproxy.commands import Command, Decided, Send
from tunnelkit.core.secureproxy.connection import ServerConnection
from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.secureproxy.policy import Policy, Verdict
from tunnelkit.core.secureproxy.registry import Registry
from tunnelkit.wire.secureproxy import Message, encode


class Due(Enum):
    """What a deadline is for."""

    SETUP = auto()
    """A connection has to say what it is for."""
    ALIVE = auto()
    """A connection has been silent, or the server towards it."""
    JOIN = auto()
    """The target of a session has to come."""
    SWITCH = auto()
    """Both sides of a session have to end their TLS."""
    EXPIRY = auto()
    """A resource is withdrawn."""
    CHANGES = auto()
    """Watchers are told of what has changed."""
    TURN = auto()
    """Visitors may have their turn."""


Key = tuple[Due, object]


class Hall:
    """One of these belongs to one server."""

    def __init__(self, name: str, policy: Policy, limits: Limits) -> None:
        self.name = name
        self.policy = policy
        self.limits = limits
        self.registry = Registry()
        self.accounts = Accounts()
        self.deadlines: Deadlines[Key] = Deadlines()
        self.known: dict[ServerConnection, None] = {}
        """All connections of which it is known whose they are, and that are not joined."""
        self.control: dict[ServerConnection, None] = {}
        """Those of them that are control connections."""
        self.barred = Barred()
        """Names that an administrator keeps out for a while."""
        self.draining = False
        self._commands: list[Command] = []

    # -- commands -----------------------------------------------------------

    def do(self, command: Command) -> None:
        """Have it done."""
        self._commands.append(command)

    def take(self) -> list[Command]:
        """All commands, in the order in which they are to be done."""
        commands, self._commands = self._commands, []
        return commands

    def send(self, connection: ServerConnection, message: Message, now: float) -> None:
        """Say something on a connection that is not over."""
        connection.said = now
        self.do(Send(connection, encode(message)))

    def decide(self, who: str, action: str, what: str, verdict: Verdict, observed: str) -> Verdict:
        """Note in the log what the policy says."""
        self.do(Decided(who, action, what, verdict.allowed, verdict.rule, observed))
        return verdict

    # -- connections --------------------------------------------------------

    def hold(self, connection: ServerConnection, what: str, most: int) -> None:
        """Count ``connection`` as one of its client's ``what``, and no more as what it was.

        Raises `RemoteProtocolError` with LIMIT for too many.
        """
        self.let_go(connection)
        self.accounts.take(what, connection.name, most)
        connection.holding = what

    def let_go(self, connection: ServerConnection) -> None:
        """Count it as nothing."""
        if connection.holding:
            self.accounts.give_back(connection.holding, connection.name)
            connection.holding = ""

    def forget(self, connection: ServerConnection) -> None:
        """No limit, deadline or list has to do with it any more."""
        self.let_go(connection)
        for due in (Due.SETUP, Due.ALIVE):
            self.deadlines.clear((due, connection))
        self.known.pop(connection, None)
        self.control.pop(connection, None)

    def watch_over(self, connection: ServerConnection, now: float) -> None:
        """It has said what it is for: expect to hear from it, and say something now and then."""
        self.deadlines.clear((Due.SETUP, connection))
        connection.heard = connection.said = now
        self.deadlines.set((Due.ALIVE, connection), self.next_sign(connection))

    def next_sign(self, connection: ServerConnection) -> float:
        """When the server has to say something, or may take it for dead."""
        every = self.limits.keepalive
        return min(connection.said + every, connection.heard + 3 * every)
