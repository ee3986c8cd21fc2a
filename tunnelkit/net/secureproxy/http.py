"""What a Communication Server answers browsers itself, over HTTPS on the same port (row S8).

A connection comes here with its ClientHello read, and for one name. From then on it is
Twisted's: nothing leads from here to the tunnel side (X21).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web import resource, server
from zope.interface import implementer

from tunnelkit.core.secureproxy.names import normal_host
from tunnelkit.net.secureproxy.arrivals import Arrived
from tunnelkit.net.secureproxy.link import fits_name, names_in
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.net.tls.engine import PrivateKey

MAX_BODY = 256 * 1024 * 1024
"""Bytes of a request's body; a larger one is answered 413 (X7)."""
MAX_OWN_BODY = 4096
"""Those of one for the server's own pages."""
CIPHERS_OF_1_2 = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and AEAD, which every browser since 2014 has."""
MAX_BROWSERS = 1000
"""Connections at once."""
IDLE = 60
"""Seconds without a request after which a connection is closed."""
HTTP = b"http/1.1"

HEADERS = {
    b"Cache-Control": b"no-store",
    b"Referrer-Policy": b"no-referrer",
    b"X-Content-Type-Options": b"nosniff",
    b"X-Frame-Options": b"DENY",
    b"Content-Security-Policy": b"default-src 'none'; frame-ancestors 'none'",
    b"Strict-Transport-Security": b"max-age=31536000",
}
"""Of every answer of the server's own: nothing of it is kept or framed (S13, X15)."""


@attrs.frozen(eq=False)
class ServerCertificate:
    """A certificate with its key, and what stands between it and the root."""

    private_key: PrivateKey = attrs.field(repr=False)
    chain: tuple[x509.Certificate, ...]
    """The certificate itself first."""

    def covers(self, host: str) -> bool:
        """Whether it is for ``host``."""
        return any(fits_name(name, host) for name in names_in(self.chain[0]))


@implementer(IOpenSSLServerConnectionCreator)
class BrowserTls:
    """Ordinary TLS 1.2 or later with one certificate, for the protocol ``alpn``; who offers
    none gets that one, too."""

    def __init__(
        self, certificate: ServerCertificate, alpn: bytes = HTTP, asks: TlsContext | None = None
    ) -> None:
        """``asks``: the browser may show a certificate that this one takes."""
        context = SSL.Context(SSL.TLS_METHOD)
        widened: Any = context
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(CIPHERS_OF_1_2)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        widened.use_certificate(certificate.chain[0])
        widened.use_privatekey(certificate.private_key)
        for between in certificate.chain[1:]:
            widened.add_extra_chain_cert(between)
        context.set_alpn_select_callback(self._choose)
        if asks is not None:
            asks.ask_in(context)
        self._alpn = alpn
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See `IOpenSSLServerConnectionCreator`."""
        return SSL.Connection(self._context, None)

    def _choose(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        # The hello was looked at before: a client that speaks only other protocols is not here.
        return self._alpn if self._alpn in offered else SSL.NO_OVERLAPPING_PROTOCOLS


class WebFront:
    """``certificates``: the first that covers a name is used, otherwise the first of all.

    ``pages_for(host)`` gives what is under a name, which is empty where a browser says none.
    """

    def __init__(
        self,
        reactor: Any,
        certificates: Sequence[ServerCertificate],
        pages_for: Callable[[str], resource.Resource],
        name: str = "",
        asks: TlsContext | None = None,
    ) -> None:
        """Under ``name``, the server's own, browsers are asked for a certificate, see
        `BrowserTls`; elsewhere every visitor would be."""
        self._reactor = reactor
        self._pages_for = pages_for
        self._sites: dict[str, server.Site] = {}
        self._open = 0
        self._name = name
        self.replace(certificates, asks)

    def replace(
        self, certificates: Sequence[ServerCertificate], asks: TlsContext | None = None
    ) -> None:
        """Use others from the next connection on."""
        self._certificates = tuple(certificates)
        self._asks = asks
        self._tls: dict[tuple[ServerCertificate, bytes, TlsContext | None], BrowserTls] = {}

    def browse(self, arrived: Arrived, host: str) -> None:
        """Serve a connection for the name ``host``."""
        self.serve(arrived, host, HTTP, self._site(host))

    def serve(self, arrived: Arrived, host: str, alpn: bytes, factory: IProtocolFactory) -> None:
        """Let ``factory`` speak on a connection for ``host``, inside TLS that agrees on ``alpn``.

        Over `MAX_BROWSERS` there is no room for it.
        """
        if self._open >= MAX_BROWSERS:
            arrived.carrier.abort()
            return
        sock = arrived.carrier.lend(lambda reason: None)
        family = sock.family
        descriptor = sock.detach()
        try:
            inside = _Factory(self, self._tls_for(host, alpn), factory, arrived)
            self._reactor.adoptStreamConnection(descriptor, family, inside)
        finally:
            os.close(descriptor)

    def _tls_for(self, host: str, alpn: bytes) -> BrowserTls:
        fitting = (one for one in self._certificates if host and one.covers(host))
        asks = self._asks if host and host == self._name and alpn == HTTP else None
        key = next(fitting, self._certificates[0]), alpn, asks
        if key not in self._tls:
            self._tls[key] = BrowserTls(*key)
        return self._tls[key]

    def _site(self, host: str) -> server.Site:
        site: server.Site | None = self._sites.get(host)
        if site is None:
            make: Any = _Site
            pages = self._pages_for(host)
            site = make(OneAuthority(host, pages), timeout=IDLE)
            if isinstance(pages, OwnPages):
                site.requestFactory = _SmallRequest
            if len(self._sites) < MAX_BROWSERS:
                self._sites[host] = site
        return site

    def began(self) -> None:
        """One more."""
        self._open += 1

    def ended(self) -> None:
        """One less."""
        self._open -= 1


class _Request(server.Request):
    """A request whose body has a limit; Twisted keeps bodies in a file until they are whole."""

    most = MAX_BODY
    _taken = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """Twisted's; what is announced as too large is refused before any of it is kept, and so
        is a coding that could be taken for another length elsewhere (X21)."""
        widened: Any = super()
        widened.gotLength(length)
        codings = self.requestHeaders.getRawHeaders(b"transfer-encoding") or []
        if codings and [one.strip().lower() for one in codings] != [b"chunked"]:
            self._refuse(b"400 Bad Request")
        elif length is not None and length > self.most:
            self._refuse()

    def process(self) -> None:
        """Twisted's, unless it was refused, or is for no page: Twisted would answer ``*``."""
        if self._refused:
            return
        if self.uri == b"*":
            self._refuse(b"400 Bad Request")
            return
        widened: Any = super()
        widened.process()

    def handleContentChunk(self, data: bytes) -> None:
        """Twisted's, as far as the limit."""
        self._taken += len(data)
        if self._taken <= self.most:
            widened: Any = super()
            widened.handleContentChunk(data)
        else:
            self._refuse()

    def _refuse(self, status: bytes = b"413 Content Too Large") -> None:
        # Once: behind a lost connection nothing more is parsed.
        self._refused = True
        channel: Any = self.channel
        channel.transport.write(
            b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        channel.loseConnection()


class _SmallRequest(_Request):
    """One for the server's own pages."""

    most = MAX_OWN_BODY


class _Site(server.Site):
    requestFactory = _Request
    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Its own log of requests is not ours."""

    def admit(self, channel: object) -> bool:
        """Whether a connection may ask for a page of the server's own: they are counted as all of
        the port's are."""
        return True


class _Factory(TLSMemoryBIOFactory):
    """Of one connection whose first bytes were read already."""

    noisy = False

    def __init__(
        self, front: WebFront, tls: BrowserTls, inside: IProtocolFactory, arrived: Arrived
    ) -> None:
        super().__init__(tls, False, inside)
        self._front = front
        self._arrived = arrived

    def buildProtocol(self, addr: Any) -> Any:
        make: Any = _Connection
        made = make(self, self.wrappedFactory.buildProtocol(addr))
        made.front, made.arrived, made.seen = self._front, self._arrived, self._arrived.seen
        return made


class _Connection(TLSMemoryBIOProtocol):
    front: WebFront
    arrived: Arrived
    seen: bytes

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Where it comes from: behind a proxy, what that says."""
        kind = IPv6Address if ":" in self.arrived.host else IPv4Address
        return kind("TCP", self.arrived.host, self.arrived.port)

    def makeConnection(self, transport: Any) -> None:
        """Twisted's, and then what was read already."""
        self.front.began()
        transport.setTcpNoDelay(True)
        twisted: Any = super()
        twisted.makeConnection(transport)
        seen, self.seen = self.seen, b""
        twisted.dataReceived(seen)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's."""
        self.front.ended()
        widened: Any = super()
        widened.connectionLost(reason)


class OneAuthority(resource.Resource):
    """Answers requests for ``host`` only: others get 421 (RFC 9110 15.5.20)."""

    isLeaf = True

    def __init__(self, host: str, inner: resource.Resource) -> None:
        widened: Any = super()
        widened.__init__()
        self._host = host
        self._inner = inner

    def render(self, request: server.Request) -> Any:
        """Look at the authority, then ask the page."""
        if authority_of(request) != self._host and self._host:
            return plain(request, 421, "this connection is for another name")
        return self._inner.render(request)


def authority_of(request: server.Request) -> str | None:
    """The host that a request is for, in its line or its Host; None: there is no one such."""
    hosts = request.requestHeaders.getRawHeaders(b"host") or []
    if len(hosts) != 1:
        return None
    authority = hosts[0]
    target = request.uri
    if not target.startswith(b"/"):
        scheme, colon, rest = target.partition(b"://")
        if not colon or scheme.lower() != b"https":
            return None
        authority = rest.partition(b"/")[0]
        if authority.lower() != hosts[0].lower():
            return None
    name, _, port = authority.decode("ascii", "replace").partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return None
    return normal_host(name)


def plain(request: server.Request, status: int, text: str) -> bytes:
    """An answer of one line."""
    request.setResponseCode(status)
    for name, value in HEADERS.items():
        request.setHeader(name, value)
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    return text.encode("utf-8") + b"\n"


class OwnPages(resource.Resource):
    """``/healthz``, which is for everybody; anything else is asked of ``others``."""

    isLeaf = True

    def __init__(
        self, healthy: Callable[[], bool], others: resource.Resource | None = None
    ) -> None:
        widened: Any = super()
        widened.__init__()
        self._healthy = healthy
        self._others = others

    def render(self, request: server.Request) -> Any:
        """One page."""
        if request.path == b"/healthz":
            if request.method not in (b"GET", b"HEAD"):
                return plain(request, 405, "GET or HEAD only")
            healthy = self._healthy()
            return plain(request, 200 if healthy else 503, "ok" if healthy else "stopping")
        if self._others is None:
            return plain(request, 404, "there is nothing here")
        return self._others.render(request)
