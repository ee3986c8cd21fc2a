"""Vhosts: browsers' requests, answered by published web servers inside (rows S8, S10; X21).

The server ends the browser's TLS, reads each request, and writes another one to the client that
publishes the host; the same with each answer. No head is copied. The server reads it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import resource, server
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tunnelkit.net.secureproxy.http import plain
from tunnelkit.net.secureproxy.upgrade import Upgrade, wants_upgrade
from tunnelkit.net.sockets.carrier import Carrier
from tunnelkit.net.sockets.carrier_transport import CarrierTransport

_log = Logger()

IDLE = 30
"""Seconds for which a connection to a client waits for the next request."""
KEPT = 8
"""Such connections for one host."""

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate",
     b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
_NOT_FORWARDED = HOP_BY_HOP | {
    b"host", b"content-length", b"expect", b"forwarded", b"x-forwarded-for",
    b"x-forwarded-proto", b"x-forwarded-host",
}  # fmt: skip

OwnErrand = Callable[[], tuple["Deferred[Any]", Callable[[], None]]]
"""A connection to the publishing client, and what is to be called when it is over."""


def forwarded(headers: Headers, leave_out: frozenset[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The fields that are passed on: none that is about one connection, or is named in
    ``Connection`` (of which Twisted tells nothing in answers)."""
    named = {
        word.strip().lower()
        for value in headers.getRawHeaders(b"connection") or []
        for word in value.split(b",")
    }
    for name, values in headers.getAllRawHeaders():
        if name.lower() not in leave_out and name.lower() not in named:
            for value in values:
                yield name, value


def without_domain(cookie: bytes) -> bytes:
    """A ``Set-Cookie`` that counts for its own host only: no site sets one for another."""
    first, *attributes = cookie.split(b";")
    kept = [one for one in attributes if one.partition(b"=")[0].strip().lower() != b"domain"]
    return b";".join([first, *kept])


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Connects to the publishing client."""

    def __init__(self, own_errand: OwnErrand) -> None:
        self._own_errand = own_errand

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See `IStreamClientEndpoint`."""
        carrier, over = self._own_errand()

        def connected(found: Carrier) -> Any:
            protocol = protocolFactory.buildProtocol(None)
            CarrierTransport(found, over).serve(protocol)
            return protocol

        return carrier.addCallback(connected)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, own_errand: OwnErrand) -> None:
        self._endpoint = _Endpoint(own_errand)

    def endpointForURI(self, uri: Any) -> _Endpoint:
        """See `IAgentEndpointFactory`: there is one way, whatever the browser says."""
        return self._endpoint


class VhostPages(resource.Resource):
    """Everything under ``host``. ``may_enter(address)`` is asked for each request."""

    isLeaf = True

    def __init__(
        self,
        reactor: Any,
        host: str,
        own_errand: OwnErrand,
        may_enter: Callable[[str], bool],
    ) -> None:
        widened: Any = super()
        widened.__init__()
        self._host = host.encode("ascii")
        self._own_errand = own_errand
        self._may_enter = may_enter
        pool: Any = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = KEPT
        pool.cachedConnectionTimeout = IDLE
        # A request that is not idempotent must not be sent twice; the browser may ask again.
        pool.retryAutomatically = False
        self._agent: Any = Agent.usingEndpointFactory(reactor, _Endpoints(own_errand), pool)

    def render(self, request: server.Request) -> Any:
        """Ask the web server inside."""
        address = request.getClientAddress().host
        if not self._may_enter(address):
            return plain(request, 403, "this site is not for that network")
        target = request.uri
        if not target.startswith(b"/"):
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        headers = Headers()
        for name, value in forwarded(request.requestHeaders, frozenset(_NOT_FORWARDED)):
            headers.addRawHeader(name, value)
        headers.setRawHeaders(b"Host", [self._host])
        headers.setRawHeaders(b"X-Forwarded-For", [address.encode("ascii")])
        headers.setRawHeaders(b"X-Forwarded-Proto", [b"https"])
        if wants_upgrade(request):
            Upgrade(request, target, headers, *self._own_errand()).begin()
            return server.NOT_DONE_YET
        body: _Body | None = None
        if request.requestHeaders.hasHeader(b"content-length") or request.requestHeaders.hasHeader(
            b"transfer-encoding"
        ):
            make: Any = _Body
            body = make(request.content)
        asked = self._agent.request(request.method, b"http://" + self._host + target, headers, body)
        _Answer(request, asked, body)
        return server.NOT_DONE_YET


class _Body(FileBodyProducer):
    """The body of a request on its way to the web server inside."""

    _started = False

    def startProducing(self, consumer: Any) -> Any:
        """Twisted's."""
        self._started = True
        widened: Any = super()
        return widened.startProducing(consumer)

    def abandon(self) -> None:
        """The browser has gone, and its file is closed: read no more of it."""
        if self._started:
            widened: Any = self
            widened.stopProducing()


class _Answer(Protocol):
    """An answer on its way to the browser."""

    def __init__(self, request: Any, asked: Deferred[Any], body: _Body | None) -> None:
        self._request = request
        self._body = body
        self._gone = False
        self._asked = asked
        request.notifyFinish().addBoth(self._left)
        asked.addCallbacks(self._begun, self._failed)

    def _left(self, _reason: Any) -> None:
        """The browser has its answer, or has gone."""
        self._gone = True
        if self._body is not None:
            self._body.abandon()
        self._asked.cancel()
        if self.transport is not None and getattr(self.transport, "loseConnection", None):
            self.transport.loseConnection()

    def _begun(self, response: Any) -> None:
        request = self._request
        if self._gone:
            return
        request.setResponseCode(response.code, response.phrase)
        for name, value in forwarded(response.headers, HOP_BY_HOP | {b"content-length"}):
            if name.lower() == b"set-cookie":
                value = without_domain(value)
            request.responseHeaders.addRawHeader(name, value)
        if isinstance(response.length, int) and response.code not in (204, 304):
            request.setHeader(b"Content-Length", b"%d" % response.length)
        response.deliverBody(self)

    def connectionMade(self) -> None:
        """The body comes; as fast as the browser takes it."""
        self._request.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        """Some of it."""
        if not self._gone:
            self._request.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """All of it has come, or no more will."""
        self.transport = None
        if self._gone:
            return
        self._request.unregisterProducer()
        if reason.check(ResponseDone, PotentialDataLoss):
            self._request.finish()
        else:
            # The browser must see that something is missing.
            self._request.channel.forceAbortClient()

    def _failed(self, failure: Failure) -> None:
        if self._gone:
            return
        _log.info("A vhost's request failed: {reason}", reason=failure.getErrorMessage())
        request = self._request
        request.write(plain(request, 502, "the web server inside does not answer"))
        request.finish()
