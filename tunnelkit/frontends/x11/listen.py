"""A display ``:N`` here that is shown on the far side's X server (rows F3, L6; rule X20)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.application.service import IService, MultiService
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.x11_gate import (
    SETUP_LIMIT,
    Admitted,
    CookieGate,
    HiddenExtensions,
    Refused,
    refusal,
)
from tunnelkit.errors import ChannelClosed, Code, ConfigError
from tunnelkit.frontends.x11.display import DisplayClaim, is_given_up, socket_path
from tunnelkit.local.listening import ChannelOpener, ListeningService
from tunnelkit.local.waiting import Waiting
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import DEFAULT_DISPLAY, MAX_DISPLAY, TCP, UNIX, X11_BASE_PORT
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings
from tunnelkit.policy.xauthority import (
    COOKIE_BYTES,
    AuthorityFile,
    authority_path,
    local_places,
    parse_display,
)

_log = Logger()

"""The destination that stands for the far side's own display, whichever that is."""
NEWCOMERS = 1024
"""Clients that have not shown their cookie, at once; the oldest has to go."""
READ_SIZE = 4096
STOPPING_PATIENCE = 0.5
"""Seconds to wait at the end for a lock on the authority file: nothing else runs meanwhile."""


@attrs.frozen
class X11Config:
    """Which display to be, and which to lead to."""

    number: int
    destination: str = DEFAULT_DISPLAY


class X11Display(MultiService):
    """Display ``:number``: a unix socket, and TCP port 6000 + number on loopback.

    From its making on the display is taken, and its cookie, fresh each time,
    is in the authority file of this user; both until ``stopService``.
    """

    def __init__(
        self,
        reactor: Any,
        tunnel: ChannelOpener,
        policy: PolicyHolder,
        config: X11Config,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        MultiService.__init__(self)
        self.tunnel = tunnel
        self.destination = config.destination
        self.cookie = os.urandom(COOKIE_BYTES)
        self.poller = Poller.of(reactor)
        self.waiting = Waiting(reactor, SETUP_LIMIT, NEWCOMERS)
        self._authority = AuthorityFile(authority_path(environment))
        self._claim = DisplayClaim(config.number)
        try:
            port = X11_BASE_PORT + config.number
            for protocol, address, number in (
                (TCP, "127.0.0.1", port),
                (UNIX, socket_path(config.number), 0),
            ):
                listening: IService = ListeningService(
                    reactor, policy, protocol, address, number, self._enter
                )
                listening.setServiceParent(self)
            self._authority.put(local_places(), config.number, self.cookie, is_given_up)
        except ConfigError:
            MultiService.stopService(self)
            self._claim.release()
            raise
        self.description = f"x11 127.0.0.1:{port} (display :{config.number})"
        """For the role's ready line."""

    def startService(self) -> None:
        """Accept."""
        self._claim.refresh()
        MultiService.startService(self)

    def stopService(self) -> Any:
        """Give the display up; clients that are in stay."""
        stopped = MultiService.stopService(self)
        self.waiting.expire_all()
        self._claim.release()
        try:
            self._authority.remove(self.cookie, STOPPING_PATIENCE)
        except ConfigError as error:
            _log.warn("A cookie that is of no use any more stays: {why}", why=str(error))
        return stopped

    def _enter(self, sock: socket.socket, client: tuple[str, int]) -> None:
        _Client(self, sock)


class _Client:
    """One client until it is let in, and again if the far side does not take it."""

    __slots__ = ("_big_endian", "_display", "_fd", "_gate", "_leaving", "_sock")

    def __init__(self, display: X11Display, sock: socket.socket) -> None:
        self._display = display
        self._sock = sock
        self._fd = sock.fileno()
        self._gate = CookieGate(display.cookie)
        self._big_endian = False
        self._leaving = False
        self._watch()

    def _watch(self) -> None:
        self._display.waiting.add(self)
        self._display.poller.add(self._fd, self, True, False)

    def _forget(self) -> None:
        self._display.waiting.discard(self)
        self._display.poller.remove(self._fd)

    # -- poller and waiting -----------------------------------------------

    def readable(self) -> None:
        """A piece of the setup packet, or of what comes after we said no."""
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop()
        elif not self._leaving:
            answer = self._gate.receive(data)
            if isinstance(answer, Admitted):
                self._admit(answer)
            elif answer is not None:
                self._refuse(answer)

    def writable(self) -> None:
        """Never asked for."""

    def expire(self) -> None:
        """It has been too slow, or the display is given up."""
        if not self._leaving:
            self._say(self._gate.refuse("no complete setup packet came in time").reply)
        self._drop()

    def _drop(self) -> None:
        self._forget()
        self._sock.close()

    # -- in or out --------------------------------------------------------

    def _admit(self, admitted: Admitted) -> None:
        self._forget()
        self._big_endian = admitted.big_endian
        side = ClientSide(self._display.poller, self._sock, admitted, self._not_taken)
        opening = self._display.tunnel.open(self._display.destination, side)
        opening.addErrback(self._refused_there)

    def _refused_there(self, failure: Failure) -> None:
        # The side has been reset, which tells the client.
        failure.trap(ChannelClosed)
        _log.info(
            "{what}: {why}",
            what=self._display.description,
            why=printable(str(failure.value)),
        )

    def _not_taken(self, sock: socket.socket, code: Code, reason: str) -> None:
        """The channel ended before the X server said anything: say why in its place."""
        reply = refusal(self._big_endian, f"the far side: {code}: {printable(reason, 160)}")
        if self._display.running:
            self._watch()
            self._turn_away(reply)
        else:
            self._say(reply)
            sock.close()

    def _refuse(self, refused: Refused) -> None:
        _log.info(
            "{what}: refused a client: {why}",
            what=self._display.description,
            why=printable(refused.reason),
        )
        if refused.reply:
            self._turn_away(refused.reply)
        else:
            self._forget()
            reset(self._sock)

    def _turn_away(self, reply: bytes) -> None:
        """Say the last word, then wait for the client to close: closing first could take the
        word away with a reset."""
        self._leaving = True
        try:
            self._say(reply)
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop()

    def _say(self, reply: bytes) -> None:
        try:
            # At most 263 bytes into an empty buffer: it takes all or the client is gone.
            self._sock.send(reply)
        except OSError:
            pass  # whoever reads next is told


class ClientSide(SocketSide):
    """An X client as one side of a channel.

    ``on_refused(socket, code, reason)`` is given the socket back if the channel
    ends early and the client still waits for the answer to its setup.
    """

    __slots__ = ("_extensions", "_on_refused", "_setup_left")

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        admitted: Admitted,
        on_refused: Callable[[socket.socket, Code, str], object],
    ) -> None:
        SocketSide.__init__(self, poller, sock, leftover=admitted.setup + admitted.leftover)
        self._setup_left = len(admitted.setup)
        self._extensions = HiddenExtensions(admitted.big_endian)
        self._on_refused = on_refused

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`."""
        size = SocketSide.pull_into(self, view)
        if size > 0:
            if self._setup_left:
                own = min(self._setup_left, size)
                self._setup_left -= own
                self._extensions.scan(view[own:size])
            else:
                self._extensions.scan(view[:size])
        return size

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        channel = self._channel
        if channel is not None and channel.bytes_received:
            SocketSide.reset(self, code, reason)
            return
        sock = self._forget()
        if sock is not None:
            self._on_refused(sock, code, reason)


def configure(settings: Settings) -> list[X11Config]:
    """``--x11 N`` or ``--x11 N=DISPLAY``; see `IFrontEnd`."""
    return [given.parsed(parse_x11) for given in settings.all("x11")]


def parse_x11(text: str) -> X11Config:
    """``N`` or ``N=DISPLAY``, without DISPLAY the far side's own; raises `ConfigError`."""
    own, equals, display = text.partition("=")
    number = own.removeprefix(":")
    if not (number.isascii() and number.isdigit() and int(number[:6]) <= MAX_DISPLAY):
        raise ConfigError(
            f"'{printable(text, 80)}': expected the number of a display that is free "
            f"here, at most {MAX_DISPLAY}, as in 10, 10=:0 or 10=HOST:0"
        )
    if not equals:
        return X11Config(int(number))
    return X11Config(int(number), str(parse_display(display)))


def needs(config: X11Config) -> tuple[str, ...]:
    """See `IFrontEnd`."""
    return (config.destination,)


def make_service(reactor: Any, tunnel: Any, policy: Any, config: X11Config) -> IService:
    """One display; raises `ConfigError` if it is in use."""
    service: IService = X11Display(reactor, tunnel, policy, config)
    return service
