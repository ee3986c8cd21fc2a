"""Raw non-blocking sockets: listening and accepting, only with a `Decision` (X1).

Twisted's transport per connection costs too much for the rates asked for, so
what only moves bytes works on sockets that a `Poller` watches. Every TCP
socket made here is non-blocking and has TCP_NODELAY. `tunnelkit.net.sockets.connect` connects.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from tunnelkit.core.decision import Decision
from tunnelkit.errors import Code, ConfigError, LocalProtocolError
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


def inet_family(address: str) -> socket.AddressFamily:
    """That of an address in text."""
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
        sock = socket.socket(inet_family(decision.address), socket.SOCK_STREAM)
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
        self._family = sock.family
        self._unix = self._family == socket.AF_UNIX
        self._at_once = 1
        """Connections taken before others get their turn: as many as have come lately."""
        self._closed = False
        self.address = format_address(sock.getsockname())
        """``HOST:PORT`` (the real port if any free one was asked for) or the path."""
        poller.add(sock.fileno(), self, True, False)

    def readable(self) -> None:
        listening: Any = self._socket
        # As `socket.accept` has it, without looking up family and type for each: a fifth of the
        # Python calls of a connection that is passed on.
        accept, family = listening._accept, self._family
        most = self._at_once
        self._at_once = 1
        for _ in range(most):
            try:
                number, address = accept()
                sock = socket.socket(family, socket.SOCK_STREAM, 0, number)
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
        # There may be more: if so, this is called again at once.
        self._at_once = min(2 * most, ACCEPTS_PER_EVENT)

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
