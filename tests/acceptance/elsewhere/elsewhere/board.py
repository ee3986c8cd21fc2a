"""A rendezvous: the ends meet at a unix socket, where one of them listens.

``--board PATH`` names it, ``--board-keeper`` is for the one that listens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tunnelkit.core.prologue import Export
from tunnelkit.errors import ConfigError, DialError
from tunnelkit.interfaces import IMeeting, IRendezvous
from tunnelkit.net.sockets.carrier import Carrier
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.socket_carrier import SocketCarrier
from tunnelkit.policy.settings import Settings


@attrs.frozen
class Config:
    """Where, and who listens."""

    path: str
    keeper: bool


def configure(settings: Settings) -> Config:
    """See `IRendezvousMaker`."""
    path = settings.required("board", "PATH of the socket").text
    if not os.path.isabs(path):
        raise ConfigError(f"--board {path}: expected an absolute path")
    return Config(path, settings.flag("board-keeper"))


def describe(config: Config) -> str:
    """See `IRendezvousMaker`."""
    return f"board {config.path}"


def make_rendezvous(reactor: Any, config: Config) -> Board:
    """See `IRendezvousMaker`."""
    return Keeper(reactor, config.path) if config.keeper else Visitor(reactor, config.path)


@implementer(IMeeting)
class Meeting:
    """Nothing is said before TLS."""

    announced = caller = host = ""
    hops = ()
    exclusive = True

    def __init__(self, carrier: Carrier, tls_client: bool) -> None:
        self.carrier = carrier
        self.tls_client = tls_client
        self.leftover = b""
        carrier.start(self)
        carrier.pause_reading()

    def prologue(
        self,
        certificate_name: str,
        allowed: frozenset[str],
        same_key: bool,
        export: Export,
        now: float,
    ) -> None:
        """See `IMeeting`."""

    def carrier_received(self, view: memoryview) -> None:
        """See `CarrierSink`."""
        self.leftover += view

    def carrier_writable(self) -> None:
        """See `CarrierSink`."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """See `CarrierSink`."""


@implementer(IRendezvous)
class Visitor:
    """Goes there."""

    serves = False

    def __init__(self, reactor: Any, path: str) -> None:
        self._poller = Poller.of(reactor)
        self._path = path

    async def meet(self, on_waiting: Callable[[str], object] | None = None) -> Meeting:
        """See `IRendezvous`."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._path)
        except OSError as error:
            sock.close()
            raise DialError(f"nobody keeps the board {self._path}: {error.strerror}") from None
        sock.setblocking(False)
        return Meeting(SocketCarrier(self._poller, sock), True)


@implementer(IRendezvous)
class Keeper(Service):
    """Listens there, from the start of the end to its stop."""

    serves = True

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._poller = Poller.of(reactor)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        self._socket.listen()
        self._socket.setblocking(False)
        self._asked: Deferred[Meeting] | None = None

    def fileno(self) -> int:
        """See `IReadDescriptor`."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """See `IReadDescriptor`."""
        return "board"

    def stopService(self) -> None:
        """Listen no more."""
        Service.stopService(self)
        self._reactor.removeReader(self)
        self._socket.close()

    def connectionLost(self, reason: object) -> None:
        """See `IReadDescriptor`."""

    def doRead(self) -> None:
        """Somebody comes."""
        asked, self._asked = self._asked, None
        self._reactor.removeReader(self)
        sock, _ = self._socket.accept()
        sock.setblocking(False)
        if asked is not None:
            asked.callback(Meeting(SocketCarrier(self._poller, sock), False))

    def meet(self, on_waiting: Callable[[str], object] | None = None) -> Deferred[Meeting]:
        """See `IRendezvous`."""
        self._asked = Deferred(self._cancelled)
        self._reactor.addReader(self)
        if on_waiting is not None:
            on_waiting("at the board")
        return self._asked

    def _cancelled(self, asked: Deferred[Meeting]) -> None:
        self._asked = None
        self._reactor.removeReader(self)


Board = Visitor | Keeper
