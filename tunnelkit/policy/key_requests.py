"""Certificates for keys that never leave the machine of their end (row K6).

end: new key, request with the name -> CA: looks at it, signs -> end: the answer behind the key
"""

from __future__ import annotations

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tunnelkit.errors import ConfigError
from tunnelkit.net.tls.context import NAME_SCHEME
from tunnelkit.policy.identity import key_pem, secret_pem
from tunnelkit.policy.keys import check_name

LARGEST_REQUEST = 65_536


@attrs.frozen(eq=False)
class Request:
    """What an end asks a CA to sign."""

    name: str
    public_key: ec.EllipticCurvePublicKey


def make_request(name: str, passphrase: bytes | None = None) -> tuple[bytes, bytes]:
    """A new key for an end called ``name``, and the request for its certificate, both as PEM.

    With a passphrase the key is encrypted.

    Raises `ConfigError` if ``name`` cannot be one.
    """
    check_name(name)
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(NAME_SCHEME + name)]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return key_pem(key, passphrase), request.public_bytes(Encoding.PEM)


def parse_request(text: bytes, where: str) -> Request:
    """A request that its key has signed; raises `ConfigError`.

    Nothing of it but the key and the name is used: what a certificate says the CA decides.
    """
    try:
        request = x509.load_pem_x509_csr(text)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        key, signed = request.public_key(), request.is_signature_valid
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm, InvalidSignature):
        raise ConfigError(
            f"{where}: is no request: expected what 'tunnelkit keys sign-request' has written"
        ) from None
    found = [uri.removeprefix(NAME_SCHEME) for uri in uris if uri.startswith(NAME_SCHEME)]
    if len(found) != 1:
        raise ConfigError(f"{where}: it names {len(found)} ends: expected one")
    if not signed:
        raise ConfigError(f"{where}: the key in it has not signed it: expected it unchanged")
    return request_for(found[0], key, where)


def request_for(name: str, key: object, where: str) -> Request:
    """``name`` and ``key`` if a CA here signs such; raises `ConfigError`."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"{where}: its key is of another kind: expected ECDSA on P-256")
    return Request(check_name(name), key)


def answer_pem(certificate: x509.Certificate, authority: x509.Certificate, secret: bytes) -> bytes:
    """What makes an identity file behind the key: certificate, CA, rendezvous secret."""
    parts = [one.public_bytes(Encoding.PEM) for one in (certificate, authority)]
    return b"".join([*parts, secret_pem(secret)])
