"""What TLS between tunnel ends trusts: credentials, contexts, and names in certificates.

A context is frozen by its first use, so changed keys or a changed revocation
list mean new `Credentials` and a new `TlsContext`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto

from tunnelkit.errors import AuthError, ConfigError, PeerNotTrusted, Revoked

PrivateKey = (
    ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | rsa.RSAPrivateKey
)

NAME_SCHEME = "tunnelkit:"

_LONGEST_NAME = 255
# Widened to Any, as elsewhere here: the published type stubs are older than pyOpenSSL itself.
_ssl: Any = SSL
_Codes: Any = _ssl.X509VerificationCodes
# Of <openssl/ssl.h>; pyOpenSSL has no public names for them.
_MODE_ENABLE_PARTIAL_WRITE = 1
_MODE_NO_AUTO_CHAIN = 8

# What a chain to a CA is judged by; a pinned key does not need a chain.
_CHAIN_ERRORS = frozenset(
    {
        _Codes.OK,
        _Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
        _Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
        _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
        _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        _Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        _Codes.ERR_CERT_UNTRUSTED,
    }
)
# What is wrong with the list; empty: there is none.
_CRL_ERRORS = {
    _Codes.ERR_UNABLE_TO_GET_CRL: "",
    _Codes.ERR_CRL_HAS_EXPIRED: "it has expired",
    _Codes.ERR_CRL_NOT_YET_VALID: "it is not valid yet",
    _Codes.ERR_CRL_SIGNATURE_FAILURE: "it is not signed by this end's CA",
}


class KeyUse(Enum):
    """What the peer's certificate must be for (rule X32); it is never a CA's, and a pinned key's
    is not asked."""

    BOTH = "client and server"
    """Which end is TLS client is decided at run time: it must be good for either."""
    ROLE = "its own role"
    """What TLS asks of its role, where that is always the same."""
    ANY = "anything"
    """A CA of somebody else writes other uses into what it issues."""


@attrs.frozen(eq=False)
class Credentials:
    """Who this end is and whom it trusts; exactly one of ``authorities`` and ``pins`` is not empty.

    ``check_revocation`` without ``crls``, or with one that has expired,
    refuses everybody (X17): it is how a list that cannot be read is expressed.
    """

    _private_key: PrivateKey | None = attrs.field(repr=False)
    certificate: x509.Certificate
    authorities: tuple[x509.Certificate, ...] = ()
    """The CA certificates, one of which is at the end of the peer's chain."""
    chain: tuple[x509.Certificate, ...] = ()
    """CAs between ``certificate`` and its root, the issuer first; sent to the peer."""
    pins: Mapping[bytes, str] = attrs.field(factory=dict)
    """SHA-256 of the SubjectPublicKeyInfo (32 bytes) of each peer trusted without a CA (K3), and
    the name it goes by: that is its identity, not what its certificate claims (X28)."""
    check_revocation: bool = False
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    """One of every CA in a peer's chain."""
    use: KeyUse = KeyUse.BOTH

    @property
    def locked(self) -> bool:
        """The private key is not there: it waits for its passphrase (K6). Nothing can be proved."""
        return self._private_key is None

    @property
    def private_key(self) -> PrivateKey:
        """The key of ``certificate``; raises `ConfigError` while it is locked."""
        if self._private_key is None:
            raise ConfigError("the private key is locked: expected its passphrase first")
        return self._private_key


def spki_pin(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate's SubjectPublicKeyInfo, 32 bytes."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


Listing = tuple[bytes, int]
"""What a revocation list names a certificate by: its issuer (DER) and serial number."""


def listings(chain: Iterable[x509.Certificate]) -> tuple[Listing, ...]:
    """How revocation lists name the certificates of a chain."""
    return tuple((one.issuer.public_bytes(), one.serial_number) for one in chain)


def certificate_name(certificate: x509.Certificate) -> str:
    """The one name that policy and logs use (K4): URI ``tunnelkit:NAME``, else the first DNS name.

    Raises `PeerNotTrusted` if it has neither, more than one ``tunnelkit:``
    URI, or a name that is not printable ASCII without spaces.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        ours = [uri[len(NAME_SCHEME) :] for uri in uris if uri.startswith(NAME_SCHEME)]
        found = ours or names.get_values_for_type(x509.DNSName)[:1]
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        found = []
    if len(found) > 1:
        raise PeerNotTrusted("the other end's certificate carries more than one tunnelkit name")
    if not found:
        raise PeerNotTrusted(
            "the other end's certificate carries no name: "
            "expected the URI tunnelkit:NAME or a DNS name as subject alternative name"
        )
    name = found[0]
    if not 0 < len(name) <= _LONGEST_NAME or not name.isascii() or not name.isprintable():
        raise PeerNotTrusted("the name in the other end's certificate is not printable ASCII")
    if " " in name:
        raise PeerNotTrusted("the name in the other end's certificate contains a space")
    return name


def describe_certificate(certificate: x509.Certificate) -> str:
    """The certificate's name, or its subject, safe to log before anything has been verified."""
    try:
        return certificate_name(certificate)
    except PeerNotTrusted:
        pass
    try:
        subject = certificate.subject.rfc4514_string()
    except ValueError:
        subject = ""
    return ascii(subject)[1:-1][:_LONGEST_NAME] or "without a name"


class NoCommonProtocol(Exception):
    """The TLS client offers protocols, and none of this end's is among them."""


class Verdict:
    """What the verification callback found about one connection's peer."""

    __slots__ = ("approved", "expected", "refusal")

    def __init__(self) -> None:
        self.approved = False
        self.refusal: AuthError | None = None
        self.expected: frozenset[str] = frozenset()
        """Names, one of which the peer must have for TLS to go on; empty: any."""


class TlsContext:
    """One end's TLS settings for both TLS roles: TLS 1.3, both ends authenticated (X6).

    Raises `ConfigError` if the credentials do not fit together.
    """

    def __init__(
        self,
        credentials: Credentials,
        alpn: Iterable[bytes],
        *,
        alpn_optional: bool = False,
        server_name: str = "",
        peer_optional: bool = False,
        unproved: bool = False,
        anonymous: bool = False,
    ) -> None:
        """``alpn``: what this end speaks, best first; ``alpn_optional``: or nothing agreed on.

        ``server_name`` is said in clear (SNI) as TLS client, for a relay on the
        way; whom this end trusts does not depend on it. ``peer_optional``: a TLS client may come
        without a certificate, and says later who it is; one that it shows must be good.
        ``unproved``: any certificate will do; what is said inside TLS, and bound to it, must prove
        who it is (pairing). ``anonymous``: as TLS client this end shows no certificate.
        """
        if not unproved and bool(credentials.authorities) == bool(credentials.pins):
            raise ConfigError("trust is either a CA or a list of pinned keys: exactly one of them")
        if credentials.pins and credentials.check_revocation:
            raise ConfigError("a revocation list works with a CA, not with pinned keys")
        self.credentials = credentials
        self.alpn = tuple(alpn)
        self.alpn_optional = alpn_optional
        self.peer_optional = peer_optional
        self._unproved = unproved
        self._anonymous = anonymous
        self._server_name = server_name.encode("ascii")
        self.own_pin = spki_pin(credentials.certificate)
        try:
            self._context = self._build()
        except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
            raise ConfigError(f"TLS cannot use this identity: {_first_reason(error)}") from None

    def _build(self) -> SSL.Context:
        credentials = self.credentials
        context = SSL.Context(SSL.TLS_METHOD)
        widened: Any = context
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
        # No resumption: it would skip the verification below. OpenSSL still sends two short
        # tickets after the handshake; they name sessions that are stored nowhere. No early
        # data: that is OpenSSL's default.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"tunnelkit")
        # The peer has the CA's certificate; left to itself OpenSSL would send it along.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
        # pyOpenSSL turns partial writes on, which would mean one record per call into the library.
        widened.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
        if not self._anonymous:
            widened.use_certificate(credentials.certificate)
            if not credentials.locked:
                widened.use_privatekey(credentials.private_key)
                context.check_privatekey()
            for between in credentials.chain:
                widened.add_extra_chain_cert(between)
        self._trust(context, self._verify)
        context.set_alpn_protos(list(self.alpn))
        context.set_alpn_select_callback(self._choose_alpn)
        return context

    def _trust(self, context: SSL.Context, verify: Callable[..., bool]) -> None:
        credentials = self.credentials
        store: Any = context.get_cert_store()
        for authority in credentials.authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        if credentials.check_revocation:
            # The whole chain: an issuing CA can be revoked, too.
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
            for crl in credentials.crls:
                store.add_crl(crl)
        required = 0 if self.peer_optional else SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(SSL.VERIFY_PEER | required, verify)

    def ask_in(self, context: SSL.Context) -> None:
        """Let ``context``, that of a server which shows itself otherwise, ask for certificates that
        this one takes."""
        self._trust(context, lambda _, *shown: self._look(Verdict(), *shown))
        widened: Any = context
        for authority in self.credentials.authorities:
            widened.add_client_ca(crypto.X509.from_cryptography(authority))
        # No resumption, which would skip the verification.
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"tunnelkit")

    def new_connection(self, client: bool) -> tuple[SSL.Connection, Verdict]:
        """A connection on memory BIOs in the given TLS role, before its handshake."""
        connection = SSL.Connection(self._context, None)
        verdict = Verdict()
        connection.set_app_data(verdict)
        if client:
            if self._server_name:
                connection.set_tlsext_host_name(self._server_name)
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        return connection, verdict

    def _choose_alpn(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        for protocol in self.alpn:
            if protocol in offered:
                return protocol
        # The only way to the alert no_application_protocol (RFC 7301, 3.2): what the callback
        # returns for 'none' means to go on without. `do_handshake` raises it again.
        raise NoCommonProtocol

    def _verify(
        self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        return self._look(connection.get_app_data(), certificate, error, depth, ok)

    def _look(
        self, verdict: Verdict, certificate: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        # An exception that leaves this callback would be reported on a later, unrelated
        # connection of the same context: everything is caught, and refuses.
        try:
            shown = certificate.to_cryptography()
            refusal = self._judge(shown, error, depth, bool(ok))
            if refusal is None and depth == 0 and verdict.expected:
                pins = self.credentials.pins
                name = pins[spki_pin(shown)] if pins else certificate_name(shown)
                refusal = judge_name(name, verdict.expected)
        except Exception as problem:
            refusal = PeerNotTrusted(
                f"the other end's certificate cannot be read: {type(problem).__name__}"
            )
        if refusal is None:
            if depth == 0:
                verdict.approved = True
            return True
        verdict.approved = False
        verdict.refusal = verdict.refusal or refusal
        return False

    def _judge(
        self, certificate: x509.Certificate, error: int, depth: int, ok: bool
    ) -> AuthError | None:
        if self._unproved:
            return None
        if not self.credentials.pins:
            other_use = error == _Codes.ERR_INVALID_PURPOSE and self.credentials.use is KeyUse.ANY
            if not ok and not (other_use and depth == 0):
                return explain_verification(certificate, error, depth)
            return judge_use(certificate, self.credentials.use) if depth == 0 else None
        if depth > 0:
            # Only the pinned key counts; the handshake proves that the peer holds it.
            return None
        if spki_pin(certificate) not in self.credentials.pins:
            return PeerNotTrusted(
                f"the key of {describe_certificate(certificate)} is not one of the pinned keys"
            )
        pardoned = error in _CHAIN_ERRORS or error == _Codes.ERR_INVALID_PURPOSE
        return None if pardoned else explain_verification(certificate, error, depth)


def judge_name(name: str, expected: Collection[str]) -> PeerNotTrusted | None:
    """Why a peer with that name is none of those expected; None: it is."""
    if name in expected:
        return None
    wanted = " or ".join(sorted(expected)) or "nobody"
    return PeerNotTrusted(f"the other end is {name}, expected is {wanted}")


def judge_use(certificate: x509.Certificate, use: KeyUse) -> PeerNotTrusted | None:
    """Why ``certificate`` is not an end's, a peer's or our own; None: it is one (X32)."""
    who = f"the certificate of {describe_certificate(certificate)}"
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return PeerNotTrusted(f"{who} is a CA's, not an end's")
    except x509.ExtensionNotFound:
        pass
    if use is not KeyUse.BOTH:
        return None
    try:
        uses = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        uses = set()
    if {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH} <= uses:
        return None
    return PeerNotTrusted(
        f"{who} is not for both clientAuth and serverAuth (extended key usage): "
        "expected that, or --eku any"
    )


def explain_verification(certificate: x509.Certificate, error: int, depth: int) -> AuthError:
    """The sentence for an X509_V_ERR code about ``certificate``; ``depth`` 0 is the peer's own."""
    who = f"the certificate of {describe_certificate(certificate)}"
    if error == _Codes.ERR_CERT_REVOKED:
        return Revoked(f"{who} has been revoked")
    if error == _Codes.ERR_CERT_HAS_EXPIRED:
        return PeerNotTrusted(f"{who} has expired on {moment(certificate.not_valid_after_utc)}")
    if error == _Codes.ERR_CERT_NOT_YET_VALID:
        return PeerNotTrusted(
            f"{who} is not valid before {moment(certificate.not_valid_before_utc)}: "
            "is one of the clocks wrong?"
        )
    if error in _CRL_ERRORS:
        missing = f"there is none of the CA that issued {describe_certificate(certificate)}"
        why = _CRL_ERRORS[error] or missing
        return PeerNotTrusted(
            f"the revocation list here is not usable ({why}), so nobody is let in"
        )
    if error in _CHAIN_ERRORS and depth > 0:
        issuer = describe_certificate(certificate)
        return PeerNotTrusted(
            f"the other end's certificate was issued by {issuer}, which is not this end's CA"
        )
    if error in _CHAIN_ERRORS:
        return PeerNotTrusted(f"{who} was not issued by this end's CA")
    return PeerNotTrusted(f"{who} is not acceptable: {_code_name(error)}")


def moment(when: datetime) -> str:
    """A time of a certificate in words, e.g. ``2026-11-22 04:30 UTC``."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _code_name(error: int) -> str:
    for name, value in vars(_Codes).items():
        if name.startswith("ERR_") and value == error:
            return str(name)[len("ERR_") :].lower().replace("_", " ")
    return f"X.509 error {error}"


def _first_reason(error: Exception) -> str:
    with contextlib.suppress(IndexError, TypeError):
        return str(error.args[0][0][2])
    return str(error) or type(error).__name__
