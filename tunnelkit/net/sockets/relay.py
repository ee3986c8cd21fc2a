"""Two byte streams joined: what a middle does once it has paired two ends (L1).

`Relay` joins two sockets: big transfers go through a pipe inside the kernel
(`tunnelkit.net.sockets.splice`), small messages through one shared buffer; each
direction chooses by what it sees. The epoll is touched only when a side
cannot take more, and then again when it can. `CarrierRelay` does the same for
carriers without a socket to take, with their backpressure; `join` picks.

Both pass on an orderly end of stream in its direction once everything before
it is out (half-close), and a reset as a reset. Neither holds more than one
buffer or pipe per direction, so a stalled receiver stalls its sender.
"""

from __future__ import annotations

import errno
import os
import socket

from tunnelkit.net.sockets import splice as splicing
from tunnelkit.net.sockets.carrier_relay import CarrierRelay, OnEnd
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier
from tunnelkit.net.sockets.tcp import limit_unsent

__all__ = ["CarrierRelay", "OnEnd", "Relay", "join"]

_COPY_SIZE = 1 << 16 if splicing.AVAILABLE else 1 << 18
UNANSWERED = 60
"""Seconds after which a side that has acknowledged nothing of what was sent to it is lost (R5).
Its partner leaves after 30 s of silence; TCP alone would keep what is left for a quarter of an
hour. Linux only."""
_SMALL = 1 << 14  # bytes; splicing less than that several times in a row goes back to copying
_SMALL_IN_A_ROW = 8
_NO_SPLICE = (errno.EINVAL, errno.ENOSYS)  # sockets or kernels that cannot
_ATTRIBUTE = "_tunnelkit_relay_shared"

_splice = getattr(os, "splice", None)
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


def join(
    poller: Poller, a: Carrier, b: Carrier, on_end: OnEnd, *, to_a: bytes = b"", to_b: bytes = b""
) -> Relay | CarrierRelay:
    """Join two carriers the fastest way they allow; both belong to the relay from now on.

    ``to_a`` and ``to_b`` are sent before anything else. Call ``start`` on the result.
    """
    if isinstance(a, SocketCarrier) and isinstance(b, SocketCarrier) and a.lendable and b.lendable:
        return Relay(poller, a, b, on_end, to_a=to_a, to_b=to_b)
    return CarrierRelay(a, b, on_end, to_a=to_a, to_b=to_b)


class _Shared:
    """What all relays of one poller share: the copy buffer and the pipes."""

    __slots__ = ("buffer", "pipes", "relays")

    def __init__(self, poller: Poller) -> None:
        self.buffer = poller.buffer
        self.pipes = splicing.PipePool()
        self.relays = 0

    @staticmethod
    def of(poller: Poller) -> _Shared:
        shared: _Shared | None = getattr(poller, _ATTRIBUTE, None)
        if shared is None:
            shared = _Shared(poller)
            setattr(poller, _ATTRIBUTE, shared)
        return shared


class _Side:
    """One socket of a relay, and the direction of flow that begins at it."""

    __slots__ = (
        "big",
        "carrier",
        "count",
        "ended",
        "fd",
        "held",
        "in_pipe",
        "limited",
        "other",
        "pipe",
        "relay",
        "small",
        "sock",
    )

    other: _Side

    def __init__(self, relay: Relay, end: socket.socket | SocketCarrier) -> None:
        self.relay = relay
        self.carrier: SocketCarrier | None = None
        if isinstance(end, SocketCarrier):
            self.carrier = end
            end = end.lend(relay.ended_elsewhere)
        self.sock: socket.socket = end
        self.fd = end.fileno()
        self.count = 0  # bytes read from this socket
        self.held: bytes | None = None  # read and not yet taken by the other socket
        self.pipe: splicing.Pipe | None = None  # only while bytes are in it
        self.in_pipe = 0
        self.big = False  # splice instead of copying
        self.small = 0  # small splices in a row
        self.limited = False  # the other socket's unsent bytes are, see `tcp.limit_unsent`
        self.ended = False  # end of stream, passed on

    # -- Handler --

    def readable(self) -> None:
        """Move what can be read now. Only if not stalled."""
        if self.big:
            self._pump_pipe()
            return
        buffer = self.relay.shared.buffer
        try:
            count = self.sock.recv_into(buffer, _COPY_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lost()
            return
        if not count:
            self._end()
            return
        self.count += count
        if self.count >= _COPY_SIZE and not self.limited:
            self._limit()
        view = buffer[:count]
        try:
            sent = self.other.sock.send(view)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.relay.write_failed(self.other)
            return
        if count == _COPY_SIZE:
            self.big = splicing.AVAILABLE
        if sent < count:
            self.held = bytes(view[sent:])
            self.relay.settle()

    def writable(self) -> None:
        source = self.other
        # Straight on to the next bytes: in most cases they stall again, and the epoll need not
        # be touched at all.
        if source.flush() and not source.ended:
            source.readable()
        self.relay.settle()

    def hung_up(self) -> None:
        """See `tunnelkit.net.sockets.poll.Handler`: what it sent before it failed is passed on."""
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.relay.write_failed(self)

    # -- the flow from this socket to the other --

    def stalled(self) -> bool:
        """The other socket has not taken everything that was read here."""
        return self.held is not None or self.pipe is not None

    def _limit(self) -> None:
        """Only once it has carried something: of less, no more can be unsent."""
        self.limited = True
        limit_unsent(self.other.sock)

    def _pump_pipe(self) -> None:
        pipes = self.relay.shared.pipes
        pipe = pipes.take()
        if pipe is None or _splice is None:
            self.big = False
            self.readable()
            return
        try:
            count = _splice(
                self.fd, pipe[1], splicing.PIPE_SIZE, None, None, splicing.MOVE_NONBLOCK
            )
        except (BlockingIOError, InterruptedError):
            pipes.give_back(pipe)
            return
        except OSError as error:
            pipes.give_back(pipe)
            if error.errno in _NO_SPLICE:
                self.big = False
                self.readable()
            else:
                self._lost()
            return
        if not count:
            pipes.give_back(pipe)
            self._end()
            return
        self.count += count
        if count >= _SMALL:
            self.small = 0
        else:
            self.small += 1
            if self.small == _SMALL_IN_A_ROW:
                self.small = 0
                self.big = False
        self.pipe = pipe
        self.in_pipe = count
        if not self._flush_pipe(pipe):
            self.relay.settle()

    def flush(self) -> bool:
        """Write what the other socket has not taken yet; True if that was all."""
        if self.held is not None:
            try:
                sent = self.other.sock.send(self.held)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self.relay.write_failed(self.other)
                return False
            if sent < len(self.held):
                self.held = self.held[sent:]
                return False
            self.held = None
        return self.pipe is None or self._flush_pipe(self.pipe)

    def _flush_pipe(self, pipe: splicing.Pipe) -> bool:
        assert _splice is not None
        try:
            sent = _splice(pipe[0], self.other.fd, self.in_pipe, None, None, splicing.MOVE_NONBLOCK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.relay.write_failed(self.other)
            return False
        self.in_pipe -= sent
        if self.in_pipe:
            return False
        self.pipe = None
        self.relay.shared.pipes.give_back(pipe)
        return True

    def _lost(self) -> None:
        """This socket's connection is."""
        self.relay.leaves(self)
        self.relay.broken()

    def _end(self) -> None:
        """The far end of this socket has ended its stream: tell the other."""
        self.ended = True
        if self.other.ended:
            self.relay.finish("closed", False)
            return
        self.relay.leaves(self)
        try:
            self.other.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.relay.broken()
        else:
            self.relay.settle()

    def drop(self, as_reset: bool) -> None:
        """Close the socket and let go of the pipe."""
        self.held = None
        if self.pipe is not None:
            self.relay.shared.pipes.discard(self.pipe)
            self.pipe = None
        if self.carrier is not None:
            if as_reset:
                self.carrier.abort()
            else:
                self.carrier.close()
        elif as_reset:
            reset(self.sock)
        else:
            self.sock.close()


class Relay:
    """Two connected sockets joined; see the module's text. They belong to the relay.

    ``a`` and ``b`` are raw non-blocking sockets or `SocketCarrier` that can be
    lent. ``bytes_ab`` and ``bytes_ba`` count what was read so far, so whoever
    waits for first bytes looks there. Nothing moves before `start`.
    """

    __slots__ = ("_a", "_b", "_on_end", "_over", "_poller", "left_by_a", "shared")

    def __init__(
        self,
        poller: Poller,
        a: socket.socket | SocketCarrier,
        b: socket.socket | SocketCarrier,
        on_end: OnEnd,
        *,
        to_a: bytes = b"",
        to_b: bytes = b"",
    ) -> None:
        self.shared = _Shared.of(poller)
        self.shared.relays += 1
        self._poller = poller
        self._on_end = on_end
        self._over = False
        self.left_by_a: bool | None = None
        """Whether it was a that ended its stream first, or was lost; None: neither was."""
        self._a = _Side(self, a)
        self._b = _Side(self, b)
        self._a.other = self._b
        self._b.other = self._a
        # What goes to a comes from b, so it stands in b's direction.
        self._b.held = to_a or None
        self._a.held = to_b or None
        for side in (self._a, self._b):
            _end_silence(side.sock)

    @property
    def bytes_ab(self) -> int:
        """Bytes read from a so far."""
        return self._a.count

    @property
    def bytes_ba(self) -> int:
        """Bytes read from b so far."""
        return self._b.count

    def start(self) -> None:
        """Begin; ``on_end`` may be called before this returns."""
        a, b = self._a, self._b
        a_stalls = a.held is not None and not a.flush()
        if self._over:
            return
        b_stalls = b.held is not None and not b.flush()
        if self._over:
            return
        self._poller.add(a.fd, a, not a_stalls, b_stalls)
        self._poller.add(b.fd, b, not b_stalls, a_stalls)

    def abort(self, outcome: str) -> None:
        """End both connections as resets."""
        self.finish(outcome, True)

    def settle(self) -> None:
        """Let the poller watch for what the relay waits for now."""
        if self._over:
            return
        a, b = self._a, self._b
        a_stalls, b_stalls = a.stalled(), b.stalled()
        self._poller.change(a.fd, not (a.ended or a_stalls), b_stalls)
        self._poller.change(b.fd, not (b.ended or b_stalls), a_stalls)

    def leaves(self, side: _Side) -> None:
        """``side`` has ended its stream, or was lost."""
        if self.left_by_a is None:
            self.left_by_a = side is self._a

    def broken(self) -> None:
        """A side was lost."""
        self.finish("reset", True)

    def write_failed(self, side: _Side) -> None:
        """``side`` takes nothing more. What it sent before it went is still passed on, as far
        as the other takes it at once."""
        self.leaves(side)
        other = side.other
        buffer = self.shared.buffer
        while not (side.ended or side.stalled()):
            try:
                count = side.sock.recv_into(buffer, _COPY_SIZE)
                if not count or other.sock.send(buffer[:count]) < count:
                    break
            except OSError:
                break
            side.count += count
        self.broken()

    def ended_elsewhere(self, reason: str) -> None:
        """A carrier's connection was ended by somebody else."""
        self.broken()

    def finish(self, outcome: str, as_reset: bool) -> None:
        """Close everything and tell ``on_end``, once."""
        if self._over:
            return
        self._over = True
        for side in (self._a, self._b):
            self._poller.remove(side.fd)
            side.drop(as_reset)
        shared = self.shared
        shared.relays -= 1
        if not shared.relays:
            shared.pipes.close_idle()
        self._on_end(self, self._a.count, self._b.count, outcome)


def _end_silence(sock: socket.socket) -> None:
    """Let the kernel give up a connection that acknowledges nothing for `UNANSWERED` seconds."""
    if _USER_TIMEOUT is not None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, UNANSWERED * 1000)
        except OSError:
            pass  # lost already, or a unix socket, which the kernel knows to be gone
