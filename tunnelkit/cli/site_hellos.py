"""A TLS handshake with a web site, as a browser does it, and the hellos that it took (row S15)."""

from __future__ import annotations

import socket
from types import TracebackType

from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL

from tunnelkit.errors import DialError, RemoteProtocolError
from tunnelkit.policy.printable import printable
from tunnelkit.wire.tls_hellos import CLIENT_HELLO, SERVER_HELLO, HelloDigest

PATIENCE = 20.0
"""Seconds for each step."""
_SIZE = 65536


class SiteHellos:
    """A connection that is up inside ``with``; the certificate is shown, and not judged.

    Raises `DialError`.
    """

    client_hello = ""
    """SHA-256 of what was sent, see `HelloDigest`."""
    server_hello = ""
    """And of what came."""
    certificate = ""
    """Whose it is, and the SHA-256 of it."""

    def __init__(self, host: str, address: str, port: int) -> None:
        self._host = host
        self._place = address, port
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_alpn_protos([b"h2", b"http/1.1"])
        self._tls = SSL.Connection(context, None)
        self._tls.set_tlsext_host_name(host.encode("ascii"))
        self._tls.set_connect_state()
        self._sent = bytearray()
        self._came = bytearray()

    def __enter__(self) -> SiteHellos:
        where = printable("{} port {}".format(*self._place))
        try:
            self._sock = socket.create_connection(self._place, PATIENCE)
        except OSError as error:
            raise DialError(f"{where}: {error.strerror or error}") from None
        try:
            self._shake_hands()
        except (OSError, SSL.Error, RemoteProtocolError) as error:
            self._sock.close()
            raise DialError(f"{where}: no TLS 1.3 with {self._host}: {_words(error)}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sock.close()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except SSL.WantReadError:
                self._send()
                data = self._sock.recv(_SIZE)
                if not data:
                    raise OSError("the connection was closed") from None
                self._came += data
                self._tls.bio_write(data)
        # Before that it may be an alert that came.
        self.client_hello = HelloDigest(CLIENT_HELLO).feed(self._sent) or ""
        self.server_hello = HelloDigest(SERVER_HELLO).feed(self._came) or ""
        self._send()
        shown = self._tls.get_peer_certificate(as_cryptography=True)
        assert shown is not None  # a TLS client always gets one
        digest = shown.fingerprint(SHA256()).hex(":")
        self.certificate = f"{shown.subject.rfc4514_string() or 'no subject'}, SHA-256 {digest}"

    def _send(self) -> None:
        try:
            data = self._tls.bio_read(_SIZE)
        except SSL.WantReadError:
            return
        self._sent += data
        self._sock.sendall(data)


def _words(error: Exception) -> str:
    if isinstance(error, SSL.Error):
        reasons = [reason[2] for reason in error.args[0]] if error.args else []
        return ", ".join(reasons) or "the connection was closed"
    return str(error)
