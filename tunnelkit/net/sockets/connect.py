"""Raw non-blocking sockets that connect, only with a `Decision` (X1).

Every TCP socket made here is non-blocking and has TCP_NODELAY.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from tunnelkit.core.decision import Decision
from tunnelkit.errors import DialError, DialTimeout, LocalProtocolError
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import code_of, format_address, inet_family
from tunnelkit.net.sockets.timer import Timer

_BORN_SO = getattr(socket, "SOCK_NONBLOCK", 0)
_STREAM = socket.SOCK_STREAM | _BORN_SO
"""Non-blocking from the start, which saves a system call, where there is such a thing."""
_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EALREADY})
_CONNECTED = frozenset({0, errno.EISCONN})


class AttemptOwner(Protocol):
    """Who is told what has come of an `Attempt`: once, perhaps while it is being started, and
    nothing once it has been cancelled."""

    def connected(self, attempt: Attempt, sock: socket.socket, near: Any) -> object:
        """``sock`` is the owner's; ``near`` is its own address, as the socket module has it."""

    def failed(self, attempt: Attempt, error: DialError) -> object:
        """The code of ``error`` says how."""


class Attempt:
    """Connects to where ``decision``, for ``tcp`` or ``unix``, says, once it is started."""

    __slots__ = ("_address", "_owner", "_poller", "_socket", "_timeout", "_timer", "decision")

    def __init__(self, poller: Poller, decision: Decision, owner: AttemptOwner) -> None:
        if decision.action != "connect" or decision.protocol not in ("tcp", "unix"):
            raise LocalProtocolError(
                f"a decision for {decision.action} {decision.protocol} used to connect a stream"
            )
        self.decision = decision
        self._poller = poller
        self._owner = owner
        self._address: Any = (
            (decision.address, decision.port) if decision.protocol == "tcp" else decision.address
        )
        self._socket: socket.socket | None = None
        self._timeout = 0.0
        self._timer: Timer | None = None
        """Of an attempt that has to wait."""

    def start(self, timeout: float) -> None:
        """Begin; it fails after ``timeout`` seconds."""
        address = self._address
        try:
            if self.decision.protocol == "tcp":
                family = inet_family(self.decision.address)
                self._socket = sock = socket.socket(family, _STREAM)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                self._socket = sock = socket.socket(socket.AF_UNIX, _STREAM)
            if not _BORN_SO:
                sock.setblocking(False)
            number = sock.connect_ex(address)
            if number == errno.EINPROGRESS:
                # Who listens on this machine has answered by now: nothing to wait for.
                number = sock.connect_ex(address)
        except OSError as error:
            self._failed(error)
            return
        if number in _CONNECTED:
            self._connected(sock)
        elif number in _UNDER_WAY:
            self._timeout = timeout
            self._timer = Timer(self._poller.reactor, self._timed_out)
            self._timer.start(timeout)
            self._poller.add(sock.fileno(), self, False, True)
        else:
            self._failed(OSError(number, os.strerror(number)))

    def cancel(self) -> None:
        """Give up."""
        sock = self._release()
        if sock is not None:
            sock.close()

    def readable(self) -> None:
        """Never asked for."""

    def writable(self) -> None:
        """There is an answer."""
        sock = self._socket
        if sock is None:
            return
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._failed(OSError(number, os.strerror(number)))
        else:
            self._connected(sock)

    def _connected(self, sock: socket.socket) -> None:
        try:
            near = sock.getsockname()
            # A connect to a dead port of this machine can meet itself (simultaneous open).
            port = self.decision.port
            itself = port and near[1] == port and near == sock.getpeername()
        except OSError as error:
            self._failed(error)
            return
        if itself:
            self._failed(OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
            return
        if self._timer is None:
            self._socket = None
        else:
            self._release()
        self._owner.connected(self, sock, near)

    def _release(self) -> socket.socket | None:
        sock, self._socket = self._socket, None
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
            if sock is not None:
                self._poller.remove(sock.fileno())
        return sock

    def _failed(self, error: OSError) -> None:
        self.cancel()
        hop = format_address(self._address)
        text = f"{hop}: {error.strerror or error}"
        self._owner.failed(self, DialError(text, hop=hop, code=code_of(error)))

    def _timed_out(self) -> None:
        self.cancel()
        hop = format_address(self._address)
        text = f"{hop}: no answer within {self._timeout:g} s"
        self._owner.failed(self, DialTimeout(text, hop=hop))


def connect_stream(poller: Poller, decision: Decision, timeout: float) -> Deferred[socket.socket]:
    """Connect to where ``decision``, for ``tcp`` or ``unix``, says within ``timeout`` seconds.

    The Deferred fails with a `DialError` whose code says how; cancelling it
    closes the socket.
    """
    waiting = _Waiting()
    attempt = Attempt(poller, decision, waiting)
    waiting.done = Deferred(lambda _done: attempt.cancel())
    attempt.start(timeout)
    return waiting.done


class _Waiting:
    """Who waits for an attempt with a Deferred."""

    done: Deferred[socket.socket]

    def connected(self, attempt: Attempt, sock: socket.socket, near: Any) -> None:
        """See `AttemptOwner`."""
        self.done.callback(sock)

    def failed(self, attempt: Attempt, error: DialError) -> None:
        """See `AttemptOwner`."""
        self.done.errback(error)
