"""A CA that is not tunnelkit's: a root, issuing CAs under it, and what these issue."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunnelkit.net.tls.context import NAME_SCHEME, Credentials

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
BOTH = (CLIENT, SERVER)


@attrs.frozen(eq=False)
class Certified:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)
    certificate: x509.Certificate

    def crl(self, *revoked: x509.Certificate, number: int = 1) -> x509.CertificateRevocationList:
        """This CA's list of what it has revoked."""
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - timedelta(minutes=5))
            .next_update(now + timedelta(days=1))
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
        return builder.sign(self.key, hashes.SHA256())


def certify(
    name: str,
    issuer: Certified | None = None,
    *,
    ca: bool = False,
    uses: Iterable[x509.ObjectIdentifier] | None = BOTH,
    days: float = 30,
    begin: datetime | None = None,
) -> Certified:
    """A new key with a certificate of ``issuer``, or its own; ``uses`` None: it names none."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    since = begin or datetime.now(timezone.utc) - timedelta(minutes=5)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if uses is not None and (issuer is not None or not ca):
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(uses)), critical=False)
    if issuer is None or not ca:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(NAME_SCHEME + name)])
        builder = builder.add_extension(names, critical=False)
    signer = key if issuer is None else issuer.key
    return Certified(key, builder.sign(signer, hashes.SHA256()))


def credentials(leaf: Certified, root: Certified, *between: Certified) -> Credentials:
    """What an end with this certificate has, where it trusts ``root``."""
    chain = tuple(one.certificate for one in between)
    return Credentials(leaf.key, leaf.certificate, (root.certificate,), chain=chain)
