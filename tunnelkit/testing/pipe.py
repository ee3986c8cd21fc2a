"""Two Twisted protocols joined in memory, as a TCP connection would join them.

Between the two ends lies one wire per direction::

    write() -> [ queue of the near end ] -> [ wire: at most `capacity` bytes ] -> dataReceived()
                 unbounded, but beyond         bytes leave it when the far end
                 `high_water` its producer     reads them, `latency` after they
                 is paused                     went in, in chunks

A far end that does not read leaves the wire full, then the queue grows and the
producer is paused; it is resumed when the queue is empty, as Twisted does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPullProducer,
    IPushProducer,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.testing.clock import TestClock
from tunnelkit.testing.wire import Wire, WireEnd

WHOLE = 1 << 16
"""The largest piece in which data is delivered: what Twisted reads at once."""


def seeded_chunks(seed: int, largest: int = WHOLE) -> Callable[[], int]:
    """A source of chunk sizes, the same for the same ``seed``: as often tiny as large ones."""
    random = Random(seed)
    bits = largest.bit_length()

    def size() -> int:
        return min(random.randint(1, 1 << random.randrange(bits + 1)), largest)

    return size


@implementer(ITCPTransport, IConsumer, IPushProducer)
class PipeEnd:
    """The transport at one end of a `Pipe`.

    It behaves as Twisted's TCP transport does, in names, order of calls and
    what is silently ignored. Open to tests besides: ``queued`` (bytes written
    that the wire had no room for), ``most_queued``, ``reading``,
    ``disconnected``, and ``sent`` and ``delivered`` (bytes).
    """

    disconnecting = False

    def __init__(self, pipe: Pipe, host: IPv4Address, peer: IPv4Address) -> None:
        self._pipe = pipe
        self._host = host
        self._peer = peer
        self._queue: deque[bytes] = deque()
        self._producer: IProducer | None = None
        self._streaming = False
        self._producer_paused = False
        self._ran_empty = False
        self._write_ending = False
        self._write_ended = False
        self._aborting = False
        self._read_ended = False
        self._no_delay = False
        self._keep_alive = False
        self.protocol: IProtocol | None = None
        self.reading = True
        self.disconnected = False
        self.queued = 0
        self.most_queued = 0
        self.sent = 0
        self.delivered = 0

    def __repr__(self) -> str:
        return f"<PipeEnd {self._host.host}:{self._host.port}>"

    # -- ITransport ------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"Data must be bytes, not {type(data).__name__}")
        if self.disconnected or self._write_ended or self._aborting or not data:
            return
        self._queue.append(data)
        self.queued += len(data)
        self.sent += len(data)
        self.most_queued = max(self.most_queued, self.queued)
        if self.queued > self._pipe.high_water:
            self._pause_producer()
        self._pipe.wake()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.disconnected or self.disconnecting:
            return
        if self._write_ended:
            self.lose(Failure(ConnectionDone()))
            return
        self.reading = False
        self.disconnecting = True
        self._pipe.wake()

    def getHost(self) -> IPv4Address:
        return self._host

    def getPeer(self) -> IPv4Address:
        return self._peer

    # -- ITCPTransport ---------------------------------------------------------------------

    def loseWriteConnection(self) -> None:
        self._write_ending = True
        self._pipe.wake()

    def abortConnection(self) -> None:
        if self.disconnected or self._aborting:
            return
        self._aborting = self.disconnecting = True
        self.reading = False
        self._queue.clear()
        self.queued = 0
        self._pipe.clock.callLater(0, self.lose, Failure(ConnectionAborted()))

    def getTcpNoDelay(self) -> bool:
        return self._no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._no_delay = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        return self._keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._keep_alive = bool(enabled)

    # -- IConsumer -------------------------------------------------------------------------

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is registered already, cannot add {producer!r}")
        if self.disconnected:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producer_paused = False
        if not streaming:
            cast("IPullProducer", producer).resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._pipe.wake()

    # -- IPushProducer ---------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if not self.disconnected and not self.disconnecting:
            self.reading = True
            self._pipe.wake()

    def stopProducing(self) -> None:
        self.loseConnection()

    # -- for the pipe ----------------------------------------------------------------------

    def connect(self, protocol: IProtocol) -> None:
        """Give this end its protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def _pause_producer(self) -> None:
        if self._producer is not None and self._streaming and not self._producer_paused:
            self._producer_paused = True
            cast("IPushProducer", self._producer).pauseProducing()

    def transmit(self, wire: Wire, inbound: Wire, now: float) -> bool:
        """Move what fits from the queue to ``wire``, and what follows an empty queue."""
        if self.disconnected or self._aborting or self._write_ended:
            return False
        if self._queue and inbound.is_reset(now):
            # A write fails at once; a read only behind the data that came before the reset.
            self.lose(Failure(ConnectionLost()))
            return True
        moved = False
        while self._queue and wire.room > 0:
            data = self._queue.popleft()
            fitting = data[: wire.room]
            if len(fitting) < len(data):
                self._queue.appendleft(data[len(fitting) :])
            self.queued -= len(fitting)
            wire.put(now + self._pipe.latency, fitting)
            moved = True
        if self._queue:
            return moved
        self._ran_empty |= moved
        return self._queue_empty(wire, now) or moved

    def _queue_empty(self, wire: Wire, now: float) -> bool:
        if self._producer is not None:
            # A pull producer is asked once for each time that the queue runs empty.
            if not (self._producer_paused if self._streaming else self._ran_empty):
                return False
            self._producer_paused = self._ran_empty = False
            cast("IPullProducer", self._producer).resumeProducing()
            return True
        if self.disconnecting:
            self.lose(Failure(ConnectionDone()))
            return True
        if self._write_ending:
            self._write_ended = True
            wire.end = (now + self._pipe.latency, WireEnd.FINISHED)
            half_close = IHalfCloseableProtocol(self.protocol, None)
            if half_close is not None:
                half_close.writeConnectionLost()
            return True
        return False

    def receive(self, wire: Wire, now: float) -> bool:
        """Deliver one chunk, or the end, of what has arrived."""
        end = wire.arrived_end(now)
        if not self.reading or self.disconnected:
            return False
        if end is WireEnd.RESET:
            self.lose(Failure(ConnectionLost()))
            return True
        if self._read_ended:
            return False
        data = wire.take(now, self._pipe.chunk())
        if data:
            self.delivered += len(data)
            cast("IProtocol", self.protocol).dataReceived(data)
            return True
        if end is not WireEnd.FINISHED:
            return False
        self._read_ended = True
        half_close = IHalfCloseableProtocol(self.protocol, None)
        if half_close is not None:
            half_close.readConnectionLost()
        else:
            self.lose(Failure(ConnectionDone()))
        return True

    def lose(self, reason: Failure) -> None:
        """This end is closed: tell its producer, its protocol and the other end."""
        if self.disconnected:
            return
        self.disconnected = True
        self.reading = False
        self._queue.clear()
        self.queued = 0
        self._pipe.closed(self, clean=reason.check(ConnectionDone) is not None)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        cast("IProtocol", self.protocol).connectionLost(reason)


class Pipe:
    """A TCP connection in memory between the ends ``first`` and ``second``.

    ``capacity``: bytes that a wire holds (what both sockets' kernel buffers
    would). ``high_water``: bytes queued beyond it at which a producer is
    paused. ``latency``: seconds from end to end. ``chunks``: a callable that
    gives the largest size of the next delivery, e.g. `seeded_chunks`; without
    it up to 65,536 bytes come at once.

    Nothing moves but by ``clock``. What a protocol raises comes out of the
    clock's method (a reactor would log it and drop the connection).

    An end that closes while the other still sends resets it, and an abort
    throws away what is on the wire: the other end gets ``ConnectionLost``, as
    on a network; it notices when it reads or has something to write.
    """

    def __init__(
        self,
        clock: TestClock | None = None,
        *,
        capacity: int = WHOLE,
        high_water: int = WHOLE,
        latency: float = 0.0,
        chunks: Callable[[], int] | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError("a wire holds at least one byte")
        self.clock = clock or TestClock()
        self.high_water = high_water
        self.latency = latency
        self.chunk = chunks or (lambda: WHOLE)
        addresses = [IPv4Address("TCP", "192.0.2.1", 1001), IPv4Address("TCP", "192.0.2.2", 2002)]
        self.first = PipeEnd(self, addresses[0], addresses[1])
        self.second = PipeEnd(self, addresses[1], addresses[0])
        self._wires = {self.first: Wire(capacity), self.second: Wire(capacity)}
        self._stalled = False
        self._next_turn: IDelayedCall | None = None

    def connect(self, first: IProtocol, second: IProtocol) -> Pipe:
        """Connect both protocols, ``second`` (the one that listened) before ``first``."""
        self.second.connect(second)
        self.first.connect(first)
        self.wake()
        return self

    def on_wire_to(self, end: PipeEnd) -> int:
        """Bytes that are on their way to ``end``."""
        return self._wires[self._other(end)].size

    def stall(self) -> None:
        """From now on nothing arrives, and nobody is told: the other machine lost its power."""
        self._stalled = True

    def go_on(self) -> None:
        """End a stall; nothing was lost."""
        self._stalled = False
        self.wake()

    def cut(self) -> None:
        """Both ends lose the connection at once, and what is on the wires is lost."""
        for wire in self._wires.values():
            wire.clear()
        for end in (self.first, self.second):
            end.lose(Failure(ConnectionLost()))

    # -- for the ends ----------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be able to move: have a turn soon."""
        self._wake_at(self.clock.seconds())

    def closed(self, end: PipeEnd, clean: bool) -> None:
        """``end`` is closed; what the other one is to notice of it goes on the wire."""
        wire, back = self._wires[end], self._wires[self._other(end)]
        if not clean:
            wire.clear()
            wire.end = (self.clock.seconds(), WireEnd.RESET)
        elif wire.end is None:
            wire.end = (self.clock.seconds() + self.latency, WireEnd.FINISHED)
        if clean and back.parts:
            self._refuse(back, wire)
        self.wake()

    def _other(self, end: PipeEnd) -> PipeEnd:
        return self.second if end is self.first else self.first

    def _refuse(self, back: Wire, wire: Wire) -> None:
        """Bytes came for an end that is closed: the other one will be reset."""
        back.clear()
        if wire.end is None or wire.end[1] is not WireEnd.RESET:
            wire.end = (self.clock.seconds() + self.latency, WireEnd.RESET)

    def _turn(self) -> None:
        """One delivery each way, and what room it makes."""
        self._next_turn = None
        now = self.clock.seconds()
        moved = True  # also if a protocol raises: the rest goes on at the next turn
        try:
            moved = self._transmit(now)
            if not self._stalled:
                moved |= self._receive(now)
        finally:
            if moved:
                self.wake()
            elif not self._stalled:
                self._wake_when_due(now)

    def _transmit(self, now: float) -> bool:
        moved = False
        for end in (self.first, self.second):
            inbound = self._wires[self._other(end)]
            moved |= end.transmit(self._wires[end], inbound, now)
        return moved

    def _receive(self, now: float) -> bool:
        moved = False
        for end in (self.first, self.second):
            other = self._other(end)
            if other.disconnected and self._wires[end].parts:
                self._refuse(self._wires[end], self._wires[other])
            moved |= other.receive(self._wires[end], now)
        return moved

    def _wake_when_due(self, now: float) -> None:
        dues = [due for wire in self._wires.values() if (due := wire.next_due()) is not None]
        later = [due for due in dues if due > now]
        if later:
            self._wake_at(min(later))

    def _wake_at(self, time: float) -> None:
        delay = time - self.clock.seconds()
        if self._next_turn is None:
            self._next_turn = self.clock.callLater(delay, self._turn)
        elif self._next_turn.getTime() > time:
            self._next_turn.reset(delay)
