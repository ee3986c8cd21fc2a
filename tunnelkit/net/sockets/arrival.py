"""A connection that came in by any Twisted transport, on its way to a carrier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier, take_over
from tunnelkit.net.sockets.transport_carrier import TransportCarrier


@implementer(IHalfCloseableProtocol)
class Arrival(Protocol):
    """Gives its transport to ``enter`` as a carrier, with the address that it came from.

    A transport that keeps its protocol goes on telling this one, which passes that on; one that
    was given the carrier's own protocol tells nothing here.
    """

    def __init__(self, enter: Callable[[Carrier, str], object], host: str) -> None:
        self._enter = enter
        self._host = host
        self._carrier: SocketCarrier | TransportCarrier | None = None

    def connectionMade(self) -> None:
        """Hand the transport over to a carrier."""
        transport: Any = self.transport
        keepalive = getattr(transport, "setTcpKeepAlive", None)
        if keepalive is not None:
            keepalive(True)
        self._carrier = take_over(transport)
        self._enter(self._carrier, self._host)

    def dataReceived(self, data: bytes) -> None:
        """Bytes, for the carrier."""
        if isinstance(self._carrier, TransportCarrier):
            self._carrier.protocol.dataReceived(data)

    def readConnectionLost(self) -> None:
        """The far side's end of stream, for the carrier."""
        if isinstance(self._carrier, TransportCarrier):
            self._carrier.protocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """The carrier's own half-close has gone out."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The end, for the carrier."""
        if isinstance(self._carrier, TransportCarrier):
            self._carrier.protocol.connectionLost(reason)
