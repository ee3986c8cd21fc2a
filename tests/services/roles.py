"""The options of the installed roles, for tests."""

from __future__ import annotations

from typing import Any

from tunnelkit.roles.registry import roles
from tunnelkit.services.options import RoleOptions, options_for

ROLES = (
    *("lstp-middle", "lstp-client-end", "lstp-server-end"),
    *("usher-gate", "usher-portal", "tunnel-end"),
    *("wtls-proxy", "wtls-domain-proxy"),
)
"""Those that come with tunnelkit."""


def options_class(name: str) -> type[RoleOptions]:
    """The class of the options of ``twistd NAME``."""
    return options_for(roles()[name])


def parsed(name: str, *words: object) -> Any:
    """The configuration that ``twistd NAME WORDS`` is given."""
    options = options_class(name)()
    options.parseOptions(list(map(str, words)))
    return options.config
