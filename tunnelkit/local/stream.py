"""A plain socket whose bytes somebody here reads: the talk of a front end with its client.

Once there is nothing left to say, `SocketStream.detach` gives the socket to a
channel (`tunnelkit.net.channels.socket_side`).
"""

from __future__ import annotations

import socket
from typing import Protocol

from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer

READ_SIZE = 65_536
HIGH_WATER = 131_072
"""Bytes written and not yet sent from which on `SocketStream.full` is true."""
LINGER = 5.0
"""Seconds that the other side has to take the last word and close."""


class StreamOwner(Protocol):
    """What a `SocketStream` tells; none of these is called from within its methods."""

    def stream_received(self, data: bytes) -> object:
        """Bytes have come; at most `READ_SIZE`."""

    def stream_ended(self) -> object:
        """No more will come; the other side may still be reading."""

    def stream_lost(self) -> object:
        """The other side is gone, the socket is closed."""

    def stream_drained(self) -> object:
        """What the kernel did not take at once has been taken."""


class SocketStream:
    """Reads and writes for ``owner``. Reading starts at once."""

    __slots__ = (
        "_fd",
        "_leaving",
        "_linger",
        "_outbound",
        "_paused",
        "_poller",
        "_read_over",
        "_registered",
        "_sock",
        "owner",
    )

    def __init__(self, poller: Poller, sock: socket.socket, owner: StreamOwner) -> None:
        self.owner = owner
        self._poller = poller
        self._sock: socket.socket | None = sock
        self._fd = sock.fileno()
        self._outbound = bytearray()
        self._paused = False
        self._read_over = False
        self._leaving = False
        self._linger = Timer(poller.reactor, self.close)
        self._registered = True
        poller.add(self._fd, self, True, False)

    @property
    def closed(self) -> bool:
        """Nothing more can be said: the stream is finishing, closed, or somebody else's."""
        return self._sock is None or self._leaving

    @property
    def full(self) -> bool:
        """So much waits to be sent that nothing should be added."""
        return len(self._outbound) >= HIGH_WATER

    def write(self, data: bytes) -> None:
        """Send, now or when the other side takes it. Ignored once the stream is closed."""
        if self._sock is None or self._leaving:
            return
        if not self._outbound:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The owner is in the middle of something: it is told when it can hear it.
                self._poller.after_batch(self._lost)
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._outbound += data
        self._watch()

    def pause(self) -> None:
        """Take nothing more from the other side for now."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Undo `pause`."""
        self._paused = False
        self._watch()

    def finish(self) -> None:
        """Send what is left, then end. What still comes is dropped: closing with bytes unread
        could take the last word away with a reset."""
        if self._sock is None or self._leaving:
            return
        self._leaving = True
        self._paused = False
        self._linger.start(LINGER)
        if not self._outbound:
            self._said()
        else:
            self._watch()

    def abort(self) -> None:
        """Close so that the other side sees a reset (X11)."""
        sock = self._forget()
        if sock is not None:
            reset(sock)

    def close(self) -> None:
        """Close without another word."""
        sock = self._forget()
        if sock is not None:
            sock.close()

    def detach(self) -> socket.socket:
        """Take the socket; everything written must have been sent."""
        sock = self._forget()
        assert sock is not None
        return sock

    @property
    def sent(self) -> bool:
        """Nothing waits to be sent."""
        return not self._outbound

    # -- poller -----------------------------------------------------------

    def readable(self) -> None:
        """Bytes, the end or an error."""
        if self._sock is None:
            return
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if data:
            if not self._leaving:
                self.owner.stream_received(data)
            return
        self._read_over = True
        if self._leaving:
            if not self._outbound:
                self.close()
            else:
                self._watch()
            return
        self._watch()
        self.owner.stream_ended()

    def hung_up(self) -> None:
        """See `tunnelkit.net.sockets.poll.Handler`."""
        if self._sock is not None and self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lost()

    def writable(self) -> None:
        """The other side takes more."""
        if self._sock is None:
            return
        if self._outbound:
            try:
                sent = self._sock.send(self._outbound)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            del self._outbound[:sent]
        if self._outbound:
            return
        self._watch()
        if self._leaving:
            self._said()
        else:
            self.owner.stream_drained()

    def _said(self) -> None:
        assert self._sock is not None
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        if self._read_over:
            self.close()
        else:
            self._watch()

    def _lost(self) -> None:
        if self._sock is None:
            return
        leaving = self._leaving
        self.close()
        if not leaving:
            self.owner.stream_lost()

    def _watch(self) -> None:
        if self._sock is not None:
            read = not self._paused and not self._read_over
            self._poller.change(self._fd, read, bool(self._outbound))

    def _forget(self) -> socket.socket | None:
        if self._registered:
            self._registered = False
            self._poller.remove(self._fd)
        self._linger.stop()
        sock, self._sock = self._sock, None
        return sock
