"""What the ports of both WTLS proxies share: datagrams, DTLS, an orderly end (rows W1, W6)."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory

from tunnelkit.frontends.wtls.answers import DRAIN, WebAnswers
from tunnelkit.frontends.wtls.keys import ProxyKeys
from tunnelkit.frontends.wtls.paths import Way
from tunnelkit.net.sockets.datagram_port import Address, DatagramPort
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer, on_monotonic_clock
from tunnelkit.net.sockets.udp import bind_udp
from tunnelkit.net.tls.dtls_server import DtlsServer
from tunnelkit.net.wtls.coap_association import KeptBodies
from tunnelkit.policy.access_log import AccessLog
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import UDP


class ProxyPort(Service, Factory):
    """One port for devices; bound when it is made (`BindError` if it is taken)."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        way: Way,
        policy: PolicyHolder,
        keys: ProxyKeys,
        address: str,
        port: int,
        drains: bool = True,
    ) -> None:
        """``drains``: when it stops it keeps the port until what is under way is answered. A
        reload that opens the same port again at once cannot wait for that."""
        self._reactor = on_monotonic_clock(reactor)
        self._policy = policy
        self._keys = keys
        self._drains = drains
        sock = bind_udp(policy.own(address, port, UDP))
        self._port = DatagramPort(Poller.of(reactor), sock, self._received)
        self._own = (UDP, address, self._port.port)
        policy.listeners.add(*self._own)
        self.server = DtlsServer(self._reactor, keys.context, self, is_real=self._is_real)
        transport: Any = self._port
        self.server.makeConnection(transport)
        self._answers = WebAnswers(self._reactor, way.stream_to)
        self._kept = KeptBodies()
        self._timer = Timer(self._reactor, self._due)
        self.grace = DRAIN
        """Seconds, to be set: in these what is under way may be answered when it stops."""
        self.address = self._port.address

    def startService(self) -> None:
        """Take datagrams."""
        Service.startService(self)
        self._port.start()
        self._keys.serve(self.server)

    def stopService(self) -> Deferred[None]:
        """Answer what is under way, take nothing new; then close the port and all that is there."""
        Service.stopService(self)
        finished = self._answers.finish(self.grace) if self._drains else succeed(None)
        return finished.addCallback(self._close_port)

    def _close_port(self, answered: None) -> None:
        self._keys.stop()
        self.server.close()
        self._close_paths()
        AccessLog.of(self._reactor).close()
        self._timer.stop()
        self._policy.listeners.discard(*self._own)
        self._port.close()

    def _close_paths(self) -> None:
        """Let go of what leads on from here; without associations nothing new begins."""

    def _received(self, data: bytes, address: Address) -> None:
        """A datagram has come."""
        raise NotImplementedError

    def _is_real(self, address: Address) -> bool:
        """Whether a device is known to be there without DTLS's own proof."""
        raise NotImplementedError

    def _due(self) -> None:
        """The timer's time has come."""
        raise NotImplementedError
