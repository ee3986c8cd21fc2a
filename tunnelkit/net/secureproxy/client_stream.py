"""One client's connection to a Communication Server: its TLS, taken off for a session (S6)."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import attrs
from twisted.python.failure import Failure

from tunnelkit.core.secureproxy.connection import ServerConnection
from tunnelkit.errors import AuthError, TunnelkitError
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import Carrier
from tunnelkit.net.tls.context import Listing, TlsContext, certificate_name, listings
from tunnelkit.net.tls.engine import TlsEngine
from tunnelkit.net.tls.stream import TlsStream, Unwrapped
from tunnelkit.net.tls.tls_carrier import TlsCarrier

MAX_UNSENT = 1 << 20
"""Bytes that wait for a client to read; one that has more is cut off (X25)."""


class ClientHost(Protocol):
    """The server, as a client's connection sees it."""

    def client_up(self, client: ClientStream) -> None:
        """The handshake is complete; ``client.connection`` is there."""

    def client_received(self, client: ClientStream, view: memoryview) -> None:
        """Plaintext has come."""

    def client_through(self, client: ClientStream) -> None:
        """TLS has been taken off, see `ClientStream.unwrapped`."""

    def client_lost(self, client: ClientStream, reason: str) -> None:
        """It is gone; not told after `close`."""


@attrs.frozen
class Client:
    """One connection of a client, and what its certificate says."""

    name: str
    listings: tuple[Listing, ...]
    """How revocation lists name its certificates, if it has shown any."""
    until: datetime | None
    """When the first of them ends."""


class ClientStream:
    """The sink of the TLS; ``address`` is as limits count it, ``observed`` as others are told."""

    def __init__(
        self,
        shared: Shared,
        host: ClientHost,
        context: TlsContext,
        carrier: Carrier,
        address: str,
        observed: str,
    ) -> None:
        self._host = host
        self._address = address
        self._observed = observed
        self._unsent = bytearray()
        self._switching = False
        self._unwrapping = False
        self._closing = False
        self.connection: ServerConnection | None = None
        """For the core, once it is known whose the connection is."""
        self.listings: tuple[Listing, ...] = ()
        """How revocation lists name its certificates, if it has shown any."""
        self.until: datetime | None = None
        """When the first of them ends."""
        self.unwrapped: Unwrapped | None = None
        """The TCP connection, once TLS is off."""
        self._stream = TlsStream(shared, carrier, TlsEngine(context, False), self, removable=True)

    def start(self, hello: bytes) -> None:
        """``hello`` was read already."""
        self._stream.start(hello)

    # -- what the server wants -----------------------------------------------

    def send(self, data: bytes) -> None:
        """As soon as the client takes it."""
        self._unsent += data
        if len(self._unsent) > MAX_UNSENT:
            self._stream.abort()
            self._lost("it does not read what it is told")
            return
        self._flush()

    def switch(self) -> None:
        """Behind what is to be sent, take TLS off."""
        self._switching = True
        self._flush()

    def close(self) -> None:
        """Behind what is to be sent, end the connection."""
        self._closing = True
        if self.unwrapped is not None:
            self.unwrapped.carrier.abort()
        elif self._unwrapping:
            self._stream.abort()
        else:
            self._flush()

    def lend(self, leftover: bytes) -> TlsCarrier:
        """What the server sends and gets in this TLS from now on; nothing is told any more."""
        self._closing = True
        return TlsCarrier(self._stream, leftover)

    def abort(self) -> None:
        """End the connection now."""
        self._closing = True
        self._stream.abort()
        if self.unwrapped is not None:
            self.unwrapped.carrier.abort()

    def _flush(self) -> None:
        if self._unsent and self._stream.writable:
            data, self._unsent = self._unsent, bytearray()
            self._stream.send(memoryview(data))
        if self._unsent:
            return
        if self._closing:
            self._stream.close()
        elif self._switching:
            self._switching = False
            self._unwrapping = True
            self._stream.unwrap().addCallbacks(self._off, self._not_off)

    def _off(self, unwrapped: Unwrapped) -> None:
        self.unwrapped = unwrapped
        if self._closing:
            unwrapped.carrier.abort()
        else:
            self._host.client_through(self)

    def _not_off(self, failure: Failure) -> None:
        self._lost(failure.getErrorMessage())

    # -- what TLS tells ------------------------------------------------------

    def tls_ready(self) -> None:
        """See `TlsSink`. Raises `PeerNotTrusted` for a certificate without a name."""
        certificate = self._stream.engine.peer_certificate
        name = ""
        if certificate is not None:
            name = certificate_name(certificate)
            chain = self._stream.engine.peer_chain
            self.listings = listings(chain)
            self.until = min(one.not_valid_after_utc for one in (certificate, *chain))
            if self._stream.engine.peer_has_own_key:
                raise AuthError("this is the server's own key")
        self.connection = ServerConnection(self._address, self._observed, name, self)
        self._host.client_up(self)

    def tls_received(self, view: memoryview) -> None:
        """See `TlsSink`."""
        if not self._closing:
            self._host.client_received(self, view)
            # It may say nothing for a long time, and there are many.
            self._stream.engine.trim()

    def tls_writable(self) -> None:
        """See `TlsSink`."""
        self._flush()

    def tls_ended(self) -> None:
        """The client has ended TLS where nobody asked it to: it goes."""
        self._stream.close()
        self._lost("the client closed the connection")

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        """See `TlsSink`."""
        self._lost(str(reason))

    def _lost(self, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._host.client_lost(self, reason)
