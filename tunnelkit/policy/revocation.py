"""Revocation lists: read, checked against the CA, and asked about serial numbers (X17).

A list that was configured and cannot be used refuses everybody, so reading
never raises: what is wrong stays with the result.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from tunnelkit.errors import ConfigError
from tunnelkit.net.tls.engine import Credentials, moment
from tunnelkit.policy.identity import read_file
from tunnelkit.policy.printable import printable

LARGEST_LIST = 16_777_216
"""Bytes; room for some 400,000 revoked certificates."""


@attrs.frozen(eq=False)
class Revocations:
    """One reading of a revocation list; a change of the file means a new object (K2)."""

    where: str
    """The file, as error messages name it."""
    crl: x509.CertificateRevocationList | None
    """None: the list cannot be used at all, see ``problem``."""
    problem: str = ""
    """One line that says why the list cannot be used; empty if it can."""

    def problem_at(self, now: datetime) -> str:
        """`problem`, or that the list is not valid at ``now``; empty if it can be used."""
        if self.crl is None:
            return self.problem
        if now < self.crl.last_update_utc:
            return f"{self.where}: is not valid before {moment(self.crl.last_update_utc)}"
        until = self.crl.next_update_utc
        if until is not None and now > until:
            return f"{self.where}: has expired on {moment(until)}"
        return ""

    def is_revoked(self, serial: int, now: datetime | None = None) -> bool:
        """Whether the certificate with this serial number is to be refused.

        True for every certificate while the list cannot be used.
        """
        if self.crl is None or self.problem_at(now or datetime.now(timezone.utc)):
            return True
        return self.crl.get_revoked_certificate_by_serial_number(serial) is not None

    def apply_to(self, credentials: Credentials) -> Credentials:
        """The credentials with this list in force, for a new `TlsContext`."""
        return attrs.evolve(credentials, check_revocation=True, crl=self.crl)


def load_revocations(
    path: str | os.PathLike[str],
    authorities: Sequence[x509.Certificate],
    now: datetime | None = None,
) -> Revocations:
    """Read a revocation list, PEM or DER, signed by one of ``authorities``.

    Never raises for what is in the file or about it: see `Revocations.problem`.
    """
    where = f"revocation list {printable(os.fspath(path))}"
    try:
        crl = parse_revocations(read_file(path, where, LARGEST_LIST), where, authorities)
    except ConfigError as error:
        return Revocations(where, None, str(error))
    revocations = Revocations(where, crl)
    return attrs.evolve(
        revocations, problem=revocations.problem_at(now or datetime.now(timezone.utc))
    )


def parse_revocations(
    data: bytes, where: str, authorities: Sequence[x509.Certificate]
) -> x509.CertificateRevocationList:
    """The list in ``data``; raises `ConfigError` unless it is one and a CA of ours signed it."""
    try:
        if b"-----BEGIN" in data:
            crl = x509.load_pem_x509_crl(data)
        else:
            crl = x509.load_der_x509_crl(data)
    except ValueError:
        raise ConfigError(f"{where}: is not a certificate revocation list (PEM or DER)") from None
    if not any(_signed(crl, authority) for authority in authorities):
        raise ConfigError(f"{where}: is not signed by this end's CA")
    return crl


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        key: Any = authority.public_key()  # of a kind that signs nothing: TypeError
        return crl.issuer == authority.subject and crl.is_signature_valid(key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
