"""A carrier on any Twisted transport; the contract is in `tunnelkit.net.sockets.socket_carrier`."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.net.sockets.carrier import CarrierSink, HalfCloseSink
from tunnelkit.net.sockets.tcp import format_address


@implementer(IPushProducer)
class TransportCarrier:
    """A carrier on any Twisted transport.

    It becomes the transport's protocol. For a transport that has no
    ``protocol`` (or ``wrappedProtocol``) attribute, pass what its protocol is
    told on to `protocol`.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._sink: CarrierSink | None = None
        self._paused = False  # reading, by the sink
        self._full = False  # writing, by the transport
        self._cut = False  # a write was cut short
        self._over = False
        self._unread: list[bytes] = []
        self._ended_early = False
        self._lost_early: tuple[str, bool] | None = None
        self.near_address = _text_of(transport.getHost())
        self.far_address = _text_of(transport.getPeer())
        self.protocol = _CarrierProtocol(self)
        self.protocol.transport = transport
        for attribute in ("wrappedProtocol", "protocol"):
            if hasattr(transport, attribute):
                setattr(transport, attribute, self.protocol)
                break
        transport.registerProducer(self, True)

    def start(self, sink: CarrierSink) -> None:
        self._sink = sink
        self._tell_early()

    def hand_over(self, sink: CarrierSink) -> None:
        if self._sink is not None:
            self._sink = sink

    def _tell_early(self) -> None:
        """Tell what came before `start`, or while reading was paused."""
        while self._unread and not self._paused and self._sink is not None:
            self._sink.carrier_received(memoryview(self._unread.pop(0)))
        if self._unread:
            return
        if self._ended_early and self._sink is not None:
            self._ended_early = False
            self.ended()
        if self._lost_early is not None and self._sink is not None:
            self.lost(*self._lost_early)

    def write(self, view: memoryview | bytes | bytearray) -> int:
        if self._over or not len(view):
            return 0
        if self._full:
            self._cut = True
            return 0
        self._transport.write(bytes(view))
        return len(view)

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            if not self._over:
                self._transport.pauseProducing()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._tell_early()
            if not self._paused and not self._over:
                self._transport.resumeProducing()

    def set_low_water(self, size: int) -> None:
        """Twisted's transports decide themselves how much they queue."""

    def finish_writing(self) -> None:
        """Half-close where the transport can, otherwise the sink's later ``close`` has to do."""
        transport = self._transport
        half_close = getattr(transport, "loseWriteConnection", None)
        if half_close is not None and not self._over:
            transport.unregisterProducer()
            half_close()

    def close(self) -> None:
        self._end(self._transport.loseConnection)

    def abort(self) -> None:
        self._end(getattr(self._transport, "abortConnection", self._transport.loseConnection))

    def _end(self, how: Any) -> None:
        self._sink = None
        if not self._over:
            self._over = True
            self._transport.unregisterProducer()
            how()

    # -- IPushProducer: the transport's send buffer --

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        if self._cut:
            self._cut = False
            if self._sink is not None:
                self._sink.carrier_writable()

    def stopProducing(self) -> None:
        """The transport is ending; it tells its protocol as well."""

    # -- from the protocol --

    def received(self, data: bytes) -> None:
        """Bytes from the transport."""
        if self._over:
            return
        if self._sink is None or self._paused or self._unread:
            self._unread.append(data)
        else:
            self._sink.carrier_received(memoryview(data))

    def ended(self) -> None:
        """The far side has ended its stream in order."""
        if self._sink is None or self._unread:
            self._ended_early = True
        elif isinstance(self._sink, HalfCloseSink):
            self._sink.carrier_ended()
        else:
            sink = self._sink
            self.close()
            sink.carrier_lost("the far side ended the connection", True)

    def lost(self, reason: str, clean: bool) -> None:
        """The transport is gone."""
        ended_by_us = self._over and self._lost_early is None
        self._over = True
        if ended_by_us:
            return
        if self._sink is None or self._unread:
            self._lost_early = (reason, clean)
            return
        sink, self._sink = self._sink, None
        sink.carrier_lost(reason, clean)


@implementer(IHalfCloseableProtocol)
class _CarrierProtocol(Protocol):
    """What a transport is told, passed on to its carrier."""

    def __init__(self, carrier: TransportCarrier) -> None:
        self._carrier = carrier

    def dataReceived(self, data: bytes) -> None:
        self._carrier.received(data)

    def readConnectionLost(self) -> None:
        self._carrier.ended()

    def writeConnectionLost(self) -> None:
        """The half-close has gone out."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        clean = reason is None or isinstance(reason.value, ConnectionDone)
        self._carrier.lost("" if reason is None else reason.getErrorMessage(), clean)


def _text_of(address: Any) -> str:
    host = getattr(address, "host", None)
    if host is None:
        return str(getattr(address, "name", "") or "")
    return format_address((host, address.port))
