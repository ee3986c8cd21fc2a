"""One request through the HTTP proxy and its response, each streamed as fast as the slower side.

Every request has a channel, and at the far side a connection, of its own that
ends with the response: two requests never share one, so that no disagreement
about where a body ends can lead from one to the next.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.errors import ChannelClosed, Code, RemoteProtocolError
from tunnelkit.frontends.http.messages import Target, request_for_origin, response_for_client, told
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.net.channels.protocol_side import ChannelTransport, TunnelAddress
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.wire.http_body import Body, chunk, last_chunk, response_body
from tunnelkit.wire.http_head import (
    MAX_HEAD,
    RequestHead,
    ResponseHead,
    encode_request_head,
    encode_response_head,
    parse_response_head,
    response_head_size,
)

LINGER = 5.0
"""Seconds that an origin has to close its connection once it has answered."""


class Opens(Protocol):
    """What is needed of a tunnel."""

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        """See `tunnelkit.net.channels.tunnel.Tunnel.open`."""


class ExchangeClient(Protocol):
    """Who asked."""

    @property
    def takes_more(self) -> bool:
        """False: `Exchange.client_drained` will be called."""

    def respond(self, data: bytes) -> object:
        """Send these bytes of the response."""

    def responded(self, reusable: bool) -> object:
        """The response is complete; ``reusable``: and so is the request."""

    def failed(self, status: int, why: str) -> object:
        """There will be no response; none of it has been sent."""

    def broken(self) -> object:
        """The response has begun, and there is no more of it."""

    def origin_takes_more(self, more: bool) -> object:
        """Whether `Exchange.request_received` may be called with more."""


@implementer(IHalfCloseableProtocol)
class Exchange(TwistedProtocol):
    """``body`` is that of the request, of which nothing has been taken yet."""

    transport: Any

    def __init__(
        self,
        reactor: Any,
        client: ExchangeClient,
        head: RequestHead,
        target: Target,
        body: Body,
        keep: bool,
    ) -> None:
        self._reactor = reactor
        self._client = client
        self._head = head
        self._target = target
        self._request = body
        self._keep = keep
        self._chunked = body.length is None
        self._buffer = bytearray()
        self._searched = 0
        """Bytes of it in which the head does not end."""
        self._interim = 0
        """Bytes of the heads before the final one."""
        self._response: Body | None = None
        self._rechunk = False
        self._over = False
        self._origin_ended = False
        self._linger = Timer(reactor, self._linger_over)

    def start(self, tunnel: Opens) -> None:
        """Open the channel; the head travels with the request for it."""
        destination = str(self._target.destination)
        side = ChannelTransport(self, TunnelAddress("", ""), TunnelAddress("", destination))
        side.begin()
        head = request_for_origin(self._head, self._target, self._request)
        side.write(encode_request_head(head))
        if not self._request.done:
            side.registerProducer(self, True)
        # A refusal reaches `connectionLost` as well.
        tunnel.open(destination, side).addErrback(lambda failure: failure.trap(ChannelClosed))

    # -- from the client --------------------------------------------------

    @property
    def request_done(self) -> bool:
        """The request is complete."""
        return self._request.done

    @property
    def answering(self) -> bool:
        """The response has begun."""
        return self._response is not None

    def request_received(self, data: bytes) -> bytes:
        """Pass on what belongs to the request; what stands behind it.

        Raises `RemoteProtocolError` for a body that is malformed.
        """
        payload, rest = self._request.receive(data)
        if payload:
            self.transport.write(chunk(payload) if self._chunked else payload)
        if self._request.done:
            if self._chunked:
                self.transport.write(last_chunk())
            self.transport.unregisterProducer()
        return rest

    def client_drained(self) -> None:
        """The client takes more of the response."""
        if not self._over:
            self.transport.resumeProducing()

    def abandon(self) -> None:
        """The client has gone, or the request is malformed."""
        if not self._over:
            self._over = True
            self.transport.abortConnection()

    # -- producer of the request, for the transport -----------------------

    def pauseProducing(self) -> None:
        """See `IPushProducer`."""
        self._client.origin_takes_more(False)

    def resumeProducing(self) -> None:
        """See `IPushProducer`."""
        self._client.origin_takes_more(True)

    def stopProducing(self) -> None:
        """`connectionLost` follows."""

    # -- from the origin --------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """A piece of the response."""
        if self._over:
            return
        try:
            if self._response is None:
                data = self._heads(data)
            if self._response is not None:
                self._body(data)
        except RemoteProtocolError as error:
            self._fail(502, f"the answer is not proper HTTP: {error}")
            return
        if not self._over and not self._client.takes_more:
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """The origin has ended cleanly."""
        self._origin_ended = True
        if self._over:
            self.transport.loseConnection()
            return
        if self._response is not None and self._response.end():
            self._finish()
        else:
            self._fail(502, "the connection ended before the answer was complete")

    def writeConnectionLost(self) -> None:
        """Of no interest."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The channel is over, or was refused."""
        self._linger.stop()
        if not self._over:
            error = reason.value
            self._fail(*told(error.code if isinstance(error, ChannelClosed) else Code.RESET))

    def _heads(self, data: bytes) -> bytes:
        """Take heads, of which ``data`` is the next piece, until the final one; what stands behind.

        Each byte is looked at once, however many there are and however they are cut (X24).
        """
        buffer = self._buffer
        buffer += data
        while self._response is None:
            size = response_head_size(buffer, self._searched)
            if size is None:
                self._searched = len(buffer)
                return b""
            self._searched = 0
            head = parse_response_head(bytes(buffer[:size]))
            del buffer[:size]
            if head.status == 101:
                raise RemoteProtocolError("it changes to a protocol that nobody asked for")
            if head.status >= 200:
                self._begin(head)
                continue
            self._interim += size
            if self._interim > MAX_HEAD:
                raise RemoteProtocolError(f"its interim answers are longer than {MAX_HEAD} bytes")
            if self._head.version != "1.0":
                interim = response_for_client(head, self._head, Body(), self._keep)
                self._client.respond(encode_response_head(interim))
        rest = bytes(buffer)
        buffer.clear()
        return rest

    def _begin(self, head: ResponseHead) -> None:
        body = response_body(head, self._head.method)
        if not self._request.done:
            # What the client still sends would be read as its next request.
            self._keep = False
        if body.length is None:
            self._rechunk = self._head.version != "1.0"
            self._keep = self._keep and self._rechunk
        self._response = body
        head = response_for_client(head, self._head, body, self._keep)
        self._client.respond(encode_response_head(head))

    def _body(self, data: bytes) -> None:
        assert self._response is not None
        if data:
            payload, _ = self._response.receive(data)
            if payload:
                self._client.respond(chunk(payload) if self._rechunk else payload)
        if self._response.done:
            self._finish()

    def _finish(self) -> None:
        self._over = True
        if self._rechunk:
            self._client.respond(last_chunk())
        self._leave()
        self._client.responded(self._keep and self._request.done)

    def _fail(self, status: int, why: str) -> None:
        self._over = True
        self.transport.abortConnection()
        if self._response is None:
            self._client.failed(status, why)
        else:
            self._client.broken()

    def _leave(self) -> None:
        if not self._request.done:
            self.transport.abortConnection()
        elif self._origin_ended:
            self.transport.loseConnection()
        else:
            # It was asked to close the connection behind its answer, and should do so now.
            self.transport.loseWriteConnection()
            self._linger.start(LINGER)

    def _linger_over(self) -> None:
        self.transport.abortConnection()
