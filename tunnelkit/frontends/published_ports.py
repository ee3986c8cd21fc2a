"""Trusted sockets on the outside: ports here that lead to what the inside publishes (row T3).

A port is open only while its service is in the table of a control connection
that stands, and while a rule here allows it (``--allow listen:ADDRESS:PORT``).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.socket_table import TrustedSocket
from tunnelkit.errors import ChannelClosed, Code, ConfigError, NotAuthorized
from tunnelkit.net.channels.contracts import ChannelHandle, ExtendedConnection
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import Listener, bind_tcp, format_address
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import SERVICE, TCP
from tunnelkit.policy.printable import printable

_log = Logger()

PORTS_PER_SESSION = 64
"""Ports that one control session may have open here."""

_Key = tuple[ExtendedConnection, str, int]


class PublishedPorts(Service):
    """Opens and closes ports as the tables of the connections say."""

    def __init__(self, reactor: Any, policy: PolicyHolder) -> None:
        self.poller = Poller.of(reactor)
        self.policy = policy
        self._wanted: dict[ExtendedConnection, tuple[_Key, ...]] = {}
        self._open: dict[_Key, _Port] = {}
        self._told: set[_Key] = set()
        """Those whose failure the log has."""

    def changed(self, connection: ExtendedConnection, services: Sequence[TrustedSocket]) -> None:
        """The far side of ``connection`` publishes ``services`` now, and nothing else."""
        keys = tuple(
            (connection, entry.name, entry.listen) for entry in services if entry.listen is not None
        )
        if keys:
            self._wanted[connection] = keys[:PORTS_PER_SESSION]
        else:
            self._wanted.pop(connection, None)
        self.settle()

    def settle(self) -> None:
        """Close what should not be open, then open what should: the tables, or the rules here,
        have changed."""
        wanted = [key for keys in self._wanted.values() for key in keys]
        for key in [key for key in self._open if key not in wanted]:
            why = "it is not published any more" if key[0].up else "its control session has ended"
            self._open.pop(key).close(Code.NO_SUCH_SERVICE, why)
        for key in [key for key, port in self._open.items() if not port.is_allowed()]:
            self._open.pop(key).close(Code.NOT_ALLOWED, "its port is not allowed any more")
        self._told.intersection_update(wanted)
        for key in wanted:
            if key not in self._open and self.running:
                self._try(key)

    def startService(self) -> None:
        """Open ports from now on."""
        Service.startService(self)
        self.settle()

    def stopService(self) -> None:
        """Close all ports; what has come in over them may finish with the tunnel."""
        Service.stopService(self)
        for port in self._open.values():
            port.close()
        self._open.clear()

    def _try(self, key: _Key) -> None:
        connection, name, number = key
        try:
            self._open[key] = _Port(self, connection, name, number)
        except (NotAuthorized, ConfigError) as error:
            if key not in self._told:
                self._told.add(key)
                _log.warn(
                    "No port {number} for service {name} of {peer}: {why}",
                    number=number,
                    name=printable(name),
                    peer=printable(connection.peer),
                    why=str(error),
                )


class _Port:
    """One port for one service of one connection. Raises `NotAuthorized` and `BindError`."""

    def __init__(
        self, owner: PublishedPorts, connection: ExtendedConnection, name: str, number: int
    ) -> None:
        policy = owner.policy
        self._policy = policy
        self._poller = owner.poller
        self._connection = connection
        self._name = name
        self._entered: set[_Entered] = set()
        self._asked = (policy.listen_address(connection.peer, number), number)
        sock = bind_tcp(policy.authorize(connection.peer, "bind", TCP, *self._asked))
        self._listener = Listener(self._poller, sock, self._accepted)
        policy.listeners.add(TCP, *self._asked)
        whose = f"service {printable(name)} of {printable(connection.peer)}"
        self._description = f"{self._listener.address} for {whose}"
        _log.info("Listening on {what}", what=self._description)

    def is_allowed(self) -> bool:
        """Whether the rules still say so."""
        try:
            self._policy.authorize(self._connection.peer, "bind", TCP, *self._asked)
        except NotAuthorized:
            return False
        return True

    def close(self, code: Code | None = None, reason: str = "") -> None:
        """Close it, and with ``code`` what came in over it too."""
        self._listener.close()
        self._policy.listeners.discard(TCP, *self._asked)
        _log.info("Closed {what}{why}", what=self._description, why=reason and f": {reason}")
        if code is not None:
            for side in list(self._entered):
                side.end(code, reason)

    def left(self, side: _Entered) -> None:
        """A connection is over."""
        self._entered.discard(side)

    def _accepted(self, sock: socket.socket, client: tuple[str, int]) -> None:
        if not self._policy.admits(client[0]):
            _log.warn(
                "Not admitted to {what}: {client} (--from)",
                what=self._description,
                client=format_address(client),
            )
            reset(sock)
            return
        side = _Entered(self._poller, sock, self)
        self._entered.add(side)
        self._connection.open(f"{SERVICE}:{self._name}", side).addErrback(self._refused)

    def _refused(self, failure: Failure) -> None:
        # The client has been reset.
        failure.trap(ChannelClosed)
        _log.info("{what}: {why}", what=self._description, why=printable(str(failure.value)))


class _Entered(SocketSide):
    """A connection that came in over a port, and ends with it."""

    __slots__ = ("_entrance", "_joined")

    def __init__(self, poller: Poller, sock: socket.socket, entrance: _Port) -> None:
        SocketSide.__init__(self, poller, sock)
        self._entrance = entrance
        self._joined: ChannelHandle | None = None

    def end(self, code: Code, reason: str) -> None:
        """Reset it, here and at the far side."""
        if self._joined is not None:
            self._joined.abort(code, reason)

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""
        self._joined = channel
        SocketSide.attach(self, channel)

    def close(self) -> None:
        """See `LocalSide`."""
        self._entrance.left(self)
        SocketSide.close(self)

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        self._entrance.left(self)
        SocketSide.reset(self, code, reason)
