"""Fetching from web servers: limits, errors with a code, TLS that is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from tunnelkit.errors import ChannelClosed, Code, DialError, TunnelkitError
from tunnelkit.net.tls.server_trust import ServerTrust, explain_loss

_log = Logger()

LIMIT = 30.0
"""Seconds from the request to the last byte of the answer."""
MAX_BODY = 1 << 20

EndpointFor = Callable[[str, int], IStreamClientEndpoint]
"""The way to a host (an address without brackets) and port; its connects fail with
`ChannelClosed` or `DialError`."""


class WebError(TunnelkitError):
    """There is no answer, or none that can be passed on; ``code`` says why."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@attrs.frozen
class WebAnswer:
    """What a web server has answered."""

    status: int
    headers: dict[str, str]
    """Names in lower case; of several with one name, all, with commas."""
    body: bytes


async def fetch(
    reactor: Any,
    endpoint_for: EndpointFor,
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    limit: float = LIMIT,
    max_body: int = MAX_BODY,
) -> WebAnswer:
    """Ask for ``url``, without following redirects, over a connection of its own.

    For ``https`` the server's certificate must be of an authority that this machine trusts
    (``SSL_CERT_FILE`` names another list) and for the host. Raises `WebError`.
    """
    pool = HTTPConnectionPool(reactor, persistent=False)
    agent = Agent.usingEndpointFactory(reactor, _Endpoints(endpoint_for), pool)
    fields = Headers({})
    for name, value in headers:
        fields.addRawHeader(name, value)
    producer = _Body(body) if body else None
    asking: Deferred[Any] = agent.request(method.encode(), url.encode("ascii"), fields, producer)
    now = reactor.seconds()
    asking.addTimeout(limit, reactor)
    try:
        response = await asking
        collecting = _Collector(max_body)
        response.deliverBody(collecting)
        collecting.done.addTimeout(max(0.0, now + limit - reactor.seconds()), reactor)
        data = await collecting.done
    except WebError:
        raise
    except (CancelledError, DeferredTimeout):
        raise WebError(Code.TIMED_OUT, "no answer in time") from None
    except (ChannelClosed, DialError) as error:
        raise WebError(error.code, str(error)) from None
    except Exception as error:
        inner = _innermost(error)
        if isinstance(inner, CancelledError):
            raise WebError(Code.TIMED_OUT, "no answer in time") from None
        why = explain_loss(inner) or str(inner) or type(inner).__name__
        _log.debug("Fetching {url} failed: {why!r}", url=url, why=why)
        raise WebError(Code.UNREACHABLE, f"the server cannot be used: {why}") from None
    known = {
        name.decode("latin-1").lower(): b", ".join(values).decode("latin-1")
        for name, values in response.headers.getAllRawHeaders()
    }
    return WebAnswer(response.code, known, data)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, endpoint_for: EndpointFor) -> None:
        self._endpoint_for = endpoint_for

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii").removeprefix("[").removesuffix("]")
        endpoint = self._endpoint_for(host, uri.port)
        if uri.scheme != b"https":
            return endpoint
        wrapped: IStreamClientEndpoint = wrapClientTLS(ServerTrust(host), endpoint)
        return wrapped


@implementer(IBodyProducer)
class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All has been written already."""

    def resumeProducing(self) -> None:
        """All has been written already."""

    def stopProducing(self) -> None:
        """All has been written already."""


class _Collector(Protocol):
    """Collects the body of an answer."""

    def __init__(self, most: int) -> None:
        self._data = bytearray()
        self._most = most
        self.done: Deferred[bytes] = Deferred(lambda done: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._most and not self.done.called:
            why = f"the answer has more than {self._most} bytes"
            self.done.errback(WebError(Code.LIMIT, why))
            self._abort()

    def connectionLost(self, reason: Any = None) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._data))
        else:
            self.done.errback(reason)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


def _innermost(error: BaseException) -> BaseException:
    """What lies behind Twisted's lists of reasons."""
    reasons = getattr(error, "reasons", None)
    return _innermost(reasons[0].value) if reasons else error
