"""How long a role's own keys and its revocation list are good, as it shows that (row O7; X30)."""

from __future__ import annotations

from datetime import datetime, timezone

import attrs

from tunnelkit.net.role_status import metric
from tunnelkit.net.tls.context import Credentials
from tunnelkit.policy.revocation import Revocations


@attrs.frozen(kw_only=True, slots=False)
class KeyStatus:
    """At one moment."""

    revocation_list: str
    """Which one is in force, and how many entries it has; ``none``."""
    certificate_seconds: float = metric(
        "certificate_expiry_seconds",
        "Until its certificate, or one of those that it shows with it, expires",
    )
    list_age: float | None = metric(
        "revocation_list_age_seconds", "Since the oldest of its revocation lists was made"
    )
    list_usable: bool | None = metric(
        "revocation_list_usable", "1: the revocation list is in force; 0: nobody gets in"
    )


def key_status(
    credentials: Credentials, revocations: Revocations | None, now: datetime | None = None
) -> KeyStatus:
    """Of these; ``revocations`` None: nobody is revoked. ``now`` is the wall clock's."""
    now = now or datetime.now(timezone.utc)
    shown = (credentials.certificate, *credentials.chain)
    made = [crl.last_update_utc for crl in revocations.crls] if revocations is not None else []
    return KeyStatus(
        revocation_list=revocations.words if revocations is not None else "none",
        certificate_seconds=min((one.not_valid_after_utc - now).total_seconds() for one in shown),
        list_age=(now - min(made)).total_seconds() if made else None,
        list_usable=None if revocations is None else not revocations.problem_at(now),
    )
