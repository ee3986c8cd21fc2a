"""Keys that are encrypted with a passphrase (row K6).

The passphrase is asked for on the terminal and forgotten once the key is decrypted. The key stays
in memory, so that a role whose settings are read again does not ask again; the file has to be the
same. While the reactor runs nobody is asked: a role would stand still until he answers. What may
wait is locked then, until somebody brings the passphrase (`unlock_identity`).
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
    WrongPassphrase,
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


def open_identity(
    path: str | os.PathLike[str], *, terms: Terms = STRICT, may_wait: bool = False
) -> Identity:
    """`load_identity`, for a file whose key may be encrypted; raises `ConfigError`.

    ``may_wait``: where nobody can be asked now it is locked instead of refused.
    """
    where = where_of(path)
    content = read_identity_file(path, where, terms)
    if not has_encrypted_key(content):
        return load_identity(path, terms=terms)
    place, digest = os.path.abspath(path), sha256(content).digest()
    known = _unlocked.get(place)
    if known is not None and known[0] == digest:
        identity = known[1]
    elif may_wait and not may_ask():
        identity = parse_identity(content, where, locked=True)
    else:
        identity = unlock(where, lambda passphrase: parse_identity(content, where, passphrase))
        _unlocked[place] = (digest, identity)
    check_dates(identity, where, datetime.now(timezone.utc))
    return attrs.evolve(identity, credentials=attrs.evolve(identity.credentials, use=terms.use))


def where_of(path: str | os.PathLike[str]) -> str:
    """What errors and prompts call the file."""
    return f"identity {printable(os.fspath(path))}"


def unlock_identity(
    path: str | os.PathLike[str], passphrase: bytes, *, terms: Terms = STRICT
) -> None:
    """From now on `open_identity` has the key of this very file.

    Raises `WrongPassphrase`, and `ConfigError` if the file is no good.
    """
    where = where_of(path)
    content = read_identity_file(path, where, terms)
    if has_encrypted_key(content):
        found = parse_identity(content, where, passphrase)
        _unlocked[os.path.abspath(path)] = (sha256(content).digest(), found)


def lock_identity(path: str | os.PathLike[str]) -> bool:
    """Forget the key of this file; whether it was a decrypted one."""
    return _unlocked.pop(os.path.abspath(path), None) is not None


def is_unlocked(path: str | os.PathLike[str]) -> bool:
    """Whether the key of this file has been decrypted in this process."""
    return os.path.abspath(path) in _unlocked


def unlock(where: str, open_with: Callable[[bytes], T]) -> T:
    """What ``open_with`` makes of the passphrase that the terminal is asked for.

    Raises `ConfigError` if there is no terminal, and if it has been wrong three times.
    """
    if not may_ask():
        raise ConfigError(
            f"{where}: the private key is encrypted with a passphrase, which can only be asked "
            "for on a terminal, when the program starts"
        )
    for attempt in range(1, ATTEMPTS + 1):
        passphrase = ask_passphrase(where)
        try:
            return open_with(passphrase)
        except WrongPassphrase:
            if attempt == ATTEMPTS:
                raise
            print("That is not it.", file=sys.stderr)
    raise AssertionError


def new_passphrase(what: str) -> bytes:
    """One that is typed twice; raises `ConfigError`."""
    if not may_ask():
        raise ConfigError("--passphrase: there is no terminal to ask for it: expected one")
    first = _ask(f"New passphrase for {what}: ")
    if not first:
        raise ConfigError("--passphrase: it is empty: expected one")
    if _ask("The same again: ") != first:
        raise ConfigError("--passphrase: the two are not the same: nothing has been written")
    return first


def ask_passphrase(where: str) -> bytes:
    """What is typed on the terminal."""
    return _ask(f"Passphrase of {where}: ")


def _ask(prompt: str) -> bytes:
    return getpass.getpass(prompt).encode("utf-8", "surrogateescape")


def may_ask() -> bool:
    """Whether somebody can be asked: not while a reactor runs."""
    running = sys.modules.get("twisted.internet.reactor")
    if running is not None and getattr(running, "running", False):
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
