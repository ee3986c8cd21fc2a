"""Makes identities, with a private CA and revocation lists (K1, K2) or without (K3).

`Authority` works in memory; `tunnelkit.policy.key_directory` keeps one in files.

Keys are ECDSA on P-256: every TLS program loads and speaks it, browsers and
old ones included, which Ed25519 cannot say; and with OpenSSL it signs and
verifies at least as fast, so that a handshake costs well under a millisecond.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunnelkit.errors import ConfigError
from tunnelkit.net.tls.engine import NAME_SCHEME, Credentials, PrivateKey, moment
from tunnelkit.policy.identity import AUTHORITY_NAME, SECRET_BYTES, Identity

PublicKey = (
    ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey | rsa.RSAPublicKey
)

AUTHORITY_DAYS = 3650
END_DAYS = 365
LONGEST_NAME = 64

# Clocks differ; a certificate made a moment ago must work on a machine that is a little behind.
_BACKDATED = timedelta(minutes=5)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def check_name(name: str) -> str:
    """``name`` if it can be an end's name, else `ConfigError`."""
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{ascii(name)[:80]} cannot be a name: expected are 1 to {LONGEST_NAME} letters, "
            "digits, '.', '_' and '-', with a letter or digit at both ends"
        )
    return name


def is_dns_name(name: str) -> bool:
    """Whether a certificate may carry ``name`` as a DNS name; four numbers are an address."""
    labels = name.split(".")
    return all(map(_DNS_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


@attrs.frozen(eq=False)
class Authority:
    """A private CA and the rendezvous secret of its ends."""

    private_key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)
    certificate: x509.Certificate
    rendezvous_secret: bytes = attrs.field(repr=False)

    @classmethod
    def create(
        cls,
        name: str = AUTHORITY_NAME,
        *,
        days: float = AUTHORITY_DAYS,
        now: datetime | None = None,
        rendezvous_secret: bytes | None = None,
    ) -> Authority:
        """A new CA, valid for ``days`` from ``now``."""
        private_key = ec.generate_private_key(ec.SECP256R1())
        public_key = private_key.public_key()
        subject, begin = _common_name(name), _begin(now)
        builder = (
            _builder(subject, subject, public_key, public_key, begin, begin + _span(days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        certificate = builder.sign(private_key, hashes.SHA256())
        return cls(private_key, certificate, rendezvous_secret or os.urandom(SECRET_BYTES))

    def issue(
        self,
        name: str,
        *,
        days: float = END_DAYS,
        now: datetime | None = None,
        private_key: PrivateKey | None = None,
    ) -> Identity:
        """A new identity, valid for ``days`` from ``now`` but not longer than the CA.

        Raises `ConfigError` if ``name`` cannot be one.
        """
        check_name(name)
        key = private_key or ec.generate_private_key(ec.SECP256R1())
        certificate = self.certify(name, key.public_key(), days=days, now=now)
        credentials = Credentials(key, certificate, (self.certificate,))
        return Identity(name, credentials, self.rendezvous_secret)

    def certify(
        self, name: str, key: PublicKey, *, days: float = END_DAYS, now: datetime | None = None
    ) -> x509.Certificate:
        """A certificate for a key that somebody else has; otherwise as `issue`."""
        check_name(name)
        begin = _begin(now)
        until = min(begin + _span(days), self._end(begin))
        issuer, own = self.certificate.subject, self.private_key.public_key()
        builder = _end_builder(name, issuer, key, own, begin, until)
        return builder.sign(self.private_key, hashes.SHA256())

    def revocation_list(
        self,
        revoked: Mapping[int, datetime],
        *,
        number: int = 1,
        days: float | None = None,
        now: datetime | None = None,
    ) -> x509.CertificateRevocationList:
        """The list of ``revoked`` serial numbers and when each was revoked.

        Without ``days`` it is valid as long as the CA: it is a file that its
        owner changes, and one that expired unnoticed would lock everybody out.
        """
        begin = _begin(now)
        end = self._end(begin)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(begin)
            .next_update(end if days is None else min(begin + _span(days), end))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private_key.public_key()),
                critical=False,
            )
        )
        for serial, when in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.private_key, hashes.SHA256())

    def _end(self, begin: datetime) -> datetime:
        end = self.certificate.not_valid_after_utc
        if end <= begin:
            raise ConfigError(f"the CA has expired on {moment(end)}: make new keys")
        return end


def self_signed(
    name: str,
    *,
    days: float = AUTHORITY_DAYS,
    now: datetime | None = None,
    rendezvous_secret: bytes | None = None,
) -> Identity:
    """An identity without a CA, for two ends that trust only each other's keys (K3).

    Raises `ConfigError` if ``name`` cannot be one.
    """
    check_name(name)
    key = ec.generate_private_key(ec.SECP256R1())
    begin = _begin(now)
    public = key.public_key()
    until = begin + _span(days)
    builder = _end_builder(name, _common_name(name), public, public, begin, until)
    certificate = builder.sign(key, hashes.SHA256())
    return Identity(
        name, Credentials(key, certificate), rendezvous_secret or os.urandom(SECRET_BYTES)
    )


def _end_builder(
    name: str,
    issuer: x509.Name,
    key: PublicKey,
    issuer_key: PublicKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    """The certificate of an end, before it is signed."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(NAME_SCHEME + name)]
    if is_dns_name(name):
        names.append(x509.DNSName(name))
    both_sides = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _builder(_common_name(name), issuer, key, issuer_key, begin, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_sides), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )


def _begin(now: datetime | None) -> datetime:
    return (now or datetime.now(timezone.utc)) - _BACKDATED


def _span(days: float) -> timedelta:
    return _BACKDATED + timedelta(days=days)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey,
    issuer_key: PublicKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key),
            critical=False,
        )
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
