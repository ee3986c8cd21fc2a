"""A Communication Server with clients and browsers around it, without a socket."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, TypeVar

from tunnelkit.core.secureproxy.commands import (
    Authenticate,
    Claim,
    Close,
    Command,
    Cut,
    Decided,
    Join,
    Lend,
    Send,
    SessionBegan,
    SessionEnded,
    Switch,
    TurnAway,
)
from tunnelkit.core.secureproxy.connection import ServerConnection, State
from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.core.secureproxy.server import CommunicationServer
from tunnelkit.core.secureproxy.session import Visitor
from tunnelkit.errors import Code
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.secureproxy import (
    Connect,
    Error,
    Hello,
    Incoming,
    Login,
    Message,
    Publish,
    Resource,
    Spare,
    StartSecure,
    Welcome,
    check_header,
    decode,
    encode,
)
from tunnelkit.wire.secureproxy import (
    Join as JoinMessage,
)

POLICY = Policy(
    {
        "office": ClientRules(
            publish=("tunnel", "desk", "pass:site.example", "pass:*.wild.example",
                "web:app.example"),
            groups=("servers",),
        ),
        "depot": ClientRules(publish=("tunnel",), groups=("servers", "spare")),
        "store": ClientRules(publish=("tunnel", "pass:site.example"), groups=("servers",)),
        "laptop": ClientRules(connect=("office/tunnel", "group:servers/*"), lookup=("office",)),
        "guest": ClientRules(),
    }
)  # fmt: skip

START = 1000.0
_T = TypeVar("_T")


class Client:
    """One connection of a client, with what it was told."""

    def __init__(self, world: World, name: str, address: str = "192.0.2.7") -> None:
        self.world = world
        self.name = name
        self.connection = ServerConnection(address, f"{address}:40000", name, self)
        self.heard: list[Message] = []
        self.closed: str | None = None
        self.switching = False
        self.lent: Lend | None = None
        self.login: Login | None = None
        self._reader = FrameReader(check_header, None, None)

    def say(self, *messages: Message) -> Client:
        """All in one flight."""
        self.send(b"".join(map(encode, messages)))
        return self

    def send(self, data: bytes) -> None:
        self.world.do(self.world.server.receive(self.connection, data, self.world.now))

    def told(self, data: bytes) -> None:
        self._reader.feed(data)
        self.heard += map(decode, iter(self._reader.next_frame, None))

    def got(self, kind: type[_T]) -> _T:
        """The last message of this kind."""
        found = [message for message in self.heard if isinstance(message, kind)]
        assert found, self.heard
        return found[-1]

    def through(self) -> None:
        """Its TLS with the server has been ended."""
        assert self.switching
        self.world.do(self.world.server.through(self.connection, self.world.now))

    def leave(self) -> None:
        """Its connection is lost."""
        self.world.do(self.world.server.lost(self.connection, "gone", self.world.now))


class World:
    """Time passes only by `wait`."""

    def __init__(self, policy: Policy = POLICY, **limits: Any) -> None:
        ids = (f"{number:032x}" for number in itertools.count(1))
        tokens = (f"{number:064x}" for number in itertools.count(1))
        self.now = START
        self.server = CommunicationServer(
            "relay.example",
            policy,
            Limits(**limits),
            servers=("192.0.2.2:443",),
            make_id=lambda: next(ids),
            make_token=lambda: next(tokens),
            shuffle=lambda members: members.sort(key=lambda one: one.name),
        )
        self._generations = itertools.count(1_795_900_000_001)
        self.held_claims: list[Claim] | None = None
        """Those that nobody has answered, where a test wants to do that."""
        self.commands: list[Command] = []
        """Everything that was not said to a client."""
        self._runs = (f"{number:032x}" for number in itertools.count(100))

    def do(self, commands: list[Command]) -> None:
        """What the owner of the sockets does."""
        for command in commands:
            if isinstance(command, Send):
                client = command.connection.owner
                assert isinstance(client, Client)
                assert client.closed is None, "something is said behind the end"
                assert not client.switching, "something is said behind START"
                client.told(command.data)
                continue
            self.commands.append(command)
            if isinstance(command, Claim):
                if self.held_claims is None:
                    self.claimed(command)
                else:
                    self.held_claims.append(command)
            if isinstance(command, Close | Switch | Authenticate):
                client = command.connection.owner
                assert isinstance(client, Client)
                if isinstance(command, Close):
                    assert client.closed is None, "closed twice"
                    client.closed = command.reason
                client.switching = isinstance(command, Switch)
                if isinstance(command, Authenticate):
                    assert command.connection.hello is not None
                    client.login = command.connection.hello.login
            elif isinstance(command, Lend):
                assert command.session.joined is not None
                client = command.session.joined.owner
                assert isinstance(client, Client)
                client.lent = command

    def claimed(self, claim: Claim) -> None:
        """The name is this client's."""
        generation = next(self._generations)
        self.do(self.server.claimed(claim.connection, generation, self.now))

    def all(self, kind: type[_T]) -> list[_T]:
        """All commands of this kind so far."""
        return [command for command in self.commands if isinstance(command, kind)]

    def outcomes(self) -> Mapping[str, str]:
        """How each session ended, by id."""
        return {command.session.id: command.outcome for command in self.all(SessionEnded)}

    def wait(self, seconds: float) -> None:
        """Let time pass, with all deadlines in it."""
        end = self.now + seconds
        while (due := self.server.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.do(self.server.deadline_passed(self.now))
        self.now = end
        self.do(self.server.deadline_passed(self.now))

    # -- clients ------------------------------------------------------------------

    def client(self, name: str, address: str = "192.0.2.7") -> Client:
        """A connection whose TLS is up."""
        client = Client(self, name, address)
        self.do(self.server.connected(client.connection, self.now))
        return client

    def run(self) -> str:
        """A new start of a client."""
        return next(self._runs)

    def present(self, name: str, *resources: str, run: str = "") -> Client:
        """A registered client that publishes these."""
        client = self.client(name).say(Hello("present", run or self.run()))
        client.got(Welcome)
        if resources:
            client.say(Publish(tuple(map(resource, resources))))
        return client

    def asks(self, name: str, target: str, what: str = "tunnel", mode: str = "one") -> Client:
        """A client that wants a session."""
        return self.client(name).say(Hello("session", self.run()), Connect(target, what, mode))

    def joins(self, name: str, incoming: Incoming) -> Client:
        """A client that comes for a session."""
        return self.client(name).say(
            Hello("session", self.run()), JoinMessage(incoming.session, incoming.token)
        )

    def spare(self, name: str, what: str) -> Client:
        """A connection that waits for a browser."""
        return self.client(name).say(Hello("session", self.run()), Spare(what))

    def session(self) -> tuple[Client, Client]:
        """Two that have been told to start."""
        office = self.present("office", "tunnel")
        laptop = self.asks("laptop", "office")
        target = self.joins("office", office.got(Incoming))
        laptop.got(StartSecure)
        return laptop, target

    def browser(self, host: str, kind: str = "pass", address: str = "198.51.100.3") -> Visitor:
        """A browser that asks for ``host``."""
        visitor = Visitor(host, kind, address, address, f"{address}:60000")
        self.do(self.server.visit(visitor, self.now))
        return visitor

    def nothing_left(self) -> None:
        """Every count and deadline is back where it was."""
        server = self.server
        assert not server.sessions
        assert not len(server.registry)
        assert server.next_deadline() is None
        hall = server._hall
        assert not hall.accounts._counts
        assert not hall.known
        assert not hall.control
        assert not hall.registry._watchers
        assert not hall.registry._groups
        assert not len(hall.registry._hosts)
        strangers = server._introductions._strangers
        assert not strangers._pending
        assert not strangers._queue
        assert not strangers._addresses
        assert not strangers._hosts


def resource(name: str) -> Resource:
    """What ``--publish NAME`` publishes."""
    kind, colon, host = name.partition(":")
    return Resource(name, kind, host) if colon else Resource(name)


__all__ = ["POLICY", "START", "Client", "Cut", "Decided", "Join", "SessionBegan", "TurnAway",
    "World", "resource"]  # fmt: skip


def refused(client: Client, code: Code) -> Error:
    """It was told so, and its connection is over."""
    error = client.got(Error)
    assert error.code is code
    assert error.fatal
    assert client.closed is not None
    assert client.connection.state is State.ENDED
    return error
