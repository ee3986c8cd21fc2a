"""Two datagram protocols joined by a network that loses, reorders and repeats."""

from __future__ import annotations

from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import AbstractDatagramProtocol
from zope.interface import implementer

from tunnelkit.testing.clock import TestClock

LARGEST = 65_507
"""Bytes in the largest datagram that IPv4 carries."""


@implementer(IUDPTransport)
class DatagramEnd:
    """The transport at one end of a `LossyPipe`."""

    def __init__(self, pipe: LossyPipe, host: IPv4Address) -> None:
        self._pipe = pipe
        self._host = host
        self._connected_to: tuple[str, int] | None = None
        self._broadcast = False
        self.protocol: AbstractDatagramProtocol | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where the other end must send to reach this one."""
        return self._host.host, self._host.port

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        if len(packet) > LARGEST:
            raise ValueError(f"a datagram of {len(packet)} bytes, at most {LARGEST} fit")
        if addr is None and self._connected_to is None:
            raise ValueError("no address, and the transport is not connected to one")
        if self._connected_to is not None and addr not in (None, self._connected_to):
            raise ValueError(f"connected to {self._connected_to}, cannot send to {addr}")
        self._pipe.carry(self, bytes(packet), addr or self._connected_to)

    def connect(self, host: str, port: int) -> None:
        if self._connected_to is not None:
            raise RuntimeError("connected already")
        self._connected_to = host, port

    def getHost(self) -> IPv4Address:
        return self._host

    def stopListening(self) -> Deferred[None] | None:
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.doStop()
        return succeed(None)

    def setBroadcastAllowed(self, enabled: bool) -> None:
        self._broadcast = bool(enabled)

    def getBroadcastAllowed(self) -> bool:
        return self._broadcast

    def deliver(self, packet: bytes, source: tuple[str, int]) -> bool:
        """Hand ``packet`` to the protocol; False if nobody listens, or not to ``source``."""
        if self.protocol is None or self._connected_to not in (None, source):
            return False
        self.protocol.datagramReceived(packet, source)
        return True


class LossyPipe:
    """A network between the datagram ends ``first`` and ``second``.

    ``loss``, ``reorder`` and ``duplicate`` are probabilities from 0 to 1 that
    a datagram is lost, comes ``late_by`` seconds later than it should (so that
    others overtake it), and comes twice. The same ``seed`` and the same writes
    give the same events. ``mtu``: larger ones are lost. What was done is
    counted in ``sent``, ``lost``, ``reordered``, ``duplicated``, ``delivered``.
    """

    def __init__(
        self,
        clock: TestClock | None = None,
        *,
        seed: int = 0,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        latency: float = 0.0,
        late_by: float = 0.05,
        mtu: int = LARGEST,
    ) -> None:
        self.clock = clock or TestClock()
        self.loss = loss
        self.reorder = reorder
        self.duplicate = duplicate
        self.latency = latency
        self.late_by = late_by
        self.mtu = mtu
        self.sent = self.lost = self.reordered = self.duplicated = self.delivered = 0
        self.first = DatagramEnd(self, IPv4Address("UDP", "192.0.2.1", 1001))
        self.second = DatagramEnd(self, IPv4Address("UDP", "192.0.2.2", 2002))
        self._random = Random(seed)

    def connect(
        self, first: AbstractDatagramProtocol, second: AbstractDatagramProtocol
    ) -> LossyPipe:
        """Start both protocols on their ends."""
        for end, protocol in ((self.second, second), (self.first, first)):
            end.protocol = protocol
            protocol.makeConnection(end)
        return self

    def carry(self, end: DatagramEnd, packet: bytes, to: tuple[str, int] | None) -> None:
        """Decide what becomes of a datagram that ``end`` sent."""
        self.sent += 1
        # Always three draws, so that what befalls one datagram does not change the next one's.
        lost, late, twice = (self._random.random() for _ in range(3))
        other = self.second if end is self.first else self.first
        if lost < self.loss or len(packet) > self.mtu or to != other.address:
            self.lost += 1
            return
        delay = self.latency
        if late < self.reorder:
            self.reordered += 1
            delay += self.late_by
        self.clock.callLater(delay, self._arrive, other, packet, end.address)
        if twice < self.duplicate:
            self.duplicated += 1
            self.clock.callLater(self.latency, self._arrive, other, packet, end.address)

    def _arrive(self, end: DatagramEnd, packet: bytes, source: tuple[str, int]) -> None:
        if end.deliver(packet, source):
            self.delivered += 1
        else:
            self.lost += 1
