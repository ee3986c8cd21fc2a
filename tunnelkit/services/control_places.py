"""Where the control sockets of this machine's roles are, without anybody saying so (row Q7).

A role that was not told ``--control`` puts its socket into `own_directory`; one that was told puts
a link to it there. ``tunnelkit status`` looks at all of `places`.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import stat
from collections.abc import Mapping

NAME = "tunnelkit"
SUFFIX = ".control"
SYSTEM = "/run"


def own_directory(environment: Mapping[str, str], system: str = SYSTEM) -> str | None:
    """A directory of this user alone, made if need be; None: there is no place for one."""
    base = environment.get("XDG_RUNTIME_DIR", "")
    if not base and os.geteuid() == 0:
        base = system
    if not os.path.isabs(base):
        return None
    path = os.path.join(base, NAME)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
    except OSError:
        return None
    own = status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode)
    return path if own and not status.st_mode & 0o077 else None


def new_place(role: str, directory: str) -> str:
    """A name that no other role of this machine has."""
    return os.path.join(directory, f"{role}-{secrets.token_hex(3)}{SUFFIX}")


def link_to(socket: str, role: str, directory: str) -> str | None:
    """A link to a socket elsewhere; None: it cannot be made."""
    path = new_place(role, directory)
    try:
        os.symlink(socket, path)
    except OSError:
        return None
    return path


def places(environment: Mapping[str, str], system: str = SYSTEM) -> list[str]:
    """All sockets there are, also those of units, whose RuntimeDirectory is ``tunnelkit-ROLE``."""
    bases = {environment.get("XDG_RUNTIME_DIR", ""), system} - {""}
    if os.geteuid() == 0:
        bases.update(glob.glob(os.path.join(glob.escape(system), "user", "*")))
    found: set[str] = set()
    for base in map(glob.escape, sorted(bases)):
        found.update(glob.glob(os.path.join(base, NAME, f"*{SUFFIX}")))
        found.update(glob.glob(os.path.join(base, f"{NAME}-*", "control")))
    return sorted(path for path in found if not os.path.isdir(path))
