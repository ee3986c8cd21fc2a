"""Ports at which clients may have to log in: the users file, and the option that names it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import TypeVar

from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import parse_listen
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings

Config = TypeVar("Config")


def ports_with_logins(
    settings: Settings, name: str, make: Callable[[str, int, Mapping[str, str] | None], Config]
) -> list[Config]:
    """``make(address, port, users)`` for each ``--NAME [HOST:]PORT``.

    ``users`` are those of the file that ``--NAME-auth-file`` names, None without it. Raises
    `ConfigError`.
    """
    file = settings.one(f"{name}-auth-file")
    users = file.parsed(read_users) if file is not None else None
    ports = settings.all(name)
    if file is not None and not ports:
        file.wrong("there is no server that it could be for", f"--{name} as well")
    return [make(*given.parsed(parse_listen), users) for given in ports]


def read_users(path: str) -> Mapping[str, str]:
    """Passwords by user name from a file with a line ``USER:PASSWORD`` for each.

    Only its owner may be able to read it. Raises `ConfigError`.
    """
    shown = printable(path, 80)
    try:
        with open(path, encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigError(f"users file {shown} can be read by others; expected mode 0600")
            lines = file.read(1 << 20).splitlines()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"users file {shown}: {why}; expected lines USER:PASSWORD") from None
    users: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        user, _, password = line.partition(":")
        if not user or not password or max(len(user.encode()), len(password.encode())) > 255:
            raise ConfigError(
                f"users file {shown}, line {number}: expected USER:PASSWORD, 1 to 255 bytes each"
            )
        users[user] = password
    if not users:
        raise ConfigError(f"users file {shown} names nobody; expected lines USER:PASSWORD")
    return users
