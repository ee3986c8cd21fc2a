"""The SOCKS server: 4, 4a and 5 with or without user and password (row F1).

`tunnelkit.frontends.socks.bind` serves BIND, `tunnelkit.frontends.socks.udp` UDP ASSOCIATE.

A client is answered once the far side has really connected, with the code
that says how it went; from then on its socket is one side of the channel.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.proxies.socks_server import (
    HANDSHAKE_LIMIT,
    Check,
    Ended,
    SocksRequest,
    SocksServer,
    check_against,
)
from tunnelkit.errors import ChannelClosed, Code, ConfigError
from tunnelkit.frontends.logins import ports_with_logins
from tunnelkit.frontends.socks.bind import Binding, address_of
from tunnelkit.frontends.socks.control import Control, SocksTunnel
from tunnelkit.frontends.socks.far_addresses import FarAddresses
from tunnelkit.frontends.socks.udp import Association
from tunnelkit.local.listening import ListeningService
from tunnelkit.local.waiting import Waiting
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import TCP, destination_to
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings
from tunnelkit.wire.socks import Command

_log = Logger()

HANDSHAKES = 1024
"""Clients that have not completed their request, at once; the oldest has to go."""
SERVED = 256
"""Clients with a BIND that waits, or with an association; the oldest has to go."""
READ_SIZE = 4096


@attrs.frozen
class SocksConfig:
    """Where to listen, and who may log in."""

    address: str
    port: int
    users: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    """Passwords by user name; None: nobody needs to log in."""


class Socks(ListeningService):
    """One SOCKS port."""

    def __init__(
        self, reactor: Any, tunnel: SocksTunnel, policy: PolicyHolder, config: SocksConfig
    ) -> None:
        ListeningService.__init__(
            self, reactor, policy, TCP, config.address, config.port, self._enter
        )
        self.tunnel = tunnel
        self.description = f"socks {self.address}"
        """For the role's ready line."""
        self.reactor = reactor
        self.far_addresses = FarAddresses()
        self._serving: dict[Control, None] = {}
        self._check: Check | None = None
        if config.users is not None:
            self._check = check_against(config.users)
        self._waiting = Waiting(reactor, HANDSHAKE_LIMIT, HANDSHAKES)

    def stopService(self) -> None:
        """Stop listening and drop whoever has not been served."""
        ListeningService.stopService(self)
        self._waiting.expire_all()
        for control in list(self._serving):
            control.drop()

    def began(self, control: Control) -> None:
        """A client waits for BIND, or has an association; of too many the oldest has to go."""
        if len(self._serving) >= SERVED:
            next(iter(self._serving)).drop()
        self._serving[control] = None

    def ended(self, control: Control) -> None:
        """It is over."""
        self._serving.pop(control, None)

    def _enter(self, sock: socket.socket, address: tuple[str, int]) -> None:
        client = _Client(self, self.poller, sock, SocksServer(self.now(), self._check))
        self.watch(client)

    def watch(self, client: _Client) -> None:
        """Drop ``client`` if it is not forgotten within the time for a handshake."""
        self._waiting.add(client)

    def forget(self, client: _Client) -> None:
        """The client is no longer being waited for."""
        self._waiting.discard(client)

    def now(self) -> float:
        """The reactor's clock."""
        now: float = self.reactor.seconds()
        return now


class _Client:
    """One client until it is served or turned away."""

    __slots__ = ("_fd", "_leaving", "_poller", "_server", "_side", "_sock", "_socks")

    def __init__(
        self, socks: Socks, poller: Poller, sock: socket.socket, server: SocksServer
    ) -> None:
        self._socks = socks
        self._poller = poller
        self._sock = sock
        self._fd = sock.fileno()
        self._server = server
        self._side: SocketSide | None = None
        self._leaving = False
        poller.add(self._fd, self, True, False)

    # -- poller -----------------------------------------------------------

    def readable(self) -> None:
        """A piece of the handshake, or of what comes after we said no."""
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop()
        elif not self._leaving:
            events = self._server.receive(data, self._socks.now())
            self._act(events)

    def writable(self) -> None:
        """Never asked for."""

    def expire(self) -> None:
        """See `tunnelkit.local.waiting.Newcomer`."""
        self.drop()

    def drop(self) -> None:
        """Close, without another word."""
        self._socks.forget(self)
        self._poller.remove(self._fd)
        self._sock.close()

    # -- the request ------------------------------------------------------

    def _act(self, events: Sequence[SocksRequest | Ended]) -> None:
        event = events[0] if events else None
        if event is None:
            self._answer()
        elif isinstance(event, Ended):
            _log.info(
                "{what}: {code}: {why}",
                what=self._socks.description,
                code=event.code,
                why=printable(event.reason),
            )
            self._turn_away()
        elif event.command is Command.CONNECT:
            self._connect(event)
        elif self._answer():
            self._socks.forget(self)
            self._poller.remove(self._fd)
            serve = Binding if event.command is Command.BIND else Association
            serve(self._socks, self._sock, self._server, self._say_no, event)

    def _connect(self, request: SocksRequest) -> None:
        try:
            destination = str(destination_to(TCP, request.host, request.port))
        except ConfigError as error:
            _log.info("{what}: {why}", what=self._socks.description, why=str(error))
            self._server.refused(Code.NO_SUCH_HOST)
            self._turn_away()
            return
        if not self._answer():
            return
        self._socks.forget(self)
        self._poller.remove(self._fd)
        self._side = SocketSide(self._poller, self._sock, leftover=self._server.leftover, hold=True)
        opening = self._socks.tunnel.open(destination, self._side)
        opening.addCallbacks(
            self._opened,
            self._refused,
            callbackArgs=(self._side, request.host),
            errbackArgs=(destination,),
        )

    def _opened(self, bound: str, side: SocketSide, host: str) -> None:
        own, number = address_of(bound)
        self._server.granted(own, number)
        try:
            self._socks.far_addresses.connected(self._sock.getpeername()[0], host, own)
            # A few bytes into an empty buffer: it takes all or the client is gone.
            self._sock.send(self._server.data_to_send())
        except OSError:
            pass  # the channel finds out as soon as it uses the socket
        side.release()

    def _refused(self, failure: Failure, destination: str) -> None:
        failure.trap(ChannelClosed)
        assert self._side is not None
        self._side.detach()
        error = failure.value
        assert isinstance(error, ChannelClosed)
        _log.info(
            "{what}: {destination}: {why}",
            what=self._socks.description,
            destination=destination,
            why=printable(str(error)),
        )
        self._say_no(error.code)

    def _say_no(self, code: Code) -> None:
        """The request comes to nothing: the client is told, with its socket in our hands again."""
        self._server.refused(code)
        if self._socks.running:
            self._poller.add(self._fd, self, True, False)
            self._socks.watch(self)
            self._turn_away()
        else:
            reset(self._sock)

    def _answer(self) -> bool:
        """Send what the handshake has to say; False if the client is gone."""
        data = self._server.data_to_send()
        try:
            sent = self._sock.send(data) if data else 0
        except OSError:
            sent = -1
        if sent == len(data):
            return True
        self.drop()
        return False

    def _turn_away(self) -> None:
        """Say the last word, then wait for the client to close: closing first could take the
        word away with a reset."""
        if self._answer():
            self._leaving = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.drop()


def configure(settings: Settings) -> list[SocksConfig]:
    """``--socks [HOST:]PORT``, with the users of ``--socks-auth-file``; see `IFrontEnd`."""
    return ports_with_logins(settings, "socks", SocksConfig)


def make_service(reactor: Any, tunnel: Any, policy: Any, config: SocksConfig) -> IService:
    """One SOCKS port; raises `ConfigError` if it is taken."""
    return Socks(reactor, tunnel, policy, config)
