"""Keys that are encrypted with a passphrase (row K6).

The passphrase is asked for on the terminal and forgotten once the key is decrypted. The key stays
in memory, so that a role whose settings are read again does not ask again; the file has to be the
same. While the reactor runs nobody is asked: a role would stand still until he answers.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from hashlib import sha256
from typing import TypeVar

import attrs

from tunnelkit.errors import ConfigError
from tunnelkit.policy.identity import (
    STRICT,
    Identity,
    Terms,
    check_dates,
    has_encrypted_key,
    load_identity,
    parse_identity,
    read_identity_file,
)
from tunnelkit.policy.printable import printable

ATTEMPTS = 3

_unlocked: dict[str, tuple[bytes, Identity]] = {}
"""What has been decrypted in this process, by path, with the hash of the file."""

T = TypeVar("T")


def open_identity(path: str | os.PathLike[str], *, terms: Terms = STRICT) -> Identity:
    """`load_identity`, for a file whose key may be encrypted; raises `ConfigError`."""
    where = f"identity {printable(os.fspath(path))}"
    content = read_identity_file(path, where, terms)
    if not has_encrypted_key(content):
        return load_identity(path, terms=terms)
    place, digest = os.path.abspath(path), sha256(content).digest()
    known = _unlocked.get(place)
    if known is None or known[0] != digest:
        found = unlock(where, lambda passphrase: parse_identity(content, where, passphrase))
        _unlocked[place] = known = (digest, found)
    identity = known[1]
    check_dates(identity, where, datetime.now(timezone.utc))
    return attrs.evolve(identity, credentials=attrs.evolve(identity.credentials, use=terms.use))


def unlock(where: str, open_with: Callable[[bytes], T]) -> T:
    """What ``open_with`` makes of the passphrase that the terminal is asked for.

    Raises `ConfigError` if there is no terminal, and if it has been wrong three times.
    """
    if not _may_ask():
        raise ConfigError(
            f"{where}: the private key is encrypted with a passphrase, which can only be asked "
            "for on a terminal, when the program starts"
        )
    for attempt in range(1, ATTEMPTS + 1):
        passphrase = _ask(f"Passphrase of {where}: ")
        try:
            return open_with(passphrase)
        except ConfigError as error:
            if attempt == ATTEMPTS or "passphrase is wrong" not in str(error):
                raise
            print("That is not it.", file=sys.stderr)
    raise AssertionError


def new_passphrase(what: str) -> bytes:
    """One that is typed twice; raises `ConfigError`."""
    if not _may_ask():
        raise ConfigError("--passphrase: there is no terminal to ask for it: expected one")
    first = _ask(f"New passphrase for {what}: ")
    if not first:
        raise ConfigError("--passphrase: it is empty: expected one")
    if _ask("The same again: ") != first:
        raise ConfigError("--passphrase: the two are not the same: nothing has been written")
    return first


def _ask(prompt: str) -> bytes:
    return getpass.getpass(prompt).encode("utf-8", "surrogateescape")


def _may_ask() -> bool:
    """Whether somebody can be asked: not while a reactor runs."""
    running = sys.modules.get("twisted.internet.reactor")
    if running is not None and getattr(running, "running", False):
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
