"""A SOCKS client's connection while what it asked for is being done elsewhere (BIND, UDP)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from tunnelkit.core.proxies.socks_server import SocksServer
from tunnelkit.errors import Code
from tunnelkit.frontends.socks.far_addresses import FarAddresses
from tunnelkit.local.listening import ChannelOpener
from tunnelkit.local.udp_peer import FlowOpener
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder

READ_SIZE = 4096


class SocksTunnel(ChannelOpener, FlowOpener, Protocol):
    """What the SOCKS server needs of a tunnel."""


class SocksPort(Protocol):
    """What is the same for all clients of a SOCKS port."""

    poller: Poller
    tunnel: SocksTunnel
    policy: PolicyHolder
    description: str
    reactor: Any
    far_addresses: FarAddresses

    def began(self, control: Control) -> None:
        """A client is being served that has to be dropped when the port closes."""

    def ended(self, control: Control) -> None:
        """No more."""


class Control:
    """The connection of a client that waits; a subclass does what it waits for.

    ``turn_away`` takes the socket back and refuses the request.
    """

    def __init__(
        self,
        port: SocksPort,
        sock: socket.socket,
        server: SocksServer,
        turn_away: Callable[[Code], object],
    ) -> None:
        self.port = port
        self.sock = sock
        self.server = server
        self.over = False
        self._turn_away = turn_away
        port.poller.add(sock.fileno(), self, True, False)
        port.began(self)

    def client_sent(self, data: bytes) -> None:
        """Bytes came that no SOCKS client sends now."""
        raise NotImplementedError

    def stopped(self) -> None:
        """It is over: give up what was being done."""
        raise NotImplementedError

    def grant(self, host: str, port: int) -> bool:
        """Tell the client that it is done; False if the client has gone."""
        self.server.granted(host, port)
        data = self.server.data_to_send()
        try:
            # A few bytes into an empty buffer: it takes all or the client is gone.
            if self.sock.send(data) == len(data):
                return True
        except OSError:
            pass
        self.drop()
        return False

    def refuse(self, code: Code) -> None:
        """Tell the client that it cannot be done."""
        if self.leave():
            self._turn_away(code)

    def drop(self) -> None:
        """Close the connection."""
        if self.leave():
            self.sock.close()

    def leave(self) -> bool:
        """Stop waiting, the socket stays open; False if that has happened already."""
        if self.over:
            return False
        self.over = True
        self.port.poller.remove(self.sock.fileno())
        self.port.ended(self)
        self.stopped()
        return True

    # -- poller -----------------------------------------------------------

    def readable(self) -> None:
        """The client has gone, or sends something."""
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.client_sent(data)
        else:
            self.drop()

    def writable(self) -> None:
        """Never asked for."""
