"""What DTLS with devices trusts and offers: 1.2 only, forward secret, AEAD (row W1, rule X19)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto

from tunnelkit.errors import AuthError, ConfigError, PeerNotTrusted
from tunnelkit.net.tls.context import Credentials, certificate_name, explain_verification

DTLS_1_2 = 0xFEFD
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM"
"""RFC 7252, 9.1.3.3 asks devices for AES-CCM."""
SESSION_LIFE = 3600
"""Seconds in which a session can be resumed (row W8)."""
MTU = 1200
"""Bytes of a datagram, without its UDP and IP headers."""

# Widened to Any, as elsewhere here: the published type stubs are older than pyOpenSSL itself.
_ssl: Any = SSL
_OPTIONS: int = (
    _ssl.OP_NO_QUERY_MTU
    | _ssl.OP_COOKIE_EXCHANGE
    | _ssl.OP_NO_RENEGOTIATION
    | _ssl.OP_NO_COMPRESSION
)


class DtlsContext:
    """One party's settings for DTLS; the credentials of both roles.

    As server it shows its certificate; a device may show one, which must be of the ``authorities``
    and is judged by the revocation list. As client it demands a certificate of the
    ``authorities``, whatever name is in it, and shows its own if it has one.

    Raises `ConfigError` if the credentials do not fit together.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        authorities: Iterable[x509.Certificate] | None = None,
        *,
        ciphers: bytes = CIPHERS,
    ) -> None:
        """``authorities``: by default those of the credentials. Without credentials: for clients
        that have no certificate."""
        own = credentials.authorities if credentials is not None else ()
        self.credentials = credentials
        self.authorities = tuple(own if authorities is None else authorities)
        try:
            self._server = self._build(ciphers, client=False)
            self._client = self._build(ciphers, client=True)
        except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
            raise ConfigError(f"DTLS cannot use this identity: {error}") from None

    def new_connection(
        self, client: bool, session: SSL.Session | None = None
    ) -> tuple[SSL.Connection, DtlsVerdict]:
        """A connection on memory BIOs, before its handshake. A server's has been through the
        cookie exchange already: see `tunnelkit.net.tls.dtls_server`."""
        connection: Any = SSL.Connection(self._client if client else self._server, None)
        verdict = DtlsVerdict()
        connection.set_app_data(verdict)
        connection.set_ciphertext_mtu(MTU)
        if client:
            if session is not None:
                connection.set_session(session)
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        return connection, verdict

    def _build(self, ciphers: bytes, client: bool) -> SSL.Context:
        context = SSL.Context(SSL.DTLS_METHOD)
        widened: Any = context
        # A newer OpenSSL would negotiate 1.3 by itself, with other headers.
        context.set_min_proto_version(DTLS_1_2)
        context.set_max_proto_version(DTLS_1_2)
        context.set_options(_OPTIONS)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_cipher_list(ciphers)
        context.set_session_id(b"tunnelkit")
        context.set_timeout(SESSION_LIFE)
        # Sessions are resumed by ticket: nothing is kept here for those who may never come back.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # Whoever reaches OpenSSL has shown a cookie of ours.
        context.set_cookie_generate_callback(lambda connection: b"checked before")
        context.set_cookie_verify_callback(lambda connection, cookie: True)
        if self.credentials is not None:
            widened.use_certificate(self.credentials.certificate)
            widened.use_privatekey(self.credentials.private_key)
            context.check_privatekey()
            for between in self.credentials.chain:
                widened.add_extra_chain_cert(between)
        store: Any = context.get_cert_store()
        for authority in self.authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        if self.credentials is not None and self.credentials.check_revocation:
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
            for crl in self.credentials.crls:
                store.add_crl(crl)
        mode = SSL.VERIFY_PEER if client or self.authorities else SSL.VERIFY_NONE
        context.set_verify(mode, _verify)
        return context


class DtlsVerdict:
    """What the verification callback found."""

    __slots__ = ("refusal",)

    def __init__(self) -> None:
        self.refusal: AuthError | None = None


def _verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    # Whatever leaves this callback would be lost on stderr: everything is caught, and refuses.
    verdict: DtlsVerdict = connection.get_app_data()
    try:
        judged = certificate.to_cryptography()
        if not ok:
            refusal = explain_verification(judged, error, depth)
            verdict.refusal = verdict.refusal or refusal
        elif depth == 0:
            certificate_name(judged)
    except AuthError as refusal:
        verdict.refusal = refusal
    except Exception as problem:
        verdict.refusal = PeerNotTrusted(
            f"the other end's certificate cannot be read: {type(problem).__name__}"
        )
    return verdict.refusal is None
