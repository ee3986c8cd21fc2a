"""The byte stream that carries a tunnel connection: one contract, two implementations.

`SocketCarrier` drives a raw socket through a `Poller`, `TransportCarrier` any
Twisted transport (TLS, pipes of tests, what an endpoint of somebody else
returns). `take_over` picks the better one for a connected transport.

Contract
--------
``start(sink)`` begins reading, or goes on with another sink. The sink is told, perhaps before
``start`` returns:

- ``carrier_received(view)``: bytes, valid only during the call. A sink that
  pauses reading in it is not called again before ``resume_reading``.
- ``carrier_writable()``: once after each ``write`` that took less than all.
- ``carrier_lost(reason, clean)``: once, and nothing after it. ``clean``: the
  far side ended its stream in order. The carrier is closed by then. It is not
  called after ``close`` or ``abort``.

A sink that has ``carrier_ended()`` as well (`HalfCloseSink`) is told the far
side's orderly end that way instead; the other direction stays open until
``close`` or ``abort``, and a later failure is still told as ``carrier_lost``.

``write`` copies what it takes: the view's buffer is free again on return.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

from tunnelkit.errors import LocalProtocolError
from tunnelkit.net.sockets.carrier import Carrier, CarrierSink, HalfCloseSink
from tunnelkit.net.sockets.linger import close_in_order, reset
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import format_address, limit_unsent
from tunnelkit.net.sockets.transport_carrier import TransportCarrier

__all__ = [
    "Carrier",
    "CarrierSink",
    "HalfCloseSink",
    "SocketCarrier",
    "TransportCarrier",
    "take_over",
]

_SMALLEST_READ, _LARGEST_READ = 1 << 16, 1 << 19


def take_over(transport: Any) -> SocketCarrier | TransportCarrier:
    """A carrier in place of the protocol of a connected Twisted ``transport``.

    A plain TCP or unix socket transport is driven through the reactor's
    `Poller`; when the carrier ends, the transport ends too, and its protocol
    hears ``connectionLost`` as usual. Bytes that the protocol received before
    and did not use are the caller's to pass on.
    """
    if isinstance(transport, tcp.Connection) and not transport.TLS and transport.connected:
        return SocketCarrier(Poller.of(transport.reactor), transport)
    return TransportCarrier(transport)


class SocketCarrier:
    """A carrier on a raw connected socket, or on a Twisted TCP transport that it takes over."""

    __slots__ = (
        "_ended",
        "_fd",
        "_lent_to",
        "_low_water",
        "_owner",
        "_paused",
        "_poller",
        "_read_size",
        "_sink",
        "_socket",
        "_stalled",
        "far_address",
        "near_address",
    )

    def __init__(self, poller: Poller, sock: socket.socket | tcp.Connection) -> None:
        self._poller = poller
        self._owner: _Takeover | None = None
        if isinstance(sock, tcp.Connection):
            self._socket: socket.socket | None = sock.getHandle()
            self._owner = _Takeover(sock, self)
        else:
            self._socket = sock
        assert self._socket is not None
        self._fd = self._socket.fileno()
        self._sink: CarrierSink | None = None
        self._paused = False
        self._stalled = False  # a write was cut short
        self._ended = False  # the far side's end of stream has been told
        self._low_water = 0
        self._lent_to: Callable[[str], object] | None = None
        self._read_size = _SMALLEST_READ
        self.near_address, self.far_address = _addresses(self._socket)
        if self._socket.family != socket.AF_UNIX:
            try:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                pass  # already broken: the first read tells
        if self._owner is not None:
            self._owner.begin()

    def start(self, sink: CarrierSink) -> None:
        watched = self._sink is not None
        self._sink = sink
        if self._socket is not None and not watched:
            self._poller.add(self._fd, self, not self._paused, self._stalled)

    def hand_over(self, sink: CarrierSink) -> None:
        if self._sink is not None:
            self._sink = sink

    def write(self, view: memoryview | bytes | bytearray) -> int:
        sock = self._socket
        if sock is None:
            return 0
        size = len(view)
        if self._owner is not None and self._owner.flushing:
            sent = self._owner.write(view)
            self._stalled = self._stalled or sent < size
            return sent
        try:
            sent = sock.send(view)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            # Told from the poller, where what has arrived before is read first.
            self._poller.after_batch(_LateLoss(self, error))
            return 0
        if sent < size and not self._stalled:
            self._stalled = True
            self._watch()
        return sent

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._watch()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._watch()

    def set_low_water(self, size: int) -> None:
        if self._socket is not None and size != self._low_water:
            self._low_water = size
            limit_unsent(self._socket, size)

    def finish_writing(self) -> None:
        if self._socket is not None:
            if self._owner is not None and self._owner.flushing:
                self._owner.then_finish = True
                return
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # already broken: reading tells

    def close(self) -> None:
        self._release(True)

    def abort(self) -> None:
        self._release(False)

    @property
    def lendable(self) -> bool:
        """Whether `lend` may be called: not once the carrier is over, nor while a transport
        that was taken over still has bytes to send."""
        return self._socket is not None and not (self._owner is not None and self._owner.flushing)

    def lend(self, on_end: Callable[[str], object]) -> socket.socket:
        """The socket, for somebody who watches, reads and writes it from now on.

        The borrower removes it from the poller and then calls `close` or
        `abort`; ``on_end(reason)`` tells it if the connection is ended from
        elsewhere, after which the socket is closed. The sink hears nothing
        more. Raises `LocalProtocolError` if the carrier is not `lendable`.
        """
        if self._socket is None or not self.lendable:
            raise LocalProtocolError("the carrier cannot give its socket away now")
        if self._sink is not None:
            self._poller.remove(self._fd)
            self._sink = None
        self._lent_to = on_end
        return self._socket

    # -- Handler --

    def readable(self) -> None:
        sock = self._socket
        sink = self._sink
        if sock is None or sink is None:
            return
        size = self._read_size
        buffer = self._poller.buffer
        try:
            count = sock.recv_into(buffer, size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error.strerror or str(error), False)
            return
        if count == size:
            if size < _LARGEST_READ:
                self._read_size = size << 1
        elif count < size >> 3 and size > _SMALLEST_READ:
            self._read_size = size >> 1
        if count:
            sink.carrier_received(buffer[:count])
        elif isinstance(sink, HalfCloseSink):
            self._ended = True
            self._watch()
            sink.carrier_ended()
        else:
            self._lost("the far side ended the connection", True)

    def writable(self) -> None:
        self._stalled = False
        sink = self._sink
        if sink is not None:
            sink.carrier_writable()
        # Still stalled in most cases: the epoll is touched only if not.
        if not self._stalled:
            self._watch()

    def hung_up(self) -> None:
        """See `tunnelkit.net.sockets.poll.Handler`."""
        if self._socket is not None:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self._lost(os.strerror(number), False)

    # -- inside --

    def _watch(self) -> None:
        if self._socket is not None and self._sink is not None:
            flushing = self._owner is not None and self._owner.flushing
            self._poller.change(
                self._fd, not self._paused and not self._ended, self._stalled and not flushing
            )

    def _release(self, orderly: bool) -> None:
        sock = self._socket
        if sock is None:
            return
        if self._sink is not None:
            self._poller.remove(self._fd)
            self._sink = None
        self._socket = None
        if self._owner is not None:
            self._owner.end(orderly)
        elif orderly:
            close_in_order(sock)
        else:
            reset(sock)

    def _lost(self, reason: str, clean: bool) -> None:
        sink = self._sink
        self._release(clean)
        if sink is not None:
            sink.carrier_lost(reason, clean)

    def flushed(self) -> None:
        """The transport taken over has sent what it held: writing begins."""
        if self._stalled:
            self._watch()

    def failed(self) -> None:
        """See `Handler`: a fault in this program ends the connection instead of leaving it mute."""
        self._lost("an internal error", False)

    def transport_ended(self, reason: str) -> None:
        """Somebody else has ended the transport taken over; its socket is closed on return."""
        lent_to, self._lent_to = self._lent_to, None
        self._lost(reason, False)
        if lent_to is not None:
            lent_to(reason)

    def write_failed(self, error: OSError) -> None:
        """The far side has gone: what has arrived from it is told first, then the loss."""
        while self._socket is not None and not self._paused and not self._ended:
            before = self._socket
            try:
                if not before.recv(1, socket.MSG_PEEK):
                    break
            except OSError:
                break
            self.readable()
        if self._socket is not None:
            self._lost(error.strerror or str(error), False)


class _LateLoss:
    """The loss of a carrier that a write noticed."""

    __slots__ = ("_carrier", "_error")

    def __init__(self, carrier: SocketCarrier, error: OSError) -> None:
        self._carrier = carrier
        self._error = error

    def __call__(self) -> None:
        self._carrier.write_failed(self._error)


@implementer(IPullProducer, IPushProducer)
class _Takeover:
    """A Twisted transport whose socket somebody else drives.

    What the transport still holds unsent goes out first: a pull producer is
    asked for more exactly when it has.
    """

    __slots__ = ("_asked", "_carrier", "_room", "_transport", "flushing", "then_finish")

    def __init__(self, transport: Any, carrier: SocketCarrier) -> None:
        self._transport = transport
        self._carrier = carrier
        self._asked = False
        self._room = _SMALLEST_READ
        self.flushing = True
        self.then_finish = False

    def begin(self) -> None:
        transport = self._transport
        transport.stopReading()
        transport.unregisterProducer()
        # Only the transport's inside tells whether there is anything to send; if it looks
        # different one day, there may be.
        if len(transport.dataBuffer) == transport.offset and not getattr(
            transport, "_tempDataLen", 1
        ):
            self._flushed()
        else:
            transport.registerProducer(self, False)
            transport.startWriting()

    def _flushed(self) -> None:
        self.flushing = False
        # Registered only to hear of the transport's end.
        self._transport.registerProducer(self, True)
        self._transport.stopWriting()

    def write(self, view: memoryview | bytes | bytearray) -> int:
        """Put a little behind what the transport still has to send."""
        taken = bytes(view[: self._room])
        self._room -= len(taken)
        self._transport.write(taken)
        return len(taken)

    def resumeProducing(self) -> None:
        if not self._asked:
            self._asked = True  # on registration: says nothing
            return
        if self.flushing:
            self._transport.unregisterProducer()
            self._flushed()
            if self.then_finish:
                self._carrier.finish_writing()
            self._carrier.flushed()

    def pauseProducing(self) -> None:
        """Never: nothing is written through the transport."""

    def stopProducing(self) -> None:
        self._carrier.transport_ended("the connection was ended here")

    def end(self, orderly: bool) -> None:
        """End the transport, which closes the socket and tells its protocol."""
        transport = self._transport
        transport.unregisterProducer()
        if orderly:
            transport.loseConnection()
        else:
            transport.abortConnection()


def _addresses(sock: socket.socket) -> tuple[str, str]:
    try:
        return format_address(sock.getsockname()), format_address(sock.getpeername())
    except OSError:
        return "", ""
