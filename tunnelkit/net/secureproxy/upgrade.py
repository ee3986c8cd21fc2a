"""A browser's connection that stops being HTTP: WebSockets of a vhost (row S10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from tunnelkit.errors import ProtocolError
from tunnelkit.net.secureproxy.http import plain
from tunnelkit.net.sockets.carrier import Carrier
from tunnelkit.wire.http_head import (
    RequestHead,
    ResponseHead,
    encode_request_head,
    encode_response_head,
    head_size,
    parse_response_head,
)

_log = Logger()


def wants_upgrade(request: Any) -> bool:
    """Whether a request asks for WebSocket, in HTTP/1.1's way."""
    headers = request.requestHeaders
    upgrade = b",".join(headers.getRawHeaders(b"upgrade") or []).lower()
    connection = b",".join(headers.getRawHeaders(b"connection") or []).lower()
    words = [word.strip() for word in connection.split(b",")]
    return bool(
        request.method == b"GET" and upgrade.strip() == b"websocket" and b"upgrade" in words
    )


class Upgrade(Protocol):
    """Asks the web server inside; if it says 101, copies bytes from then on.

    Is the sink of the carrier, and afterwards the protocol of the browser's transport.
    """

    def __init__(
        self,
        request: Any,
        target: bytes,
        headers: Headers,
        carrier: Deferred[Carrier],
        over: Callable[[], None],
    ) -> None:
        self._request = request
        self._over = over
        self._waiting = carrier
        self._carrier: Carrier | None = None
        self._answer = bytearray()
        self._to_site = bytearray()
        self._open = False
        self._gone = False
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, values in headers.getAllRawHeaders()
            for value in values
        ]
        fields += [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        self._head = RequestHead("GET", target.decode("latin-1"), fields=tuple(fields))

    def begin(self) -> None:
        """Ask."""
        self._request.notifyFinish().addErrback(self._left)
        self._waiting.addCallbacks(self._connected, self._failed)

    def _connected(self, carrier: Carrier) -> None:
        self._carrier = carrier
        try:
            self._to_site += encode_request_head(self._head)
        except ProtocolError as error:
            self._failed(Failure(error))
            return
        self._flush()
        carrier.start(self)

    def _failed(self, failure: Failure) -> None:
        if self._gone:
            return
        _log.info("A vhost's upgrade failed: {reason}", reason=failure.getErrorMessage())
        self._gone = True
        self._end()
        request = self._request
        request.write(plain(request, 502, "the web server inside does not answer"))
        request.finish()

    def _left(self, _failure: Failure) -> None:
        """The browser has gone before anything was decided."""
        self._gone = True
        self._waiting.cancel()
        self._end()

    def _end(self) -> None:
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.close()
        self._over()

    # -- the web server inside -----------------------------------------------------------

    def carrier_received(self, view: memoryview) -> None:
        """See `CarrierSink`."""
        if self._open:
            assert self.transport is not None
            self.transport.write(bytes(view))
            return
        self._answer += view
        try:
            size = head_size(self._answer, len(self._answer) - len(view))
            if size is None:
                return
            head = parse_response_head(bytes(self._answer[:size]))
            if head.status != 101:
                raise ProtocolError(f"the web server says {head.status}, not 101")
        except ProtocolError as error:
            self._failed(Failure(error))
            return
        self._take_over(head, bytes(self._answer[size:]))

    def carrier_writable(self) -> None:
        """See `CarrierSink`."""
        self._flush()

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """See `CarrierSink`."""
        self._carrier = None
        if not self._open:
            self._failed(Failure(ProtocolError(reason)))
            return
        self._over()
        if self.transport is not None:
            self.transport.loseConnection()

    def _take_over(self, head: ResponseHead, behind: bytes) -> None:
        """From here on the browser's connection is no HTTP."""
        kept = [
            (name, value)
            for name, value in head.fields
            if name.lower().startswith("sec-websocket-")
        ]
        answer = ResponseHead(101, "Switching Protocols", fields=(
            ("Connection", "Upgrade"), ("Upgrade", "websocket"), *kept))  # fmt: skip
        channel = self._request.channel
        transport, channel.transport = channel.transport, None
        channel.setTimeout(None)
        transport.wrappedProtocol = self
        self._open = True
        widened: Any = self
        widened.makeConnection(transport)
        transport.write(encode_response_head(answer) + behind)
        # Twisted reads no more while it waits for the answer to a request.
        producer = getattr(transport, "_networkProducer", transport)
        producer.resumeProducing()

    # -- the browser, once it is no HTTP any more --------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        self._to_site += data
        self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `IProtocol`."""
        self.transport = None
        self._end()

    def _flush(self) -> None:
        while self._to_site and self._carrier is not None:
            taken = self._carrier.write(bytes(self._to_site))
            if not taken:
                return
            del self._to_site[:taken]
