"""A Twisted transport for a protocol whose bytes go over a carrier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.net.sockets.carrier import Carrier

HIGH_WATER = 1 << 16
"""Bytes that wait for the carrier, above which producers are paused."""


@implementer(ITransport, IPushProducer)
class CarrierTransport:
    """``on_lost`` is called once when the connection is over, whoever ended it."""

    disconnecting = False

    def __init__(self, carrier: Carrier, on_lost: Callable[[], object]) -> None:
        self._carrier = carrier
        self._on_lost = on_lost
        self._protocol: Any = None
        self._unsent = bytearray()
        self._producer: Any = None
        self._streaming = True
        self._paused = False
        self._over = False

    def serve(self, protocol: Any) -> None:
        """Connect ``protocol``."""
        self._protocol = protocol
        protocol.makeConnection(self)
        self._carrier.start(self)

    # -- for the protocol -----------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See `ITransport`."""
        if self._over:
            return
        self._unsent += data
        self._flush()
        full = len(self._unsent) > HIGH_WATER
        if full and self._producer is not None and self._streaming and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See `ITransport`."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Once everything is out."""
        self.disconnecting = True
        if not self._unsent:
            self._end(Failure(ConnectionDone()), self._carrier.close)

    def abortConnection(self) -> None:
        """At once."""
        self._end(Failure(ConnectionDone()), self._carrier.abort)

    def getPeer(self) -> IPv4Address:
        """See `ITransport`: nobody in particular."""
        return IPv4Address("TCP", "0.0.0.0", 0)

    def getHost(self) -> IPv4Address:
        """See `ITransport`."""
        return IPv4Address("TCP", "0.0.0.0", 0)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See `twisted.internet.interfaces.IConsumer`."""
        self._producer, self._streaming, self._paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """See `twisted.internet.interfaces.IConsumer`."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Read no more."""
        self._carrier.pause_reading()

    def resumeProducing(self) -> None:
        """Read on."""
        self._carrier.resume_reading()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self.loseConnection()

    # -- what the carrier tells ---------------------------------------------------------

    def carrier_received(self, view: memoryview) -> None:
        """See `CarrierSink`."""
        self._protocol.dataReceived(bytes(view))

    def carrier_writable(self) -> None:
        """See `CarrierSink`."""
        self._flush()

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """See `CarrierSink`."""
        error = ConnectionDone() if clean else ConnectionLost(reason)
        self._end(Failure(error), lambda: None)

    def _flush(self) -> None:
        while self._unsent:
            taken = self._carrier.write(bytes(self._unsent))
            if not taken:
                return
            del self._unsent[:taken]
        if self.disconnecting:
            self._end(Failure(ConnectionDone()), self._carrier.close)
        elif self._producer is not None and (self._paused or not self._streaming):
            self._paused = False
            self._producer.resumeProducing()

    def _end(self, reason: Failure, end: Callable[[], object]) -> None:
        if self._over:
            return
        self._over = True
        self._unsent.clear()
        end()
        self._on_lost()
        self._protocol.connectionLost(reason)
