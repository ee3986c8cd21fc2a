"""UDP ASSOCIATE of SOCKS 5 (RFC 1928 section 7; row F1, rule X18).

    client's datagram: header with the destination -> flow to ``udp:*`` -> far side's socket
    answer -> header with the sender -> the one address of the client

The association ends with the connection by which it was asked for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.logger import Logger

from tunnelkit.core.proxies.socks_server import SocksRequest, SocksServer
from tunnelkit.errors import Code, ConfigError, LocalProtocolError, RemoteProtocolError
from tunnelkit.frontends.socks.control import Control, SocksPort
from tunnelkit.local.udp_peer import UdpPeer
from tunnelkit.net.channels.addressed_flows import ANYWHERE
from tunnelkit.net.channels.contracts import Remote
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import BindError, keep_alive
from tunnelkit.net.sockets.udp import bind_udp
from tunnelkit.policy.destination import UDP, destination_to
from tunnelkit.wire.socks import encode_datagram, parse_datagram

_log = Logger()

DATAGRAMS_PER_EVENT = 64
MAX_DATAGRAM = 65_535


class Association(Control):
    """One association: a UDP port of this machine for one client."""

    def __init__(
        self,
        port: SocksPort,
        sock: socket.socket,
        server: SocksServer,
        turn_away: Callable[[Code], object],
        request: SocksRequest,
    ) -> None:
        super().__init__(port, sock, server, turn_away)
        keep_alive(sock)
        self._relay: _Relay | None = None
        self._peer: UdpPeer | None = None
        host: str = sock.getsockname()[0]
        self._client_host: str = sock.getpeername()[0]
        # What a client says of itself is true only if it is not behind address translation.
        self._client_port = request.port if request.host == self._client_host else 0
        self._told = False
        try:
            self._relay = relay = _Relay(self, port.poller, bind_udp(port.policy.own(host, 0, UDP)))
        except BindError as error:
            self.refuse(error.code)
            return
        port.policy.listeners.add(UDP, *relay.address)
        self._peer = UdpPeer(
            port.reactor,
            port.tunnel,
            port.description,
            ANYWHERE,
            relay.address,
            self._answer,
            self._settled,
        )
        self._peer.begin()

    def client_sent(self, data: bytes) -> None:
        """See `Control`: nothing is expected; it only has to stay."""

    def stopped(self) -> None:
        """See `Control`."""
        if self._relay is not None:
            self.port.policy.listeners.discard(UDP, *self._relay.address)
            self._relay.close()
        if self._peer is not None:
            self._peer.close()

    def _settled(self, code: Code | None) -> None:
        if self.over or self._relay is None:
            return
        if code is not None:
            self.refuse(code)
        else:
            self.grant(*self._relay.address)

    def received(self, datagram: memoryview, source: Remote) -> None:
        """Something came to the relay; only the client's datagrams go on."""
        if source[0] != self._client_host:
            return
        if self._client_port not in (0, source[1]):
            if not self._told:
                self._told = True
                _log.info(
                    "{what}: UDP ASSOCIATE: datagrams from port {port} are dropped: the client "
                    "sends from {own}, as it has said or done before",
                    what=self.port.description,
                    port=source[1],
                    own=self._client_port,
                )
            return
        try:
            host, number, offset = parse_datagram(datagram)
            destination = destination_to(UDP, host, number)
        except (RemoteProtocolError, ConfigError):
            return
        # From now on nobody else on the client's machine is taken for it.
        self._client_port = source[1]
        if self._peer is not None:
            self._peer.send((destination.host, destination.port), datagram[offset:])

    def _answer(self, remote: Remote, data: memoryview) -> None:
        if self._relay is None or not self._client_port:
            return
        try:
            datagram = encode_datagram(*remote, bytes(data))
        except LocalProtocolError:
            return  # an address that SOCKS cannot carry
        self._relay.send(datagram, (self._client_host, self._client_port))


class _Relay:
    """The association's UDP port."""

    def __init__(self, association: Association, poller: Poller, sock: socket.socket) -> None:
        self._association = association
        self._poller = poller
        self._sock = sock
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))
        self.address: Remote = sock.getsockname()[:2]
        poller.add(sock.fileno(), self, True, False)

    def send(self, datagram: bytes, address: Remote) -> None:
        """Send, or drop."""
        try:
            self._sock.sendto(datagram, address)
        except OSError:
            pass  # dropped, as UDP may

    def close(self) -> None:
        """Give the port back."""
        self._poller.remove(self._sock.fileno())
        self._sock.close()

    def readable(self) -> None:
        """UdpFlows have come."""
        for _ in range(DATAGRAMS_PER_EVENT):
            try:
                size, source = self._sock.recvfrom_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:
                if self._association.over:
                    return
                continue  # what became of an earlier answer
            self._association.received(self._buffer[:size], source[:2])
            if self._association.over:
                return

    def writable(self) -> None:
        """Never asked for."""
