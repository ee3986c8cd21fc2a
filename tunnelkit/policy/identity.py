"""Identity files: everything one end needs to be somebody, in one PEM file (K1).

The file holds, in this order, what ordinary TLS programs expect of a combined
PEM file, and one block that they pass over::

    -----BEGIN PRIVATE KEY-----
    -----BEGIN CERTIFICATE-----                    this end's own
    -----BEGIN CERTIFICATE-----                    the CA's; more are further trusted CAs, and
                                                   CAs between, which are sent along
    -----BEGIN TUNNELKIT RENDEZVOUS SECRET-----    32 bytes in base64

One whose certificate is self-signed has no CA's: it is for an end that trusts
pinned keys (K3).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import NamedTuple

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tunnelkit.errors import ConfigError, PeerNotTrusted
from tunnelkit.net.tls.context import (
    Credentials,
    KeyUse,
    PrivateKey,
    certificate_name,
    describe_certificate,
    moment,
    spki_pin,
)
from tunnelkit.policy.files import NotPrivate, read_private_file
from tunnelkit.policy.printable import printable

PIN_PREFIX = "sha256:"
SECRET_BYTES = 32
AUTHORITY_NAME = "tunnelkit CA"
"""What ``tunnelkit keys init`` calls a CA."""
SECRET_LABEL = "TUNNELKIT RENDEZVOUS SECRET"

_BLOCK = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n(.*?)^-----END \1-----[ \t]*\r?$",
    re.DOTALL | re.MULTILINE,
)
_KEY_LABELS = frozenset(
    {"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"}
)


class WrongPassphrase(ConfigError):
    """A private key could not be decrypted with what was given."""


@attrs.frozen(eq=False)
class Identity:
    """Who this end is; nothing secret shows in its repr (X13)."""

    name: str
    """What the certificate says (K4)."""
    credentials: Credentials
    rendezvous_secret: bytes = attrs.field(repr=False)
    """32 bytes, the same for every identity of one ``keys init`` or ``keys self --secret``."""

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and 64 hex digits of the certificate's SubjectPublicKeyInfo (K3)."""
        return fingerprint(self.credentials.certificate)

    @property
    def locked(self) -> bool:
        """Its key waits for its passphrase (K6): all the rest is there."""
        return self.credentials.locked

    def without_key(self) -> Identity:
        """The same, locked."""
        return attrs.evolve(self, credentials=attrs.evolve(self.credentials, private_key=None))


class Block(NamedTuple):
    """One PEM block: its label, and all of it including the two dashed lines."""

    label: str
    text: bytes
    body: bytes


def fingerprint(certificate: x509.Certificate) -> str:
    """The certificate's key in the form in which people compare it."""
    return PIN_PREFIX + spki_pin(certificate).hex()


def parse_pin(text: str) -> bytes:
    """The 32 bytes of a fingerprint, as `fingerprint` writes it; raises `ConfigError` (K3)."""
    digits = text[len(PIN_PREFIX) :].lower()
    if not text.startswith(PIN_PREFIX) or not re.fullmatch("[0-9a-f]{64}", digits):
        raise ConfigError(
            f"'{printable(text)}' is not a fingerprint: expected sha256: and 64 hexadecimal "
            "digits, as 'tunnelkit keys show' prints it"
        )
    return bytes.fromhex(digits)


@attrs.frozen
class Terms:
    """What is let pass with an identity file, and with the certificates of peers."""

    any_mode: bool = False
    """The file may be anybody's, and read by others (``--identity-mode any``)."""
    use: KeyUse = KeyUse.BOTH
    """What certificates have to be for (``--eku any``)."""


STRICT = Terms()


def load_identity(
    path: str | os.PathLike[str],
    *,
    passphrase: bytes | None = None,
    now: datetime | None = None,
    terms: Terms | None = None,
) -> Identity:
    """Read an identity file; ``passphrase`` is for one whose key is encrypted (K6).

    Raises `ConfigError` with one line that says what is wrong with the file
    and how to mend it: access, permissions (X22), parts missing or not
    matching each other, dates.
    """
    where = f"identity {printable(os.fspath(path))}"
    content = read_identity_file(path, where, terms)
    identity = parse_identity(content, where, passphrase)
    check_dates(identity, where, now or datetime.now(timezone.utc))
    if terms is None:
        return identity
    return attrs.evolve(identity, credentials=attrs.evolve(identity.credentials, use=terms.use))


def read_identity_file(path: str | os.PathLike[str], where: str, terms: Terms | None) -> bytes:
    """What is in the file; raises `ConfigError`."""
    try:
        return read_private_file(path, where, any_mode=terms is not None and terms.any_mode)
    except NotPrivate as error:
        # What has no such option gives no terms.
        raise ConfigError(f"{error}{', or --identity-mode any' if terms else ''}") from None


def has_encrypted_key(text: bytes) -> bool:
    """Whether the private key in a file is encrypted with a passphrase (K6)."""
    return any(_is_encrypted(block) for block in pem_blocks(text) if block.label in _KEY_LABELS)


def _is_encrypted(block: Block) -> bool:
    return block.label == "ENCRYPTED PRIVATE KEY" or b"ENCRYPTED" in block.body


def parse_identity(
    text: bytes, where: str, passphrase: bytes | None = None, *, locked: bool = False
) -> Identity:
    """The identity in ``text``, of which every part fits the others; dates are not looked at.

    ``locked``: without its key, which is encrypted.
    """
    blocks = pem_blocks(text)
    if not blocks:
        raise ConfigError(f"{where}: not a PEM file, expected '-----BEGIN PRIVATE KEY-----'")
    private_key = None if locked else _private_key(blocks, where, passphrase)
    certificates = _certificates(blocks, where)
    if not certificates:
        raise ConfigError(f"{where}: no CERTIFICATE block")
    certificate = certificates[0]
    authorities = tuple(one for one in certificates[1:] if _issued(one, one))
    chain, root = _chain(certificate, certificates[1:])
    if private_key is not None and not _same_key(private_key, certificate):
        raise ConfigError(f"{where}: the private key does not belong to the first certificate")
    if len(certificates) == 1 and not _issued(certificate, certificate):
        raise ConfigError(
            f"{where}: the CA certificate is missing (expected as second CERTIFICATE)"
        )
    if len(certificates) > 1 and root is None:
        if chain:
            raise ConfigError(
                f"{where}: the root CA's certificate is missing, which issued that of "
                f"{describe_certificate(chain[-1])}"
            )
        raise ConfigError(f"{where}: the certificate was not issued by the CA in the same file")
    try:
        name = certificate_name(certificate)
    except PeerNotTrusted:
        raise ConfigError(
            f"{where}: the certificate has no usable name, expected the URI tunnelkit:NAME "
            "or a DNS name as subject alternative name"
        ) from None
    credentials = Credentials(private_key, certificate, authorities, chain=chain)
    return Identity(name, credentials, _secret(blocks, where))


def load_certificate_file(
    path: str | os.PathLike[str],
) -> tuple[PrivateKey, tuple[x509.Certificate, ...]]:
    """The key and certificates of a web server, in one PEM file: its own certificate first.

    Raises `ConfigError`.
    """
    where = f"certificate {printable(os.fspath(path))}"
    blocks = pem_blocks(read_private_file(path, where))
    key = _private_key(blocks, where, None)
    certificates = tuple(_certificates(blocks, where))
    if not certificates or not _same_key(key, certificates[0]):
        raise ConfigError(
            f"{where}: expected a PRIVATE KEY and, first, the CERTIFICATE that belongs to it"
        )
    return key, certificates


def parse_secret(text: bytes, where: str) -> bytes:
    """The rendezvous secret in a file that may hold other things too."""
    return _secret(pem_blocks(text), where)


def parse_authority(
    text: bytes, where: str, passphrase: bytes | None = None
) -> tuple[PrivateKey, x509.Certificate, bytes]:
    """A CA's file: its key, certificate and the rendezvous secret of its ends."""
    blocks = pem_blocks(text)
    private_key = _private_key(blocks, where, passphrase)
    certificates = _certificates(blocks, where)
    if len(certificates) != 1 or not _same_key(private_key, certificates[0]):
        raise ConfigError(f"{where}: expected one CERTIFICATE, which belongs to the private key")
    return private_key, certificates[0], _secret(blocks, where)


def check_dates(identity: Identity, where: str, now: datetime) -> None:
    """Raises `ConfigError` unless the certificate and its CA are valid at ``now``."""
    credentials = identity.credentials
    remedy = renewal(identity)
    _check_dates(credentials.certificate, f"{where}: the certificate", remedy, now)
    chain, root = _chain(credentials.certificate, (*credentials.chain, *credentials.authorities))
    for authority in (*chain, *([root] if root is not None else [])):
        _check_dates(authority, f"{where}: the CA certificate", "make new keys", now)


def renewal(identity: Identity) -> str:
    """How its certificate is replaced."""
    credentials = identity.credentials
    issuer = credentials.certificate.issuer
    if not credentials.authorities:
        return f"'tunnelkit keys self {identity.name}' makes a new one"
    names = [str(part.value) for part in issuer.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names == [AUTHORITY_NAME]:
        return f"'tunnelkit keys renew {identity.name}' makes a new one"
    return f"ask its CA for a new one ({printable(issuer.rfc4514_string())})"


def _check_dates(certificate: x509.Certificate, what: str, remedy: str, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise ConfigError(
            f"{what} has expired on {moment(certificate.not_valid_after_utc)}: {remedy}"
        )
    if now < certificate.not_valid_before_utc:
        raise ConfigError(
            f"{what} is not valid before {moment(certificate.not_valid_before_utc)}: "
            f"is the clock right ({moment(now)})?"
        )


def identity_pem(identity: Identity, passphrase: bytes | None = None) -> bytes:
    """The identity file's content; with a passphrase its key is encrypted (K6)."""
    credentials = identity.credentials
    return b"".join(
        (
            key_pem(credentials.private_key, passphrase),
            credentials.certificate.public_bytes(Encoding.PEM),
            *(one.public_bytes(Encoding.PEM) for one in credentials.chain),
            *(one.public_bytes(Encoding.PEM) for one in credentials.authorities),
            secret_pem(identity.rendezvous_secret),
        )
    )


def key_pem(private_key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """A private key as PKCS #8, encrypted if there is a passphrase."""
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def secret_pem(secret: bytes) -> bytes:
    """The block ``TUNNELKIT RENDEZVOUS SECRET``."""
    body = base64.b64encode(secret).decode("ascii")
    return f"-----BEGIN {SECRET_LABEL}-----\n{body}\n-----END {SECRET_LABEL}-----\n".encode()


# -- reading --------------------------------------------------------------


def pem_blocks(text: bytes) -> list[Block]:
    """The PEM blocks of ``text`` in order; anything between them is passed over."""
    return [Block(found[1].decode("ascii"), found[0], found[2]) for found in _BLOCK.finditer(text)]


def _private_key(blocks: list[Block], where: str, passphrase: bytes | None) -> PrivateKey:
    keys = [block for block in blocks if block.label in _KEY_LABELS]
    if not keys:
        raise ConfigError(f"{where}: no PRIVATE KEY block")
    if len(keys) > 1:
        raise ConfigError(f"{where}: more than one PRIVATE KEY block")
    encrypted = _is_encrypted(keys[0])
    if encrypted and not passphrase:
        raise ConfigError(f"{where}: the private key is encrypted with a passphrase")
    try:
        key = load_pem_private_key(keys[0].text, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            reason = f"{where}: the passphrase is wrong or the private key cannot be read"
            raise WrongPassphrase(reason) from None
        raise ConfigError(f"{where}: the private key cannot be read") from None
    kinds = (
        ec.EllipticCurvePrivateKey,
        ed25519.Ed25519PrivateKey,
        ed448.Ed448PrivateKey,
        rsa.RSAPrivateKey,
    )
    if not isinstance(key, kinds):
        raise ConfigError(f"{where}: TLS has no use for this kind of private key")
    return key


def _certificates(blocks: list[Block], where: str) -> list[x509.Certificate]:
    certificates = []
    for block in blocks:
        if block.label == "CERTIFICATE":
            try:
                certificates.append(x509.load_pem_x509_certificate(block.text))
            except ValueError:
                number = len(certificates) + 1
                raise ConfigError(f"{where}: CERTIFICATE {number} cannot be read") from None
    return certificates


def _secret(blocks: list[Block], where: str) -> bytes:
    secrets = [block for block in blocks if block.label == SECRET_LABEL]
    if len(secrets) != 1:
        found = "no" if not secrets else "more than one"
        raise ConfigError(f"{where}: {found} {SECRET_LABEL} block")
    try:
        secret = base64.b64decode(b"".join(secrets[0].body.split()), validate=True)
    except binascii.Error:
        raise ConfigError(f"{where}: the {SECRET_LABEL} is not base64") from None
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            f"{where}: the {SECRET_LABEL} has {len(secret)} bytes, expected {SECRET_BYTES}"
        )
    return secret


def _same_key(private_key: PrivateKey, certificate: x509.Certificate) -> bool:
    try:
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private_key.public_key().public_bytes(*form) == public_key.public_bytes(*form)


def _chain(
    certificate: x509.Certificate, others: Iterable[x509.Certificate]
) -> tuple[tuple[x509.Certificate, ...], x509.Certificate | None]:
    """The CAs between ``certificate`` and its root, the issuer first, and the root if it is there.

    A certificate that is its own root has neither.
    """
    left = list(others)
    between: list[x509.Certificate] = []
    while True:
        above = [one for one in left if _issued(one, certificate)]
        roots = [one for one in above if _issued(one, one)]
        if roots or not above:
            return tuple(between), roots[0] if roots else None
        certificate = above[0]
        left.remove(certificate)
        between.append(certificate)


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True
