"""BIND of SOCKS 4 and 5: the far side listens for one connection (RFC 1928 section 4; row F1)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address

from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.proxies.socks_server import SocksRequest, SocksServer
from tunnelkit.errors import ChannelClosed, Code, ConfigError
from tunnelkit.frontends.socks.control import Control, SocksPort
from tunnelkit.net.channels.far_listener import FarListener
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.destination import LISTEN, TCP, Destination, parse_destination
from tunnelkit.policy.printable import printable

_log = Logger()

PATIENCE = 120.0
"""Seconds that the connection may take to come in."""
MOST_EARLY = 65_536
"""Bytes that a client may send before there is anybody to get them."""


class Binding(Control):
    """One client that waits for a connection to come in at the far side.

    The far side listens on any of its addresses, or only on loopback if the
    client expects somebody there; its rules must allow that with port 0.
    """

    def __init__(
        self,
        port: SocksPort,
        sock: socket.socket,
        server: SocksServer,
        turn_away: Callable[[Code], object],
        request: SocksRequest,
    ) -> None:
        super().__init__(port, sock, server, turn_away)
        try:
            self._client = sock.getpeername()[0]
        except OSError:
            self._client = ""  # it is gone, as `grant` will find
        self._expected = port.far_addresses.expected(self._client, request.host)
        self._early = server.leftover
        self._timer = Timer(port.reactor, self._too_slow)
        self._granted = False
        self._listener = FarListener(self._accepted, self._listener_over)
        destination = str(Destination(LISTEN, address_for(self._expected), 0))
        opening = port.tunnel.open(destination, self._listener)
        opening.addCallbacks(self._opened, self._refused)

    def client_sent(self, data: bytes) -> None:
        """See `Control`: it is the application's, for whoever connects."""
        self._early += data
        if len(self._early) > MOST_EARLY:
            self.drop()

    def stopped(self) -> None:
        """See `Control`."""
        self._listener.end()
        self._timer.stop()

    def _opened(self, bound: str) -> None:
        host, number = address_of(bound)
        host = self.port.far_addresses.named(self._client, self._expected, host)
        if not self.over and self.grant(host, number):
            self._granted = True
            self._timer.start(PATIENCE)

    def _too_slow(self) -> None:
        self.refuse(Code.TIMED_OUT)

    def _refused(self, failure: Failure) -> None:
        error = failure.value
        failure.trap(ChannelClosed)
        assert isinstance(error, ChannelClosed)
        _log.info("{what}: BIND: {why}", what=self.port.description, why=printable(str(error)))
        self.refuse(error.code)

    def _listener_over(self, listener: FarListener, code: Code | None, reason: str) -> None:
        # Before the first answer the refusal says it.
        if self._granted:
            self.refuse(code or Code.RESET)

    def _accepted(self, request: ChannelRequest) -> None:
        host, number = address_of(request.origin)
        if is_other(self._expected, host):
            request.refuse(Code.NOT_ALLOWED, "another host is expected")
            return
        if not self.grant(host, number):
            request.refuse(Code.RESET, "the application is gone")
            return
        self.leave()
        request.attach(SocketSide(self.port.poller, self.sock, leftover=self._early), "")


def address_for(expected: str) -> str:
    """Where to listen for ``expected``: on loopback for loopback, otherwise on any address."""
    try:
        address = ip_address(expected)
    except ValueError:
        return "127.0.0.1" if expected == "localhost" else "0.0.0.0"
    if address.is_loopback:
        return "127.0.0.1" if address.version == 4 else "::1"
    return "0.0.0.0" if address.version == 4 else "::"


def address_of(text: str) -> tuple[str, int]:
    """Host and port of ``tcp:HOST:PORT`` for a reply; zeros if that is not what it is."""
    try:
        destination = parse_destination(text)
    except ConfigError:
        return "0.0.0.0", 0
    if destination.kind != TCP or not destination.is_address:
        return "0.0.0.0", 0
    return destination.host, destination.port


def is_other(expected: str, host: str) -> bool:
    """Whether ``host`` is not the address that the client expects, if it named one."""
    try:
        wanted = ip_address(expected)
        return not wanted.is_unspecified and wanted != ip_address(host)
    except ValueError:
        return False
