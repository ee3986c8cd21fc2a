"""A running role's control socket: status, connect and disconnect for `tunnelkit` (rows L14, O2).

A unix socket that only its owner can enter. One request a connection, one
line each way: the request is a command's name, the answer a JSON object, with
``error`` in it if there is no such command. Every role also answers ``resources``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import Listener, bind_unix, remove_socket
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import Policy

Commands = Mapping[str, Callable[[], Mapping[str, object]]]
"""What a role can be told, by name; each returns what is answered."""

_REQUEST_LIMIT = 5.0
"""Seconds to ask."""
_LONGEST_REQUEST = 256


class ControlService(Service):
    """Listens at ``path``; the socket is bound when it is made (`ConfigError` if it cannot be)."""

    def __init__(self, reactor: Any, path: str, commands: Commands) -> None:
        self._reactor = reactor
        self._path = path
        self._socket = bind_unix(Policy().own(path, 0, "unix"))
        known: Commands = {**commands, "resources": partial(resources, reactor)}
        self._factory = _ControlFactory(reactor, known)
        self._listener: Listener | None = None
        self.link: str | None = None
        """A link to the socket, which goes when it does."""

    def startService(self) -> None:
        """Answer."""
        Service.startService(self)
        # Twisted's own unix port would let everybody in.
        self._listener = Listener(Poller.of(self._reactor), self._socket, self._accept)

    def stopService(self) -> None:
        """Answer no more, and remove the socket."""
        Service.stopService(self)
        if self._listener is not None:
            self._listener.close()
        remove_socket(self._path)
        if self.link is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.link)

    def _accept(self, sock: socket.socket, address: object) -> None:
        # The reactor works on a duplicate of the descriptor.
        self._reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, self._factory)
        sock.close()


def resources(reactor: Any) -> dict[str, object]:
    """What the process holds: memory in bytes (resident), descriptors, timers that are due.

    0 where the operating system does not tell.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        # Since Linux 6.2 the directory's size is their number; listing 10,000 takes 7 ms.
        descriptors = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        memory = descriptors = 0
    return {
        "memory": memory,
        "descriptors": descriptors,
        "timers": len(reactor.getDelayedCalls()),
    }


class _ControlFactory(Factory):
    noisy = False

    def __init__(self, reactor: Any, commands: Commands) -> None:
        self._reactor = reactor
        self._commands = commands

    def buildProtocol(self, addr: object) -> _Control:
        return _Control(self._reactor, self._commands)


class _Control(Protocol):
    """One request and its answer."""

    def __init__(self, reactor: Any, commands: Commands) -> None:
        self._commands = commands
        self._request = b""
        self._limit = Timer(reactor, self._leave)

    def connectionMade(self) -> None:
        """The request has to come soon."""
        self._limit.start(_REQUEST_LIMIT)

    def dataReceived(self, data: bytes) -> None:
        """Part of the request."""
        self._request += data
        line, newline, _ = self._request.partition(b"\n")
        if newline:
            assert self.transport is not None
            self.transport.write(json.dumps(self._answer(line)).encode("ascii") + b"\n")
            self._leave()
        elif len(self._request) > _LONGEST_REQUEST:
            self._leave()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It is over."""
        self._limit.stop()

    def _answer(self, line: bytes) -> Mapping[str, object]:
        name = line.decode("ascii", "replace")
        command = self._commands.get(name)
        if command is None:
            known = ", ".join(sorted(self._commands))
            return {"error": f"this role has no command {name!a}: expected {known}"}
        return command()

    def _leave(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
