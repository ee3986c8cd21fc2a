"""``tunnelkit ROLE ...``: a role in the foreground, as ``twistd -n --pidfile= ROLE ...`` runs it.

Row Q1: one program for everything, without a word of twistd for who does not know it.
"""

from __future__ import annotations

import sys
import textwrap
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
_LEFT = 12
"""Where the meaning begins."""


def role_names() -> list[str]:
    """What can stand for a role: the short names, then those of all roles installed."""
    from tunnelkit.roles.registry import roles

    return [*SHORT, *sorted(roles())]


def about_roles() -> str:
    """The roles, as the help of the program lists them, on 80 columns."""
    from tunnelkit.roles.registry import roles

    installed = roles()
    others = sorted(set(installed) - set(SHORT.values()))
    lines = ["roles (tunnelkit ROLE --help says more; everything behind ROLE is for the role):"]
    for name in (*SHORT, *others):
        about = installed[SHORT.get(name, name)].description
        first, *more = textwrap.wrap(about, 80 - _LEFT)
        if len(name) > _LEFT - 4:
            lines += [f"  {name}", f"{'':{_LEFT}}{first}"]
        else:
            lines.append(f"  {name:<{_LEFT - 2}}{first}")
        lines += [f"{'':{_LEFT}}{line}" for line in more]
    return "\n".join(lines)


def run_role(name: str, arguments: Sequence[str]) -> NoReturn:
    """Be the role until it ends; exits with its status."""
    from twisted.scripts.twistd import run

    sys.argv = ["tunnelkit", "--nodaemon", "--pidfile=", SHORT.get(name, name), *arguments]
    run()
    sys.exit(0)
