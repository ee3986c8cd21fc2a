"""A plain non-blocking socket as the application's side of a channel (front ends and egress).

Bytes go between the socket and the tunnel's buffers directly. The poller is
touched only when something stalls: a socket that is readable stays registered
while the tunnel keeps up with it.
"""

from __future__ import annotations

import os
import socket

from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import END, ChannelHandle, HasOrigin
from tunnelkit.net.sockets.linger import close_resets
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import format_address, limit_unsent


class SocketSide(HasOrigin):
    """``leftover`` was read from the socket before, and is pulled first.

    With ``hold`` nothing is pulled before `release`: the front end still talks
    to the application itself, and a refused channel leaves the socket alone.

    Until the channel has ended cleanly the socket is set to reset when it is
    closed, so that the application can tell even if this process is killed (rule X11).
    """

    __slots__ = (
        "_channel",
        "_fd",
        "_held",
        "_leftover",
        "_poller",
        "_registered",
        "_signalled",
        "_sock",
        "_want_read",
        "_want_write",
    )

    def __init__(
        self, poller: Poller, sock: socket.socket, *, leftover: bytes = b"", hold: bool = False
    ) -> None:
        self._poller = poller
        self._sock: socket.socket | None = sock
        self._fd = sock.fileno()
        self._leftover = leftover
        self._held = hold
        self._channel: ChannelHandle | None = None
        self._registered = False
        self._signalled = False
        """The channel has been told that there is something to pull."""
        self._want_read = False
        self._want_write = False
        close_resets(sock, True)
        limit_unsent(sock)

    # -- for front ends ---------------------------------------------------

    def release(self) -> None:
        """Begin: the application may send and receive."""
        self._held = False
        if self._channel is not None:
            self._begin()

    def detach(self) -> socket.socket:
        """Take the socket back; only while held."""
        assert self._held
        assert self._sock is not None
        sock, self._sock = self._sock, None
        close_resets(sock, False)
        return sock

    def origin(self) -> str:
        """See `HasOrigin`."""
        try:
            return format_address(self._sock.getpeername()) if self._sock is not None else ""
        except OSError:
            return ""  # it has gone already

    # -- LocalSide --------------------------------------------------------

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""
        self._channel = channel
        if not self._held:
            self._begin()

    def _begin(self) -> None:
        if self._sock is None:
            return
        self._signalled = True
        assert self._channel is not None
        self._channel.ready()
        # Watched from the beginning: a reset is to be noticed even if nothing can be pulled yet.
        self._watch(True, self._want_write)

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`."""
        if self._held or self._sock is None:
            return 0
        if not view:
            return self._end_only()
        if self._leftover:
            size = min(len(view), len(self._leftover))
            view[:size] = self._leftover[:size]
            self._leftover = self._leftover[size:]
            if size < len(view):
                # Who gets less than asked for does not ask again: the poller has to say.
                self._signalled = False
                self._watch(True, self._want_write)
            return size
        try:
            size = self._sock.recv_into(view)
        except BlockingIOError:
            size = -1
        if size == 0:
            self._watch(False, self._want_write)
            return END
        if size < len(view):
            # Drained, as far as can be told without another call: wait for the poller again.
            self._signalled = False
            if not self._want_read:
                self._watch(True, self._want_write)
            if size < 0:
                return 0
        return size

    def _end_only(self) -> int:
        """`END`, if it comes next; nothing can be sent now, but that can be said."""
        if self._leftover or self._sock is None:
            return 0
        try:
            if self._sock.recv(1, socket.MSG_PEEK):
                return 0
        except BlockingIOError:
            self._signalled = False
            if not self._want_read:
                self._watch(True, self._want_write)
            return 0
        self._watch(False, self._want_write)
        return END

    def push(self, view: memoryview) -> int:
        """See `LocalSide`."""
        if self._sock is None:
            return len(view)
        try:
            size = self._sock.send(view)
        except BlockingIOError:
            size = 0
        if size < len(view) and not self._want_write:
            self._watch(self._want_read, True)
        return size

    def finish(self) -> None:
        """See `LocalSide`."""
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the application has gone; reading will tell

    def close(self) -> None:
        """See `LocalSide`."""
        sock = self._forget()
        if sock is not None:
            close_resets(sock, False)
            os.close(sock.detach())

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`: the application sees a connection reset."""
        if self._held:
            self._channel = None
            return
        sock = self._forget()
        if sock is not None:
            sock.close()

    # -- poller -----------------------------------------------------------

    def readable(self) -> None:
        """Data, the end, or an error."""
        channel = self._channel
        if channel is None or self._sock is None:
            return
        if self._want_read and not self._signalled:
            self._signalled = True
            channel.ready()
            return
        if not self.hung_up():
            # Not pulled since the last time: the tunnel is full, or this direction is over.
            # A hang-up would be told again and again, unless nobody waits for anything.
            self._watch(False, self._want_write)

    def hung_up(self) -> bool:
        """See `tunnelkit.net.sockets.poll.Handler`: a reset is noticed also when nothing is to be
        read or written (D-8). Tells whether the socket is broken; then the channel has been told.
        """
        if self._sock is None or self._channel is None:
            return False
        if not self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return False
        self._channel.abort(Code.RESET, "the application reset the connection")
        return True

    def failed(self) -> None:
        """See `tunnelkit.net.sockets.poll.Handler`."""
        if self._channel is not None:
            self._channel.abort(Code.INTERNAL, "an internal error")

    def writable(self) -> None:
        """The application takes data again."""
        self._watch(self._want_read, False)
        if self._channel is not None:
            self._channel.drained()

    def _watch(self, read: bool, write: bool) -> None:
        if self._sock is None:
            return
        self._want_read = read
        self._want_write = write
        if self._registered:
            self._poller.change(self._fd, read, write)
        else:
            self._registered = True
            self._poller.add(self._fd, self, read, write)

    def _forget(self) -> socket.socket | None:
        if self._registered:
            self._registered = False
            self._poller.remove(self._fd)
        self._channel = None
        sock, self._sock = self._sock, None
        return sock
