"""The HTTP proxy: CONNECT, and absolute http:// URLs (row F5).

client -> head -> CONNECT: its socket becomes one side of a channel
               -> URL: an `Exchange` over a channel of its own, then the next head
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.proxies.socks_server import Check, check_against
from tunnelkit.errors import ChannelClosed, RemoteProtocolError
from tunnelkit.frontends.http.exchange import Exchange, Opens
from tunnelkit.frontends.http.messages import (
    CONNECT,
    Refused,
    error_page,
    is_login,
    keeps_alive,
    target_of,
    told,
)
from tunnelkit.frontends.logins import ports_with_logins
from tunnelkit.local.listening import ListeningService
from tunnelkit.local.stream import SocketStream
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import TCP, Destination
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings
from tunnelkit.wire.http_body import request_body
from tunnelkit.wire.http_head import empty_lines_size, head_size, parse_request_head

_log = Logger()

HEAD_LIMIT = 60.0
"""Seconds for a client to send its next head."""
CLIENTS = 1024
"""Clients at once, those in CONNECT not counted; the one that has said nothing for longest goes."""
AHEAD = 65_536
"""Bytes of further requests that are taken from a client before its response is complete."""

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@attrs.frozen
class HttpProxyConfig:
    """Where to listen, and who may log in."""

    address: str
    port: int
    users: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    """Passwords by user name; None: nobody needs to log in."""


class HttpProxy(ListeningService):
    """One HTTP proxy port."""

    def __init__(
        self, reactor: Any, tunnel: Opens, policy: PolicyHolder, config: HttpProxyConfig
    ) -> None:
        ListeningService.__init__(
            self, reactor, policy, TCP, config.address, config.port, self._enter
        )
        self.tunnel = tunnel
        self.reactor = reactor
        self.description = f"http-proxy {self.address}"
        """For the role's ready line."""
        self.check: Check | None = None
        if config.users is not None:
            self.check = check_against(config.users)
        self._clients: set[_Client] = set()
        self._waiting: dict[_Client, None] = {}

    def stopService(self) -> None:
        """Stop listening, and drop whoever has asked nothing; what is under way goes on."""
        ListeningService.stopService(self)
        for client in list(self._waiting):
            client.leave()

    def _enter(self, sock: socket.socket, client: tuple[str, int]) -> None:
        if len(self._clients) >= CLIENTS:
            if not self._waiting:
                reset(sock)
                return
            next(iter(self._waiting)).leave()
        _Client(self, sock)

    def waits(self, client: _Client) -> None:
        """``client`` may send its next head."""
        self._clients.add(client)
        self._waiting[client] = None

    def is_served(self, client: _Client) -> None:
        """``client`` has sent a head."""
        self._waiting.pop(client, None)

    def forget(self, client: _Client) -> None:
        """``client`` has gone."""
        self._waiting.pop(client, None)
        self._clients.discard(client)


class _Client:
    """One connection of a client: one request after the other."""

    def __init__(self, proxy: HttpProxy, sock: socket.socket) -> None:
        self._proxy = proxy
        self._buffer = b""
        self._searched = 0
        """Bytes of it in which the head does not end."""
        self._exchange: Exchange | None = None
        self._method = "GET"
        """Of the last request whose head was read."""
        self._origin_takes_more = True
        self._ended = False
        self._timer = Timer(proxy.reactor, self._too_slow)
        self._timer.start(HEAD_LIMIT)
        self._stream = SocketStream(proxy.poller, sock, self)
        proxy.waits(self)

    def leave(self) -> None:
        """Close the connection of a client that is not being served."""
        self._forget()
        self._stream.close()

    # -- SocketStream -----------------------------------------------------

    def stream_received(self, data: bytes) -> None:
        """A head, a body, or several."""
        self._buffer += data
        self._go_on()

    def stream_ended(self) -> None:
        """The client sends no more."""
        self._ended = True
        if self._exchange is None:
            self._go_on()
        if self._exchange is None:
            if not self._stream.closed:
                self.leave()
        elif not self._exchange.request_done:
            self.stream_lost()
            self._stream.abort()

    def stream_lost(self) -> None:
        """The client has gone."""
        self._forget()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

    def stream_drained(self) -> None:
        """The client takes more."""
        if self._exchange is not None:
            self._exchange.client_drained()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Give what has come to whom it is for."""
        while self._buffer and not self._stream.closed:
            if self._exchange is None:
                if not self._stream.sent or not self._next_request():
                    break
            elif self._exchange.request_done:
                break
            elif not self._feed(self._exchange):
                return
        self._pace()

    def _pace(self) -> None:
        if self._stream.closed:
            return
        if len(self._buffer) >= AHEAD or not self._origin_takes_more:
            self._stream.pause()
        else:
            self._stream.resume()

    # -- requests ---------------------------------------------------------

    def _next_request(self) -> bool:
        """Act on the head at the start of the buffer; False if there is no whole one, or the
        connection is not for requests any more."""
        self._method = "GET"
        if not self._searched:
            self._buffer = self._buffer[empty_lines_size(self._buffer) :]
        try:
            size = head_size(self._buffer, self._searched)
            self._searched = len(self._buffer) if size is None else 0
            if size is None:
                return False
            head = parse_request_head(self._buffer[:size])
            self._buffer = self._buffer[size:]
            self._method = head.method
            if self._proxy.check is not None and not is_login(head, self._proxy.check):
                raise Refused(407, "log in with a user name and password")
            target = target_of(head)
            if head.method == CONNECT:
                self._connect(target.destination)
                return False
            body = request_body(head)
        except Refused as error:
            self._turn_away(error.status, str(error))
            return False
        except RemoteProtocolError as error:
            self._turn_away(400, str(error))
            return False
        self._timer.stop()
        self._proxy.is_served(self)
        self._exchange = Exchange(self._proxy.reactor, self, head, target, body, keeps_alive(head))
        self._exchange.start(self._proxy.tunnel)
        return True

    def _feed(self, exchange: Exchange) -> bool:
        data, self._buffer = self._buffer, b""
        try:
            rest = exchange.request_received(data)
        except RemoteProtocolError as error:
            self._exchange = None
            exchange.abandon()
            if exchange.answering:
                self._forget()
                self._stream.abort()
            else:
                self._turn_away(400, str(error))
            return False
        self._buffer = rest + self._buffer
        return True

    def _too_slow(self) -> None:
        if self._buffer:
            self._turn_away(408, f"no whole request within {HEAD_LIMIT:g} s")
        else:
            self.leave()

    def _turn_away(self, status: int, why: str) -> None:
        _log.info(
            "{what}: {status}: {why}",
            what=self._proxy.description,
            status=status,
            why=printable(why),
        )
        self._forget()
        self._stream.write(error_page(status, why, self._method))
        self._stream.finish()

    def _forget(self) -> None:
        self._timer.stop()
        self._proxy.forget(self)

    # -- ExchangeClient ---------------------------------------------------

    @property
    def takes_more(self) -> bool:
        """See `ExchangeClient`."""
        return not self._stream.full

    def respond(self, data: bytes) -> None:
        """See `ExchangeClient`."""
        self._stream.write(data)

    def responded(self, reusable: bool) -> None:
        """See `ExchangeClient`."""
        self._exchange = None
        self._origin_takes_more = True
        if not reusable or (self._ended and not self._buffer) or not self._proxy.running:
            self._forget()
            self._stream.finish()
            return
        self._timer.start(HEAD_LIMIT)
        self._proxy.waits(self)
        if self._buffer:
            # Not from within the exchange: many requests in one piece must not nest.
            self._proxy.poller.after_batch(self._go_on)
        self._pace()

    def failed(self, status: int, why: str) -> None:
        """See `ExchangeClient`."""
        self._exchange = None
        self._turn_away(status, why)

    def broken(self) -> None:
        """See `ExchangeClient`: the client must not take what it has for all (X11)."""
        self._exchange = None
        self._forget()
        self._stream.abort()

    def origin_takes_more(self, more: bool) -> None:
        """See `ExchangeClient`."""
        self._origin_takes_more = more
        self._pace()

    # -- CONNECT ----------------------------------------------------------

    def _connect(self, destination: Destination) -> None:
        self._forget()
        proxy = self._proxy
        sock = self._stream.detach()
        side = SocketSide(proxy.poller, sock, leftover=self._buffer, hold=True)
        opening = proxy.tunnel.open(str(destination), side)
        opening.addCallbacks(
            _established,
            _refused,
            callbackArgs=(sock, side),
            errbackArgs=(proxy, side, destination),
        )


def _established(_bound: str, sock: socket.socket, side: SocketSide) -> None:
    try:
        # A few bytes into an empty buffer: it takes all or the client is gone.
        sock.send(_ESTABLISHED)
    except OSError:
        pass  # the channel finds out as soon as it uses the socket
    side.release()


def _refused(
    failure: Failure, proxy: HttpProxy, side: SocketSide, destination: Destination
) -> None:
    failure.trap(ChannelClosed)
    error = failure.value
    assert isinstance(error, ChannelClosed)
    _log.info(
        "{what}: {destination}: {why}",
        what=proxy.description,
        destination=str(destination),
        why=printable(str(error)),
    )
    sock = side.detach()
    if not proxy.running:
        reset(sock)
        return
    last_words = SocketStream(proxy.poller, sock, _Nobody())
    last_words.write(error_page(*told(error.code), CONNECT))
    last_words.finish()


class _Nobody:
    """Owns a stream that only has to be closed."""

    def stream_received(self, data: bytes) -> None:
        """Never called: the stream is finishing."""

    def stream_ended(self) -> None:
        """Never called."""

    def stream_lost(self) -> None:
        """Nothing is to be done."""

    def stream_drained(self) -> None:
        """Never called."""


def configure(settings: Settings) -> list[HttpProxyConfig]:
    """``--http-proxy [HOST:]PORT``, with the users of ``--http-proxy-auth-file``."""
    return ports_with_logins(settings, "http-proxy", HttpProxyConfig)


def make_service(reactor: Any, tunnel: Any, policy: Any, config: HttpProxyConfig) -> IService:
    """One proxy port; raises `ConfigError` if it is taken."""
    return HttpProxy(reactor, tunnel, policy, config)
