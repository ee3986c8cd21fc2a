"""Raw non-blocking sockets: listening, accepting and connecting, only with a `Decision` (X1).

Twisted's transport per connection costs too much for the rates asked for, so
what only moves bytes works on sockets that a `Poller` watches. Every TCP
socket made here is non-blocking and has TCP_NODELAY.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.core.decision import Decision
from tunnelkit.errors import Code, ConfigError, DialError, DialTimeout, LocalProtocolError
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer

_log = Logger()

BACKLOG = 4096
"""Connections that the kernel keeps for us before they are accepted."""
LOW_WATER = 1 << 17
"""Bytes that may wait unsent in a socket before it takes no more."""
ACCEPTS_PER_EVENT = 64
ACCEPT_PAUSE = 1.0
"""Seconds without accepting after the process ran out of descriptors."""

_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_CODES = {
    errno.ECONNREFUSED: Code.REFUSED,
    errno.ENOENT: Code.REFUSED,  # unix socket: nobody has made it
    errno.EAGAIN: Code.REFUSED,  # unix socket: the listener's queue is full
    errno.EHOSTUNREACH: Code.UNREACHABLE,
    errno.ENETUNREACH: Code.UNREACHABLE,
    errno.EHOSTDOWN: Code.UNREACHABLE,
    errno.ENETDOWN: Code.UNREACHABLE,
    errno.EADDRNOTAVAIL: Code.UNREACHABLE,
    errno.EAFNOSUPPORT: Code.UNREACHABLE,
    errno.ETIMEDOUT: Code.TIMED_OUT,
    errno.EACCES: Code.NOT_ALLOWED,
    errno.EPERM: Code.NOT_ALLOWED,
    errno.ECONNRESET: Code.RESET,
    errno.ECONNABORTED: Code.RESET,
    errno.EPIPE: Code.RESET,
    errno.EMFILE: Code.LIMIT,
    errno.ENFILE: Code.LIMIT,
    errno.ENOBUFS: Code.LIMIT,
    errno.ENOMEM: Code.LIMIT,
}


def limit_unsent(sock: socket.socket, size: int = LOW_WATER) -> None:
    """Let ``sock`` take no more once ``size`` bytes in it wait to be sent (TCP_NOTSENT_LOWAT).

    Otherwise the kernel takes megabytes for a peer that does not read, and
    what it took looks like progress.
    """
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, size)
    except OSError:
        pass  # lost already, a unix socket, a platform without it: it queues more, nothing else


class BindError(ConfigError):
    """A port or unix socket could not be opened for listening; ``code`` says why on the wire."""

    def __init__(self, message: str, code: Code) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: OSError) -> Code:
    """The wire's code for what the operating system said; UNREACHABLE if there is no better."""
    return _CODES.get(error.errno or 0, Code.UNREACHABLE)


def format_address(address: Any) -> str:
    """``HOST:PORT`` (IPv6 in brackets), or the path, of what the socket module calls an address."""
    if isinstance(address, tuple):
        host = address[0]
        return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    if isinstance(address, bytes):
        return address.decode("utf-8", "backslashreplace")
    return str(address)


def _demand(decision: Decision, action: str, protocol: str) -> None:
    if decision.action != action or decision.protocol != protocol:
        raise LocalProtocolError(
            f"a decision for {decision.action} {decision.protocol} used for {action} {protocol}"
        )


def _inet_family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def keep_alive(sock: socket.socket, idle: int = 60, interval: int = 15, count: int = 4) -> None:
    """Have the kernel notice a peer that is gone without a word: after ``idle`` seconds of
    silence it asks every ``interval`` seconds, ``count`` times. Accepted sockets inherit it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", count),
    ):
        option = getattr(socket, name, None)  # platforms differ
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


# -- listening ------------------------------------------------------------


def bind_tcp(decision: Decision, backlog: int = BACKLOG) -> socket.socket:
    """A listening socket on the decision's address and port (0: any free one).

    IPv6 sockets take IPv6 only. Accepted sockets inherit TCP_NODELAY.
    Raises `BindError` with one line that names the address and the reason.
    """
    _demand(decision, "bind", "tcp")
    where = format_address((decision.address, decision.port))
    try:
        sock = socket.socket(_inet_family(decision.address), socket.SOCK_STREAM)
    except OSError as error:
        raise _bind_error(where, error) from None
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((decision.address, decision.port))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _bind_error(where, error) from None
    return sock


def bind_unix(decision: Decision, mode: int = 0o600, backlog: int = BACKLOG) -> socket.socket:
    """A listening unix socket at the decision's path, with permissions ``mode`` from the start.

    A socket of this user that nobody listens on any more is replaced, and nothing else: another
    file, a link or somebody else's socket stays as it is (rule X27). Raises `BindError`.
    """
    _demand(decision, "bind", "unix")
    path = decision.address
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        remove_socket(path)
        try:
            # On Linux the file gets the permissions that the socket's descriptor has.
            os.fchmod(sock.fileno(), mode)
        except OSError:
            pass  # elsewhere: only the chmod below
        sock.bind(path)
        os.chmod(path, mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _bind_error(path, error) from None
    return sock


def remove_socket(path: str) -> None:
    """Remove a socket file of this user that nobody listens on; anything else is left alone."""
    try:
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
    except OSError:
        pass  # not there, or not ours: bind says so


def _bind_error(where: str, error: OSError) -> BindError:
    if error.errno == errno.EADDRINUSE and "/" in where:
        why = (
            "it is in use by another program, or is something else than a socket of this user; it "
            "was left as it is: choose another path, or stop that program"
        )
    elif error.errno == errno.EADDRINUSE:
        why = "it is in use by another program; stop that one or choose another"
    elif error.errno in (errno.EACCES, errno.EPERM):
        why = "this user may not open it; choose a port above 1023 or a path of your own"
    elif error.errno == errno.EADDRNOTAVAIL:
        why = "this machine does not have that address"
    else:
        why = error.strerror or str(error)
    code = Code.REFUSED if error.errno == errno.EADDRINUSE else code_of(error)
    return BindError(f"cannot listen on {where}: {why}", code)


class Listener:
    """Accepts connections and hands each to ``on_accept(socket, (host, port))``.

    The address of a client of a unix socket is ``("", 0)``. When the process
    has no descriptors left accepting pauses for a second at a time; clients
    wait in the kernel's queue meanwhile. ``on_accept`` owns the socket; if it
    raises, that is logged and the socket closed.
    """

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        on_accept: Callable[[socket.socket, tuple[str, int]], object],
    ) -> None:
        self._poller = poller
        self._socket = sock
        self._on_accept = on_accept
        self._pause = Timer(poller.reactor, self._resume)
        self._exhausted = False
        self._unix = sock.family == socket.AF_UNIX
        self._closed = False
        self.address = format_address(sock.getsockname())
        """``HOST:PORT`` (the real port if any free one was asked for) or the path."""
        poller.add(sock.fileno(), self, True, False)

    def readable(self) -> None:
        accept = self._socket.accept
        for _ in range(ACCEPTS_PER_EVENT):
            try:
                sock, address = accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(error)
                    return
                continue  # a client that went away again
            self._exhausted = False
            try:
                sock.setblocking(False)
                self._on_accept(sock, ("", 0) if self._unix else address[:2])
            except Exception:
                _log.failure("Accepting on {address} failed", address=self.address)
                sock.close()
            if self._closed:
                return

    def writable(self) -> None:
        """Never asked for."""

    def _rest(self, error: OSError) -> None:
        if not self._exhausted:
            self._exhausted = True
            _log.warn(
                "Not accepting on {address}: {reason}; trying again every second",
                address=self.address,
                reason=error.strerror,
            )
        self._poller.change(self._socket.fileno(), False, False)
        self._pause.start(ACCEPT_PAUSE)

    def _resume(self) -> None:
        self._poller.change(self._socket.fileno(), True, False)

    def close(self) -> None:
        """Stop listening; a unix socket's file is removed. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._pause.stop()
        self._poller.remove(self._socket.fileno())
        self._socket.close()
        if self._unix:
            remove_socket(self.address)


# -- connecting -----------------------------------------------------------


def connect_tcp(poller: Poller, decision: Decision, timeout: float) -> Deferred[socket.socket]:
    """Connect to the decision's address and port within ``timeout`` seconds.

    The Deferred fails with a `DialError` whose code says how; cancelling it
    closes the socket.
    """
    _demand(decision, "connect", "tcp")
    address = (decision.address, decision.port)
    return _connect(poller, _inet_family(decision.address), address, timeout)


def connect_unix(poller: Poller, decision: Decision, timeout: float) -> Deferred[socket.socket]:
    """The same for the unix socket at the decision's path."""
    _demand(decision, "connect", "unix")
    return _connect(poller, socket.AF_UNIX, decision.address, timeout)


def _connect(
    poller: Poller, family: socket.AddressFamily, address: Any, timeout: float
) -> Deferred[socket.socket]:
    attempt = _Connecting(poller, address)
    attempt.start(family, timeout)
    return attempt.done


class _Connecting:
    """One connection attempt."""

    __slots__ = ("_address", "_poller", "_socket", "_timeout", "_timer", "done")

    def __init__(self, poller: Poller, address: Any) -> None:
        self._poller = poller
        self._address = address
        self._timer = Timer(poller.reactor, self._timed_out)
        self._timeout = 0.0
        self._socket: socket.socket | None = None
        self.done: Deferred[socket.socket] = Deferred(self._cancelled)

    def start(self, family: socket.AddressFamily, timeout: float) -> None:
        try:
            self._socket = sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(self._address)
        except BlockingIOError as error:
            if error.errno != errno.EINPROGRESS:
                self._failed(error)
                return
            self._poller.add(sock.fileno(), self, False, True)
            self._timeout = timeout
            self._timer.start(timeout)
        except OSError as error:
            self._failed(error)
        else:
            self._connected(sock)

    def readable(self) -> None:
        """Never asked for."""

    def writable(self) -> None:
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
            # A connect to a dead port of this machine can meet itself (simultaneous open).
            itself = isinstance(self._address, tuple) and sock.getsockname() == sock.getpeername()
        except OSError as error:
            self._failed(error)
            return
        if itself:
            self._failed(OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
            return
        self._release()
        self.done.callback(sock)

    def _release(self) -> socket.socket | None:
        sock, self._socket = self._socket, None
        self._timer.stop()
        if sock is not None:
            self._poller.remove(sock.fileno())
        return sock

    def _give_up(self) -> None:
        sock = self._release()
        if sock is not None:
            sock.close()

    def _failed(self, error: OSError) -> None:
        self._give_up()
        hop = format_address(self._address)
        self.done.errback(
            DialError(f"{hop}: {error.strerror or error}", hop=hop, code=code_of(error))
        )

    def _timed_out(self) -> None:
        self._give_up()
        hop = format_address(self._address)
        self.done.errback(DialTimeout(f"{hop}: no answer within {self._timeout:g} s", hop=hop))

    def _cancelled(self, _done: Deferred[socket.socket]) -> None:
        self._give_up()
