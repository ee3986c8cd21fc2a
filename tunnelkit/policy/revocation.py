"""Revocation lists: read, checked against the CAs, and asked about certificates (X17, X32).

A file holds the list of one CA (PEM or DER), or one of each CA of a chain (PEM).

A list that was configured and cannot be used refuses everybody, so reading
never raises: what is wrong stays with the result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from tunnelkit.errors import ConfigError
from tunnelkit.net.tls.context import Credentials, Listing, moment
from tunnelkit.policy.files import read_file
from tunnelkit.policy.list_numbers import ListNumbers
from tunnelkit.policy.printable import printable

_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)

LIST_FILE = "revoked.crl"
"""What ``tunnelkit keys`` calls the list; beside an identity it is in force unasked (row Q4)."""
LARGEST_LIST = 16_777_216
"""Bytes; room for some 400,000 revoked certificates."""


@attrs.frozen(eq=False)
class Revocations:
    """One reading of a revocation list; a change of the file means a new object (K2)."""

    where: str
    """The file, as error messages name it."""
    crls: tuple[x509.CertificateRevocationList, ...]
    """Empty: the file cannot be used at all, see ``problem``."""
    problem: str = ""
    """One line that says why the list cannot be used; empty if it can."""

    @property
    def entries(self) -> str:
        """How long it is: ``1 entry``."""
        count = sum(map(len, self.crls))
        return "1 entry" if count == 1 else f"{count} entries"

    @property
    def words(self) -> str:
        """Which list, and how long it is: ``keys/revoked.crl, 1 entry``."""
        if not self.crls:
            return self.problem
        return f"{self.where.removeprefix('revocation list ')}, {self.entries}"

    def problem_at(self, now: datetime) -> str:
        """`problem`, or that the list is not valid at ``now``; empty if it can be used."""
        if not self.crls:
            return self.problem
        for crl in self.crls:
            if now < crl.last_update_utc:
                return f"{self.where}: is not valid before {moment(crl.last_update_utc)}"
            until = crl.next_update_utc
            if until is not None and now > until:
                return f"{self.where}: has expired on {moment(until)}"
        return ""

    def is_revoked(self, chain: Iterable[Listing], now: datetime | None = None) -> bool:
        """Whether a peer with these certificates is to be refused.

        True for everybody while the list cannot be used.
        """
        if not self.crls or self.problem_at(now or datetime.now(timezone.utc)):
            return True
        return self.names(chain)

    def names(self, chain: Iterable[Listing]) -> bool:
        """Whether one of the certificates is on a list, be the list valid or not."""
        return any(
            crl.issuer.public_bytes() == issuer
            and crl.get_revoked_certificate_by_serial_number(serial) is not None
            for issuer, serial in chain
            for crl in self.crls
        )

    def apply_to(self, credentials: Credentials) -> Credentials:
        """The credentials with this list in force, for a new `TlsContext`."""
        return attrs.evolve(credentials, check_revocation=True, crls=self.crls)


def entries_in_force(revocations: Revocations | None) -> str:
    """For a ready line: how long the list in force is, what is wrong with it, or ``none``."""
    if revocations is None:
        return "none"
    return revocations.problem or revocations.entries


def list_beside(identity_file: str | os.PathLike[str]) -> str:
    """The list that is in force with this identity unless another one is named."""
    return os.path.join(os.path.dirname(os.path.abspath(identity_file)), LIST_FILE)


def list_in_force(crl_file: str | None, identity_file: str, before: Revocations | None) -> bool:
    """Whether there is a list to go by: always, but for one beside the identity that has never
    been there. One that was and is gone lets nobody in."""
    if crl_file is None:
        return False
    unasked = crl_file == list_beside(identity_file)
    return not unasked or before is not None or os.path.lexists(crl_file)


def load_revocations(
    path: str | os.PathLike[str],
    authorities: Sequence[x509.Certificate],
    now: datetime | None = None,
    seen: ListNumbers | None = None,
) -> Revocations:
    """Read a revocation list, PEM or DER, signed by one of ``authorities`` (`known_authorities`).

    Beside it there may be lists of CAs that only a peer's chain will show: their signatures are
    checked with that chain.

    With ``seen``, a list that is older than one seen before is not believed (X30).
    Never raises for what is in the file or about it: see `Revocations.problem`.
    """
    where = f"revocation list {printable(os.fspath(path))}"
    try:
        crls = parse_revocations(read_file(path, where, LARGEST_LIST), where, authorities)
    except ConfigError as error:
        return Revocations(where, (), str(error))
    subjects = {authority.subject for authority in authorities}
    older = seen and seen.older(crl for crl in crls if crl.issuer in subjects)
    if older:
        problem = (
            f"is number {older[0]}, and number {older[1]} was seen before: expected the newest"
        )
        return Revocations(where, (), f"{where}: {problem}")
    revocations = Revocations(where, crls)
    return attrs.evolve(
        revocations, problem=revocations.problem_at(now or datetime.now(timezone.utc))
    )


def parse_revocations(
    data: bytes, where: str, authorities: Sequence[x509.Certificate]
) -> tuple[x509.CertificateRevocationList, ...]:
    """The lists in ``data``; raises `ConfigError` unless they are, and a CA of ours signed one."""
    crls = read_lists(data, where)
    subjects = {authority.subject for authority in authorities}
    ours = [crl for crl in crls if crl.issuer in subjects]
    signed = all(any(_signed(crl, authority) for authority in authorities) for crl in ours)
    if not (ours and signed):
        raise ConfigError(f"{where}: is not signed by this end's CA")
    return crls


def read_lists(data: bytes, where: str) -> tuple[x509.CertificateRevocationList, ...]:
    """The lists in ``data``, whoever signed them; raises `ConfigError` unless there is one."""
    try:
        if b"-----BEGIN" in data:
            crls = tuple(map(x509.load_pem_x509_crl, _BLOCK.findall(data)))
        else:
            crls = (x509.load_der_x509_crl(data),)
    except ValueError:
        crls = ()
    if not crls:
        raise ConfigError(f"{where}: is not a certificate revocation list (PEM or DER)")
    return crls


def known_authorities(credentials: Credentials) -> tuple[x509.Certificate, ...]:
    """The CAs whose lists can be checked at once: the trusted ones, and those above this end."""
    return (*credentials.authorities, *credentials.chain)


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        key: Any = authority.public_key()  # of a kind that signs nothing: TypeError
        return crl.issuer == authority.subject and crl.is_signature_valid(key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
