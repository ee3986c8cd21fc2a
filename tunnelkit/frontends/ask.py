"""'Ask': a port for telnet that asks where to go and becomes a connection to there (F6, U13)."""

from __future__ import annotations

import socket
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.errors import ChannelClosed, Code, ConfigError, RemoteProtocolError
from tunnelkit.local.listening import ChannelOpener, ListeningService
from tunnelkit.local.stream import SocketStream
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import (
    SERVICE,
    TCP,
    UNIX,
    Destination,
    destination_to,
    parse_destination,
    parse_host_port,
    parse_listen,
    to_port,
)
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings
from tunnelkit.wire.telnet import TelnetLines

_log = Logger()

LIMIT = 60.0
"""Seconds to answer in."""
TRIES = 3
CLIENTS = 256
"""Clients being asked at once; the one that has been there for longest has to go."""

GREETING = "This is a tunnel. Type 'help' for what can be answered.\r\n"
PROMPT = "Where to? (host port) "
HELP = (
    "Answer with a host and a port, for example:\r\n"
    "  www.example.com 80\r\n"
    "  192.0.2.1:22\r\n"
    "  2001:db8::1 25\r\n"
    "  service:NAME   a service that the far side offers\r\n"
    "  unix:/PATH     a socket at the far side\r\n"
    "  quit           leave\r\n"
    "Names are looked up at the far side of the tunnel, which also decides what may be reached.\r\n"
)
_TOLD = {
    Code.NOT_ALLOWED: "the far side does not allow that.",
    Code.REFUSED: "the connection was refused there.",
    Code.UNREACHABLE: "it cannot be reached from the far side, or the tunnel is down.",
    Code.NO_SUCH_HOST: "there is no such host at the far side.",
    Code.NO_SUCH_SERVICE: "the far side offers no such service.",
    Code.TIMED_OUT: "no answer came in time.",
    Code.LIMIT: "too much is going on at once.",
    Code.SHUTDOWN: "the far side is shutting down.",
}


@attrs.frozen
class AskConfig:
    """Where to listen."""

    address: str
    port: int


def parse_answer(text: str) -> Destination:
    """What somebody has typed as a destination; raises `ConfigError`."""
    words = text.split()
    if len(words) == 2:
        host = words[0].removeprefix("[").removesuffix("]")
        return destination_to(TCP, host, to_port(words[1]))
    if len(words) != 1:
        raise ConfigError("expected a host and a port")
    if words[0].startswith((f"{TCP}:", f"{SERVICE}:", f"{UNIX}:")):
        return parse_destination(words[0])
    return destination_to(TCP, *parse_host_port(words[0]))


class Ask(ListeningService):
    """One port at which people are asked."""

    def __init__(
        self, reactor: Any, tunnel: ChannelOpener, policy: PolicyHolder, config: AskConfig
    ) -> None:
        ListeningService.__init__(
            self, reactor, policy, TCP, config.address, config.port, self._enter
        )
        self.tunnel = tunnel
        self.reactor = reactor
        self.description = f"ask {self.address}"
        """For the role's ready line."""
        self._clients: dict[_Client, None] = {}

    def stopService(self) -> None:
        """Stop listening, and send away whoever has not answered."""
        ListeningService.stopService(self)
        for client in list(self._clients):
            client.leave("The tunnel is going down.")

    def _enter(self, sock: socket.socket, address: tuple[str, int]) -> None:
        if len(self._clients) >= CLIENTS:
            next(iter(self._clients)).leave("Too many are being asked.")
        client = _Client(self, sock)
        self._clients[client] = None
        client.greet()

    def forget(self, client: _Client) -> None:
        """``client`` is not being asked any more."""
        self._clients.pop(client, None)

    def returns(self, client: _Client) -> None:
        """``client`` has to be asked again."""
        self._clients[client] = None


class _Client:
    """Somebody at a terminal."""

    def __init__(self, ask: Ask, sock: socket.socket) -> None:
        self._ask = ask
        self._lines = TelnetLines()
        self._tries = TRIES
        self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        self._timer = Timer(self._ask.reactor, self._too_slow)
        self._timer.start(LIMIT)
        self._stream = SocketStream(self._ask.poller, sock, self)

    def greet(self) -> None:
        """Say what this is, and ask."""
        self._say(GREETING + PROMPT)

    def _too_slow(self) -> None:
        self.leave("That took too long.")

    def leave(self, why: str) -> None:
        """Say why, and close."""
        self._forget()
        self._say(" ".join(filter(None, (f"\r\n{why}", "Goodbye.\r\n"))))
        self._stream.finish()

    def _say(self, text: str) -> None:
        self._stream.write(text.encode("ascii", "replace"))

    def _forget(self) -> None:
        self._timer.stop()
        self._ask.forget(self)

    # -- SocketStream -----------------------------------------------------

    def stream_received(self, data: bytes) -> None:
        """Keys, or lines."""
        self._lines.receive(data)
        self._read()

    def stream_ended(self) -> None:
        """Nobody answers any more."""
        self._forget()
        self._stream.close()

    def stream_lost(self) -> None:
        """The client has gone."""
        self._forget()

    def stream_drained(self) -> None:
        """Little is said here: nothing waits for this."""

    # -- answers ----------------------------------------------------------

    def _read(self) -> None:
        while not self._stream.closed:
            try:
                line = self._lines.next_line()
            except RemoteProtocolError as error:
                self.leave(f"That was {error}.")
                return
            replies = self._lines.replies()
            if replies:
                self._stream.write(replies)
            if self._lines.interrupted:
                self.leave("")
            if line is None:
                return
            self._answered(line.decode("utf-8", "replace").strip())

    def _answered(self, text: str) -> None:
        if not text:
            self._say(PROMPT)
        elif text.lower() in ("help", "?"):
            self._say(HELP + PROMPT)
        elif text.lower() in ("quit", "exit", "bye"):
            self.leave("")
        else:
            try:
                destination = parse_answer(text)
            except ConfigError as error:
                self._again(f"That is not an answer: {printable(str(error), 300)}.")
            else:
                self._connect(destination)

    def _again(self, why: str) -> None:
        self._tries -= 1
        if self._tries:
            self._say(f"{why}\r\n{PROMPT}")
        else:
            self.leave(why)

    def _connect(self, destination: Destination) -> None:
        if not self._stream.sent:
            self.leave("Slower, please.")
            return
        self._say(f"Connecting to {destination} ...\r\n")
        self._forget()
        sock = self._stream.detach()
        side = SocketSide(self._ask.poller, sock, leftover=self._lines.rest, hold=True)
        opening = self._ask.tunnel.open(str(destination), side)
        opening.addCallbacks(
            self._connected,
            self._refused,
            callbackArgs=(sock, side, destination),
            errbackArgs=(side, destination),
        )

    def _connected(
        self, _bound: str, sock: socket.socket, side: SocketSide, destination: Destination
    ) -> None:
        try:
            sock.send(f"Connected to {destination}.\r\n".encode("ascii", "replace"))
        except OSError:
            pass  # the channel finds out as soon as it uses the socket
        side.release()

    def _refused(self, failure: Failure, side: SocketSide, destination: Destination) -> None:
        failure.trap(ChannelClosed)
        error = failure.value
        assert isinstance(error, ChannelClosed)
        _log.info(
            "{what}: {destination}: {why}",
            what=self._ask.description,
            destination=printable(str(destination)),
            why=printable(str(error)),
        )
        sock = side.detach()
        if not self._ask.running:
            reset(sock)
            return
        self._begin(sock)
        self._ask.returns(self)
        told = _TOLD.get(error.code, "the tunnel failed.")
        self._again(f"No connection to {printable(str(destination))}: {told}")
        self._ask.poller.after_batch(self._read)


def configure(settings: Settings) -> list[AskConfig]:
    """``--ask [HOST:]PORT``; see `IFrontEnd`."""
    return [AskConfig(*given.parsed(parse_listen)) for given in settings.all("ask")]


def make_service(reactor: Any, tunnel: Any, policy: Any, config: AskConfig) -> IService:
    """One port; raises `ConfigError` if it is taken."""
    return Ask(reactor, tunnel, policy, config)
