"""A client's way to its Communication Server: dial, TLS, and the server's name (X5)."""

from __future__ import annotations

import secrets
from typing import Any

from cryptography import x509
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tunnelkit.errors import PeerNotTrusted
from tunnelkit.net.dial.any_endpoint import connect_by
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import Carrier, take_over
from tunnelkit.net.tls.context import NAME_SCHEME, TlsContext
from tunnelkit.net.tls.engine import TlsEngine
from tunnelkit.net.tls.stream import TlsSink, TlsStream
from tunnelkit.wire.secureproxy import Hello, Login


class ServerLink:
    """``context`` trusts the server's CA and says its name; it may be replaced at any time.

    ``server_name`` is the one that its certificate must have, ``login`` is said in each HELLO.
    ``secret`` is what this client has in common with other clients, and not with the server where
    that has its identity from elsewhere; ``binding_required``: others must show that they have it.
    """

    def __init__(
        self,
        shared: Shared,
        endpoint: IStreamClientEndpoint,
        context: TlsContext,
        server_name: str,
        *,
        software: str = "",
        login: Login | None = None,
        secret: bytes = b"",
        binding_required: bool = True,
    ) -> None:
        self.shared = shared
        self.context = context
        self.server_name = server_name
        self.login = login
        self.secret = secret
        self.binding_required = binding_required
        self._endpoint = endpoint
        self._software = software or None
        self._run = secrets.token_hex(16)

    def hello(self, purpose: str) -> Hello:
        """What a connection begins with; ``purpose`` is ``present``, ``ask`` or ``session``."""
        return Hello(purpose, self._run, self._software, login=self.login)

    async def connect(self, sink: TlsSink) -> TlsStream:
        """A stream whose handshake has begun; raises `DialError`. `require_server` belongs into
        the sink's ``tls_ready``."""
        protocol: Any = await connect_by(self._endpoint, _DialledFactory())
        dialled: _Dialled = protocol
        engine = TlsEngine(self.context, True)
        return TlsStream(self.shared, dialled.carrier, engine, sink, removable=True)

    def require_server(self, stream: TlsStream) -> None:
        """Raises `PeerNotTrusted` unless the certificate is the server's."""
        certificate = stream.engine.peer_certificate
        assert certificate is not None  # a TLS client always gets one
        names = names_in(certificate)
        if not any(fits_name(name, self.server_name) for name in names):
            told = " or ".join(sorted(names)) or "nobody"
            raise PeerNotTrusted(
                f"the server's certificate is for {told}, expected is {self.server_name}"
            )


class _DialledFactory(Factory):
    noisy = False

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Dialled()


class _Dialled(Protocol):
    carrier: Carrier

    def connectionMade(self) -> None:
        self.carrier = take_over(self.transport)
        # Nothing comes before TLS; the stream will be told of a loss.
        self.carrier.start(_Waiting())
        self.carrier.pause_reading()


class _Waiting:
    """The sink of a carrier before TLS."""

    def carrier_received(self, view: memoryview) -> None:
        """Not while it is paused."""

    def carrier_writable(self) -> None:
        """Nothing is written."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """Told again when TLS starts."""


def names_in(certificate: x509.Certificate) -> frozenset[str]:
    """The names that a server's certificate is for: ``tunnelkit:NAME``, and DNS names."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return frozenset()
    uris = found.get_values_for_type(x509.UniformResourceIdentifier)
    ours = {uri[len(NAME_SCHEME) :] for uri in uris if uri.startswith(NAME_SCHEME)}
    return frozenset(ours | {name.lower() for name in found.get_values_for_type(x509.DNSName)})


def fits_name(pattern: str, name: str) -> bool:
    """Whether a name in a certificate, perhaps with ``*.`` in front, is ``name``."""
    if pattern == name or pattern.lower() == name.lower():
        return True
    label, _, parent = name.lower().partition(".")
    return bool(label and parent) and pattern == f"*.{parent}"
