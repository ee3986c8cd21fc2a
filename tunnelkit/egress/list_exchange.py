"""Revocation lists from the end that has the newer one (row Q4): channels to ``service:@revoked``.

Each end opens one where a connection comes up, and where its own list has changed, and sends the
list, signed as it is. What becomes of it is up to the other end; there is no answer.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.errors import ChannelClosed, Code, ConfigError
from tunnelkit.net.channels.contracts import Connection
from tunnelkit.net.channels.protocol_side import ChannelTransport, TunnelAddress
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.destination import SERVICE, Destination
from tunnelkit.policy.printable import printable

_log = Logger()

DESTINATION = f"{SERVICE}:@revoked"
LARGEST = 1 << 20
"""Bytes of a list that is sent or taken; a longer one is copied by hand."""
PATIENCE = 30.0
"""Seconds within which all of it comes."""


class ListExchange:
    """For ``tunnel``, whose requests ``egress`` answers.

    ``mine()`` is the list to give, empty for none; ``take(data, peer)`` has one that has come, and
    raises `ConfigError` if it cannot be used.
    """

    def __init__(
        self,
        egress: Egress,
        tunnel: Tunnel,
        mine: Callable[[], bytes],
        take: Callable[[bytes, str], object],
    ) -> None:
        self.reactor = egress.reactor
        self._tunnel = tunnel
        self._mine = mine
        self._take = take
        self._given = b""
        self._taking: set[str] = set()
        egress.answer_with(DESTINATION, self.answer)

    def start(self) -> None:
        """Give the list over each connection from now on."""
        self._tunnel.watch(self._give)

    def changed(self) -> None:
        """The list here may be another one: give it to all who are connected."""
        if self._mine() != self._given:
            for connection in self._tunnel.connections:
                self._give(connection)

    def answer(self, request: EgressRequest, _destination: Destination) -> None:
        """A `tunnelkit.egress.dial.Handler`: no rule is asked, since nothing is connected to, and
        what comes is believed for its signature only."""
        if request.peer in self._taking:
            request.refuse(Code.LIMIT, "one list at a time")
            return
        self._taking.add(request.peer)
        taking = _Taking(self, request.peer)
        near, far = TunnelAddress("", DESTINATION), TunnelAddress(request.peer, "")
        transport = ChannelTransport(taking, near, far)
        transport.begin()
        request.attach(transport, "", "revocation lists")

    def came(self, data: bytes, peer: str) -> None:
        """All of a list is there."""
        try:
            self._take(data, peer)
        except ConfigError as error:
            _log.warn("From {peer}: {why}", peer=printable(peer), why=str(error))

    def over(self, peer: str) -> None:
        """A channel of ``peer`` is over."""
        self._taking.discard(peer)

    def _give(self, connection: Connection) -> None:
        self._given = mine = self._mine()
        if 0 < len(mine) <= LARGEST:
            far = TunnelAddress(connection.peer, DESTINATION)
            transport = ChannelTransport(_Giving(mine), TunnelAddress("", ""), far)
            transport.begin()
            # Who knows nothing of lists, or is told by somebody else just now, says no.
            connection.open(DESTINATION, transport).addErrback(lambda why: why.trap(ChannelClosed))


class _Giving(Protocol):
    """Sends a list."""

    transport: ChannelTransport

    def __init__(self, data: bytes) -> None:
        self._data = data

    def connectionMade(self) -> None:
        self.transport.write(self._data)
        self.transport.loseConnection()


@implementer(IHalfCloseableProtocol)
class _Taking(Protocol):
    """Takes a list."""

    transport: ChannelTransport

    def __init__(self, exchange: ListExchange, peer: str) -> None:
        self._exchange = exchange
        self._peer = peer
        self._data = bytearray()
        self._timer = Timer(exchange.reactor, self._give_up)

    def connectionMade(self) -> None:
        self._timer.start(PATIENCE)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > LARGEST:
            self._give_up()

    def readConnectionLost(self) -> None:
        self._exchange.came(bytes(self._data), self._peer)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._timer.stop()
        self._data.clear()
        self._exchange.over(self._peer)

    def _give_up(self) -> None:
        self.transport.abortConnection()
