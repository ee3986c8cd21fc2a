"""What can be seen without a network: libraries, settings, certificates, lists, limits."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from cryptography import x509
from cryptography.hazmat.backends.openssl.backend import backend

from tunnelkit.errors import ConfigError
from tunnelkit.net.tls.context import certificate_name, moment
from tunnelkit.policy.passphrases import is_unlocked
from tunnelkit.policy.revocation import list_in_force, load_revocations
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.services.doctor.finding import Finding, State, wrong
from tunnelkit.services.libraries import FLOORS, check_libraries
from tunnelkit.services.options import RoleOptions

FEW = 4096
"""Descriptors below which a role that many use is soon at its end."""
_LATE = 0.2
"""Share of its life below which a certificate is old."""


def read_options(options: RoleOptions, words: Sequence[str]) -> tuple[Finding, Any]:
    """The role's configuration as ``words`` and its file have it; None if it cannot be used."""
    try:
        options.parse(words)
    except ConfigError as error:
        return wrong("settings", error), None
    given = len(options.settings.names)
    return Finding("settings", State.OK, f"{options.tapname}: {given} given, all understood"), (
        options.config
    )


def look_here(
    config: Any,
    now: datetime | None = None,
    version_of: Callable[[str], str] = metadata.version,
) -> Iterator[Finding]:
    """What this machine has for a role that is configured so."""
    moment_now = now or datetime.now(timezone.utc)
    yield _libraries(version_of)
    yield _descriptors()
    identity = getattr(config, "identity", None)
    if identity is not None:
        yield validity("identity", identity.credentials.certificate, moment_now)
    if isinstance(config, EndConfig) and config.identity.locked:
        yield _passphrase(config)
    crl = getattr(config, "crl_file", None)
    if crl is not None and list_in_force(crl, config.identity_file, None):
        yield _revocations(crl, identity, moment_now)
    if isinstance(config, EndConfig):
        yield _rules(config)


def _libraries(version_of: Callable[[str], str]) -> Finding:
    try:
        check_libraries(version_of)
    except ConfigError as error:
        found = wrong("libraries", error)
        return Finding(
            found.step,
            found.state,
            found.found,
            means="it has faults that others can use",
            do="pip install --upgrade tunnelkit, in the environment that the role runs in",
        )
    known = ", ".join(f"{name} {version_of(name)}" for name in FLOORS)
    return Finding("libraries", State.OK, f"{known}, {backend.openssl_version_text()}")


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < FEW:
        return Finding(
            "descriptors",
            State.WARNING,
            f"at most {hard}",
            means=f"about {max(0, hard - 128) // 2} channels, or waiting ends, and no more",
            do="LimitNOFILE=65536 in the unit, --ulimit nofile=65536 for a container",
        )
    return Finding("descriptors", State.OK, f"at most {hard}; a role takes them all")


def validity(step: str, certificate: x509.Certificate, now: datetime) -> Finding:
    """Whether a certificate is in its time."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    try:
        name = certificate_name(certificate)
    except ConfigError as error:
        return wrong(step, error)
    if now < begin:
        return wrong(step, f"{name}: it is not valid before {moment(begin)}")
    if now > end:
        return wrong(step, f"{name}: it has expired on {moment(end)}")
    days = (end - now).days
    found = f"{name}, valid until {moment(end)}, {days} days more"
    if (end - now) / (end - begin) < _LATE:
        return Finding(
            step, State.WARNING, found, means="it is soon at its end", do="tunnelkit keys renew"
        )
    return Finding(step, State.OK, found)


def _passphrase(config: EndConfig) -> Finding:
    if is_unlocked(config.identity_file):
        return Finding("passphrase", State.OK, "it is right; the role asks for it too")
    return Finding(
        "passphrase",
        State.WARNING,
        "the private key is encrypted, and there is no terminal to ask for it here",
        means="without a terminal the role starts locked, and its handshake cannot be tried now",
        do=f"{config.unlocking} asks for it, once the role runs",
    )


def _revocations(path: str, identity: Any, now: datetime) -> Finding:
    authorities = identity.credentials.authorities if identity is not None else ()
    listed = load_revocations(path, authorities, now)
    problem = listed.problem_at(now)
    if problem:
        return wrong("revocation list", f"{problem}: nobody gets in")
    newest = max(crl.last_update_utc for crl in listed.crls)
    return Finding(
        "revocation list", State.OK, f"{path}: of {moment(newest)}, {(now - newest).days} days old"
    )


def _rules(config: EndConfig) -> Finding:
    if not config.rules:
        return Finding("rules", State.OK, "the other end may reach nothing from here")
    shown = ", ".join(rule.text for rule in config.rules[:8])
    more = f" and {len(config.rules) - 8} more" if len(config.rules) > 8 else ""
    return Finding("rules", State.OK, f"the other end may reach {shown}{more}")
