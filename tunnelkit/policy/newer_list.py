"""Whether a revocation list of another end takes the place of the one here (row Q4)."""

from __future__ import annotations

from datetime import datetime, timezone

from cryptography.hazmat.primitives.serialization import Encoding

from tunnelkit.errors import ConfigError
from tunnelkit.net.tls.context import Credentials
from tunnelkit.policy.list_numbers import list_number
from tunnelkit.policy.revocation import Revocations, known_authorities, parse_revocations


def newer_list(
    data: bytes,
    where: str,
    credentials: Credentials,
    current: Revocations | None,
    now: datetime | None = None,
) -> Revocations | None:
    """What is in ``data``, if it is newer than ``current``; None if it is not.

    It must be usable at once, and signed by CAs of ours: whoever hands it over may be anybody.
    Raises `ConfigError`; ``where`` is what that calls it.
    """
    crls = parse_revocations(data, where, known_authorities(credentials))
    subjects = {authority.subject for authority in known_authorities(credentials)}
    if any(crl.issuer not in subjects for crl in crls):
        raise ConfigError(f"{where}: has a list of another CA: expected those of this end's only")
    found = Revocations(where, crls)
    if problem := found.problem_at(now or datetime.now(timezone.utc)):
        raise ConfigError(problem)
    numbers = {crl.issuer: list_number(crl) for crl in crls}
    if len(numbers) < len(crls) or None in numbers.values():
        raise ConfigError(f"{where}: expected one list of each CA, with a number")
    if current is None:
        return found
    if not current.crls:
        raise ConfigError(f"{where}: the one here cannot be used: {current.problem}")
    known = {crl.issuer: list_number(crl) or 0 for crl in current.crls}
    if not known.keys() <= numbers.keys():
        raise ConfigError(f"{where}: does not have a list of each CA that the one here has")
    pairs = [(number or 0, known.get(issuer, -1)) for issuer, number in numbers.items()]
    if any(new < old for new, old in pairs) or all(new == old for new, old in pairs):
        return None
    return found


def as_pem(revocations: Revocations) -> bytes:
    """The lists as a file has them."""
    return b"".join(crl.public_bytes(Encoding.PEM) for crl in revocations.crls)
