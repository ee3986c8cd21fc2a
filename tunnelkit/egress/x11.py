"""The far side of ``--x11``: looks like a client to the real X server (rows F3, L6; rule X20)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.x11_gate import SETUP_LIMIT, with_cookie
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.errors import Code, ConfigError, DialError, RemoteProtocolError
from tunnelkit.net.channels.contracts import ChannelHandle
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.connect import connect_stream
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.destination import DEFAULT_DISPLAY, X11, Destination
from tunnelkit.policy.printable import printable
from tunnelkit.policy.xauthority import AuthorityFile, authority_path, parse_display, places_of
from tunnelkit.wire.x11 import SetupReader

_log = Logger()

REDIALS = 3
"""How often an X server is connected to again that ends the connection without an answer."""


class X11Connect:
    """Answers requests for displays: ``x11:DISPLAY``, and `DEFAULT_DISPLAY` for this user's own.

    The latter is the display that the rules name, if they name exactly one of
    this machine, and otherwise what DISPLAY says; the rules decide on it too.
    """

    def __init__(self, egress: Egress, environment: Mapping[str, str]) -> None:
        self._egress = egress
        self._environment = environment
        egress.answer_with(X11, self.connect)
        egress.answer_with(DEFAULT_DISPLAY, self._connect_default)

    def connect(self, request: EgressRequest, destination: Destination) -> None:
        """Connect to that display."""
        # Read again for each client: an X server that is started anew has another cookie.
        authority = AuthorityFile(authority_path(self._environment))
        again = partial(self._connect_again, request.peer, destination)
        make_side = partial(ServerSide, self._egress.poller, authority, destination, again)
        self._egress.dial(request, destination, make_side)

    async def _connect_again(
        self, peer: str, destination: Destination, address: str
    ) -> socket.socket:
        name = destination.host if destination.host != address else None
        decision = self._egress.policy.authorize(
            peer, "connect", X11, address, destination.port, name or None
        )
        return await connect_stream(self._egress.poller, decision, self._egress.limit)

    def _connect_default(self, request: EgressRequest, _destination: Destination) -> None:
        rules = [
            rule
            for rule in self._egress.policy.current.rules
            if rule.kind == X11 and rule.is_for(request.peer)
        ]
        if not rules:
            request.refuse(Code.NOT_ALLOWED, "not allowed there")
            return
        named = {rule.ports for rule in rules if rule.network is None and rule.host is None}
        if len(named) == len(rules) == 1:
            ((ports),) = named
            if len(ports) == 1 and ports[0][0] == ports[0][1]:
                self.connect(request, Destination(X11, "", ports[0][0]))
                return
        text = self._environment.get("DISPLAY", "")
        try:
            if not text:
                raise ConfigError("DISPLAY is not set, and the rules do not name one display")
            display = parse_display(text)
        except ConfigError as error:
            _log.warn(
                "{peer} asks for the display of this end: {why}",
                peer=printable(request.peer),
                why=str(error),
            )
            request.refuse(Code.UNREACHABLE, "there is no display there")
        else:
            self.connect(request, display)


class ServerSide:
    """A connection to an X server until that has answered the client's setup packet.

    Then a plain `SocketSide` takes its place. An X server that starts over,
    as many do when their last client has left, drops whoever connects at that
    moment: if it ends the connection without a word it is connected to again.
    """

    __slots__ = (
        "_address",
        "_again",
        "_authority",
        "_channel",
        "_display",
        "_dropped",
        "_packet",
        "_poller",
        "_redialling",
        "_setup",
        "_sock",
        "_timer",
    )

    def __init__(
        self,
        poller: Poller,
        authority: AuthorityFile,
        display: Destination,
        again: Callable[[str], Coroutine[Any, Any, socket.socket]],
        sock: socket.socket,
    ) -> None:
        self._poller = poller
        self._authority = authority
        self._display = display
        self._again = again
        self._sock: socket.socket | None = sock
        self._address = _address_of(sock)
        self._channel: ChannelHandle | None = None
        self._timer = Timer(poller.reactor, self._too_slow)
        self._setup = SetupReader()
        self._packet = b""
        """What the X server gets to see first, once it is complete."""
        self._dropped = 0
        self._redialling: Deferred[None] | None = None

    # -- LocalSide --------------------------------------------------------

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""
        self._channel = channel
        self._timer.start(SETUP_LIMIT)

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`: there is nothing before the plain side."""
        return 0

    def push(self, view: memoryview) -> int:
        """See `LocalSide`: takes the setup packet; what is behind it waits for the answer."""
        if self._packet:
            return 0
        try:
            taken = self._setup.receive(view)
        except RemoteProtocolError as error:
            raise OSError(errno.EPROTO, str(error)) from None
        if self._setup.setup is not None:
            self._timer.stop()
            assert self._sock is not None
            self._packet = with_cookie(self._setup.setup, self._cookie())
            self._send(self._sock)
        return taken

    def finish(self) -> None:
        """See `LocalSide`: a client that leaves before it is in."""
        self._abort(Code.RESET, "the X client left before it was let in")

    def close(self) -> None:
        """See `LocalSide`."""
        sock = self._release()
        if sock is not None:
            sock.close()

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        sock = self._release()
        if sock is not None:
            reset(sock)

    # -- poller -----------------------------------------------------------

    def readable(self) -> None:
        """The X server answers, or drops us."""
        sock, channel = self._sock, self._channel
        if sock is None or channel is None:
            return
        try:
            answers = bool(sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return
        except OSError:
            answers = False
        if not answers:
            self._redial(sock)
            return
        self._release()
        channel.hand_over(SocketSide(self._poller, sock))
        channel.drained()

    def writable(self) -> None:
        """Never asked for."""

    # -- parts ------------------------------------------------------------

    def _cookie(self) -> bytes | None:
        """The X server's cookie; None if there is none: some let users in by their name."""
        places = () if self._address is None else places_of(self._address)
        try:
            cookie = self._authority.cookie(places, self._display.port)
        except ConfigError as error:
            _log.warn("{why}", why=str(error))
            raise OSError(errno.EACCES, "there is no cookie for the display there") from None
        if cookie is None:
            _log.info(
                "No cookie for {display} in {file}: connecting without",
                display=printable(str(self._display)),
                file=printable(self._authority.path),
            )
        return cookie

    def _send(self, sock: socket.socket) -> None:
        try:
            # Less than 100 bytes into an empty buffer: it takes all or is gone.
            sock.send(self._packet)
        except OSError:
            pass  # reading tells
        self._poller.add(sock.fileno(), self, True, False)

    def _redial(self, sock: socket.socket) -> None:
        self._poller.remove(sock.fileno())
        self._sock = None
        sock.close()
        self._dropped += 1
        if self._address is None or self._dropped > REDIALS:
            self._abort(Code.RESET, "the X server drops the connection without an answer")
            return
        dialling = Deferred.fromCoroutine(self._again(self._address))
        self._redialling = dialling.addCallbacks(self._redialled, self._not_redialled)

    def _redialled(self, sock: socket.socket) -> None:
        self._redialling = None
        self._sock = sock
        self._send(sock)

    def _not_redialled(self, failure: Failure) -> None:
        self._redialling = None
        error = failure.value
        if failure.check(CancelledError):
            return
        code = error.code if isinstance(error, DialError) else Code.NOT_ALLOWED
        _log.info("The X server is gone: {why}", why=printable(str(error)))
        self._abort(code, "the X server is gone")

    def _too_slow(self) -> None:
        self._abort(Code.TIMED_OUT, f"no complete X setup packet within {SETUP_LIMIT:g} s")

    def _abort(self, code: Code, reason: str) -> None:
        if self._channel is not None:
            self._channel.abort(code, reason)

    def _release(self) -> socket.socket | None:
        """Let go of everything; the socket, if there is one now."""
        self._timer.stop()
        self._channel = None
        if self._redialling is not None:
            self._redialling.cancel()
        sock, self._sock = self._sock, None
        if sock is not None and self._packet:
            self._poller.remove(sock.fileno())
        return sock


def _address_of(sock: socket.socket) -> str | None:
    """The address of the X server: empty for a unix socket, None if it has gone already."""
    try:
        return "" if sock.family == socket.AF_UNIX else str(sock.getpeername()[0])
    except OSError:
        return None
