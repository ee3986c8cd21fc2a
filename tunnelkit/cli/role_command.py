"""``tunnelkit ROLE ...``: a role in the foreground, as ``twistd -n --pidfile= ROLE ...`` runs it.

Row Q1: one program for everything, without a word of twistd for who does not know it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

SHORT = {
    "middle": "lstp-middle",
    "client": "lstp-client-end",
    "server": "lstp-server-end",
    "gate": "usher-gate",
    "portal": "usher-portal",
}
"""Other names of the roles that are used most."""


def role_names() -> list[str]:
    """What can stand for a role: the short names, then those of all roles installed."""
    from tunnelkit.roles.registry import roles

    return [*SHORT, *sorted(roles())]


def run_role(name: str, arguments: Sequence[str]) -> NoReturn:
    """Be the role until it ends; exits with its status."""
    from twisted.scripts.twistd import run

    sys.argv = ["tunnelkit", "--nodaemon", "--pidfile=", SHORT.get(name, name), *arguments]
    run()
    sys.exit(0)
