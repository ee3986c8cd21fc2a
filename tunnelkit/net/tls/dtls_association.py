"""A DTLS association as the transport of a Twisted protocol: datagrams, not a stream (row W1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.net.tls.dtls_engine import DtlsEngine
from tunnelkit.wire.dtls_records import APPLICATION_DATA


class Place(Protocol):
    """Who holds an association."""

    def flush(self, engine: DtlsEngine) -> None:
        """Send what ``engine`` has to say."""

    def ended(self, association: DtlsAssociation) -> None:
        """It is over."""


def udp_address(address: tuple[str, int]) -> IPv4Address | IPv6Address:
    """``address`` as Twisted has it."""
    kind = IPv6Address if ":" in address[0] else IPv4Address
    return kind("UDP", *address)


@implementer(ITransport)
class DtlsAssociation:
    """One complete association; each ``write`` is one datagram of at most 16,384 bytes.

    Larger ones than the path takes are lost: 1,100 bytes always fit.
    """

    def __init__(
        self, engine: DtlsEngine, place: Place, transport: Any, address: tuple[str, int]
    ) -> None:
        self.engine = engine
        self._place = place
        self._transport = transport
        self._address = address
        self._protocol: IProtocol | None = None
        self._over = False
        self.bytes_sent = 0
        """Of the application, as for the next one."""
        self.bytes_received = 0

    @property
    def address(self) -> tuple[str, int]:
        """Where the peer is."""
        return self._address

    @property
    def peer_name(self) -> str:
        """The name in the peer's certificate; empty: it showed none."""
        return self.engine.peer_name

    # -- ITransport -------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send one datagram."""
        if not self._over:
            self.bytes_sent += len(data)
            self.engine.send(data)
            self._place.flush(self.engine)
            self._look_whether_over()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send each as a datagram of its own."""
        for each in data:
            self.write(each)

    def loseConnection(self) -> None:
        """Say close_notify; the protocol's connectionLost is called."""
        if not self._over:
            self.engine.close()
            self._place.flush(self.engine)
            self._look_whether_over()

    def abortConnection(self) -> None:
        """Forget it without a word."""
        if not self._over:
            self.engine.over = True
            self._look_whether_over()

    def getPeer(self) -> IAddress:
        """Where it comes from."""
        return udp_address(self._address)

    def getHost(self) -> IAddress:
        """The port here."""
        host: IAddress = self._transport.getHost()
        return host

    # -- for who holds it -------------------------------------------------

    def begin(self, protocol: IProtocol) -> None:
        """The handshake is complete."""
        self._protocol = protocol
        protocol.makeConnection(self)

    def receive(self, datagram: bytes | memoryview) -> None:
        """Something came from the peer's address."""
        for data in self.engine.receive(datagram):
            self.deliver(data)
        if datagram[0] != APPLICATION_DATA or self.engine.over:
            # A repeated last flight of the handshake is answered by ours, again.
            self._place.flush(self.engine)
            self._look_whether_over()

    def deliver(self, data: bytes) -> None:
        """One datagram of the application."""
        if self._protocol is not None and not self._over:
            self.bytes_received += len(data)
            self._protocol.dataReceived(data)

    def lost(self, why: Failure) -> None:
        """It is over, for the protocol too."""
        if not self._over:
            self._over = True
            self._place.ended(self)
            if self._protocol is not None:
                self._protocol.connectionLost(why)

    def _look_whether_over(self) -> None:
        if self.engine.over:
            failure = self.engine.failure
            self.lost(Failure(ConnectionLost(str(failure)) if failure else ConnectionDone()))
