"""The ``--allow`` that would have allowed what was refused, for the log of who decides (Q5)."""

from __future__ import annotations

import shlex

from tunnelkit.policy.destination import LISTEN, SERVICE, UNIX, X11


def allow_option(kind: str, host: str, port: int) -> str:
    """``--allow`` with the narrowest rule for this; empty where there is none to write.

    ``kind`` is that of a rule; ``host`` an address, a name, a path or the name of a service, as
    `parse_destination` lets it pass: it is the far side's text, and must not become a pattern.
    """
    if not host.isprintable() or "*" in host or (kind == LISTEN and not port):
        return ""
    if kind == UNIX:
        return f"--allow {shlex.quote(f'unix:{host}')}"
    if kind == SERVICE:
        return f"--allow service:{host}"
    if kind == X11 and not host:
        return f"--allow x11::{port}"
    return f"--allow {kind}:{f'[{host}]' if ':' in host else host}:{port}"
