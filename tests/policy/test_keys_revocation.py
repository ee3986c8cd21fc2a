"""Revocation lists: read, believed only if the CA signed them, and closed when in doubt."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tunnelkit.net.tls.context import Listing
from tunnelkit.policy.keys import Authority
from tunnelkit.policy.revocation import load_revocations

AUTHORITY = Authority.create()
TRUSTED = (AUTHORITY.certificate,)
NOW = datetime.now(timezone.utc)


def listed(serial: int) -> list[Listing]:
    """How the list names a certificate of the CA."""
    return [(AUTHORITY.certificate.subject.public_bytes(), serial)]


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_list_says_who_is_revoked(tmp_path: Path, encoding: Encoding) -> None:
    path = tmp_path / "revoked.crl"
    path.write_bytes(AUTHORITY.revocation_list({7: NOW, 9: NOW}).public_bytes(encoding))
    revocations = load_revocations(path, TRUSTED)
    assert revocations.problem == ""
    assert [serial for serial in range(6, 11) if revocations.is_revoked(listed(serial))] == [7, 9]


def test_a_list_that_expires_later_refuses_everybody_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "revoked.crl"
    path.write_bytes(AUTHORITY.revocation_list({}, days=2).public_bytes(Encoding.PEM))
    revocations = load_revocations(path, TRUSTED)
    assert not revocations.is_revoked(listed(1))
    assert revocations.is_revoked(listed(1), NOW + timedelta(days=3))
    assert "has expired on" in revocations.problem_at(NOW + timedelta(days=3))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no such file"),
        (b"", "is not a certificate revocation list"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "is not a certificate rev"),
        (TRUSTED[0].public_bytes(Encoding.PEM), "is not a certificate revocation list"),
        (
            Authority.create().revocation_list({}).public_bytes(Encoding.PEM),
            "is not signed by this end's CA",
        ),
        (
            AUTHORITY.revocation_list({}, days=1, now=NOW - timedelta(days=3)).public_bytes(
                Encoding.PEM
            ),
            "has expired on",
        ),
        (
            AUTHORITY.revocation_list({}, now=NOW + timedelta(days=1)).public_bytes(Encoding.PEM),
            "is not valid before",
        ),
    ],
)
def test_a_list_that_cannot_be_used_refuses_everybody(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "revoked.crl"
    if content is not None:
        path.write_bytes(content)
    revocations = load_revocations(path, TRUSTED)
    assert problem in revocations.problem
    assert str(path) in revocations.problem
    assert revocations.is_revoked(listed(1))
    assert revocations.apply_to(AUTHORITY.issue("a").credentials).check_revocation


def test_a_ca_of_the_same_name_cannot_sign_the_list(tmp_path: Path) -> None:
    namesake = Authority.create()
    assert namesake.certificate.subject == AUTHORITY.certificate.subject
    path = tmp_path / "revoked.crl"
    forged = attrs.evolve(namesake, certificate=AUTHORITY.certificate).revocation_list({})
    path.write_bytes(forged.public_bytes(Encoding.DER))
    assert "is not signed by this end's CA" in load_revocations(path, TRUSTED).problem
