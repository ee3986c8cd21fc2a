"""What another end hands over is a list only if a CA of ours says so, and it is newer (row Q4)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tunnelkit.errors import ConfigError
from tunnelkit.policy.keys import Authority
from tunnelkit.policy.newer_list import as_pem, newer_list
from tunnelkit.policy.revocation import Revocations

OURS = Authority.create("ours")
CREDENTIALS = OURS.issue("office").credentials
NOW = datetime.now(timezone.utc)


def pem(number: int, *serials: int, authority: Authority = OURS, **more: Any) -> bytes:
    revoked = dict.fromkeys(serials, NOW)
    return authority.revocation_list(revoked, number=number, **more).public_bytes(Encoding.PEM)


def here(number: int) -> Revocations:
    return Revocations("here", (OURS.revocation_list({}, number=number),))


def taken(data: bytes, current: Revocations | None = None) -> Revocations | None:
    return newer_list(data, "the list of b", CREDENTIALS, current)


def test_a_newer_list_is_taken_as_it_is_signed() -> None:
    found = taken(pem(3, 7), here(2))
    assert found is not None
    again = taken(as_pem(found), here(2))
    assert again is not None
    assert [crl.get_revoked_certificate_by_serial_number(7) is None for crl in again.crls] == [
        False
    ]
    assert taken(pem(1)) is not None


def test_a_list_that_is_as_old_or_older_changes_nothing() -> None:
    assert taken(pem(2, 7), here(2)) is None
    assert taken(pem(1, 7), here(2)) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not a certificate revocation list"),
        (pem(9, authority=Authority.create("ours")), "is not signed by this end's CA"),
        (pem(9) + pem(1, authority=Authority.create("of a peer")), "a list of another CA"),
        (pem(9) + pem(8), "one list of each CA"),
        (pem(9, days=1, now=NOW - timedelta(days=3)), "has expired on"),
        (pem(9, now=NOW + timedelta(days=3)), "is not valid before"),
    ],
)
def test_what_cannot_be_believed_or_would_let_nobody_in_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        taken(data, here(2))


def test_where_the_list_here_cannot_be_used_nobody_outside_mends_it() -> None:
    with pytest.raises(ConfigError, match="cannot be used: torn"):
        taken(pem(9), Revocations("here", (), "torn"))
