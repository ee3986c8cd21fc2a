"""The far side of ``--x11``: looks like a client to the real X server (rows F3, L6; rule X20)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from tunnelkit.core.x11_gate import SETUP_LIMIT, with_cookie
from tunnelkit.errors import Code, ConfigError, RemoteProtocolError
from tunnelkit.frontends.egress import ChannelRequest, Egress
from tunnelkit.frontends.listening import reset_socket
from tunnelkit.frontends.x11_listen import DEFAULT_DISPLAY
from tunnelkit.net.channel import Channel
from tunnelkit.net.poll import Poller
from tunnelkit.net.socket_side import SocketSide
from tunnelkit.policy.destination import X11, Destination
from tunnelkit.policy.printable import printable
from tunnelkit.policy.xauthority import AuthorityFile, authority_path, parse_display, places_of
from tunnelkit.wire.x11 import Setup, SetupReader

_log = Logger()


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

    def connect(self, request: ChannelRequest, destination: Destination) -> None:
        """Connect to that display."""
        # Read again for each client: an X server that is started anew has another cookie.
        authority = AuthorityFile(authority_path(self._environment))
        self._egress.dial(
            request,
            destination,
            partial(SetupSide, self._egress.reactor, self._egress.poller, authority, destination),
        )

    def _connect_default(self, request: ChannelRequest, _destination: Destination) -> None:
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


class SetupSide:
    """A connection to an X server that waits for the client's setup packet.

    With the packet complete, and the real cookie in it, a `SocketSide` takes its place.
    """

    __slots__ = (
        "_authority",
        "_channel",
        "_display",
        "_poller",
        "_reactor",
        "_setup",
        "_sock",
        "_timer",
    )

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        authority: AuthorityFile,
        display: Destination,
        sock: socket.socket,
    ) -> None:
        self._reactor = reactor
        self._poller = poller
        self._authority = authority
        self._display = display
        self._sock: socket.socket | None = sock
        self._channel: Channel | None = None
        self._timer: IDelayedCall | None = None
        self._setup = SetupReader()

    def attach(self, channel: Channel) -> None:
        """See `LocalSide`."""
        self._channel = channel
        self._timer = self._reactor.callLater(SETUP_LIMIT, self._too_slow)

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`: X servers say nothing before the setup."""
        return 0

    def push(self, view: memoryview) -> int:
        """See `LocalSide`."""
        try:
            taken = self._setup.receive(view)
        except RemoteProtocolError as error:
            raise OSError(errno.EPROTO, str(error)) from None
        setup = self._setup.setup
        if setup is None:
            return taken
        side = self._begin(setup)
        return taken + side.push(view[taken:]) if taken < len(view) else taken

    def _begin(self, setup: Setup) -> SocketSide:
        """Send the packet, and make way for a plain side."""
        channel, sock = self._channel, self._sock
        assert channel is not None
        assert sock is not None
        packet = with_cookie(setup, self._cookie(sock))
        if sock.send(packet) < len(packet):
            raise OSError(errno.EPIPE, "the X server does not take the setup packet")
        self._take()
        side = SocketSide(self._poller, sock)
        channel.side = side
        side.attach(channel)
        return side

    def _cookie(self, sock: socket.socket) -> bytes | None:
        """The X server's cookie; None if there is none: some let users in by their name."""
        address = "" if sock.family == socket.AF_UNIX else str(sock.getpeername()[0])
        try:
            cookie = self._authority.cookie(places_of(address), self._display.port)
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

    def finish(self) -> None:
        """See `LocalSide`: a client that ends before it began."""
        self._abort(Code.PROTOCOL, "the X client ended before its setup packet did")

    def close(self) -> None:
        """See `LocalSide`."""
        sock = self._take()
        if sock is not None:
            sock.close()

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        sock = self._take()
        if sock is not None:
            reset_socket(sock)

    def _too_slow(self) -> None:
        self._abort(Code.TIMED_OUT, f"no complete X setup packet within {SETUP_LIMIT:g} s")

    def _abort(self, code: Code, reason: str) -> None:
        if self._channel is not None:
            self._channel.abort(code, reason)

    def _take(self) -> socket.socket | None:
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        self._channel = None
        sock, self._sock = self._sock, None
        return sock
