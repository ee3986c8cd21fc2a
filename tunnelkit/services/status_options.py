"""The options of ``--status``: where a role shows what it does."""

from __future__ import annotations

import os
from ipaddress import ip_address

import attrs

from tunnelkit.policy.destination import parse_listen
from tunnelkit.policy.settings import Option, Settings

STATUS = (
    Option(
        "status",
        "unix:PATH|[HOST:]PORT",
        "on which state and metrics are served over HTTP; a port is on loopback, with a token",
        repeatable=True,
    ),
    Option(
        "status-token-file",
        "FILE",
        "for the token of --status (default: in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR)",
        files="*",
    ),
)


@attrs.frozen
class StatusPlaces:
    """What the two options say."""

    paths: tuple[str, ...] = ()
    """Of unix sockets."""
    addresses: tuple[tuple[str, int], ...] = ()
    token_file: str = ""
    """Empty: the default one."""

    def __bool__(self) -> bool:
        return bool(self.paths or self.addresses)


def status_of(settings: Settings) -> StatusPlaces:
    """What the settings ask for; raises `ConfigError`."""
    paths, addresses = [], []
    for given in settings.all("status"):
        if given.text.startswith("unix:"):
            paths.append(os.path.abspath(given.text.removeprefix("unix:")))
            continue
        address, port = given.parsed(parse_listen)
        if not ip_address(address).is_loopback:
            given.wrong("it is not on this machine alone", "127.0.0.1:PORT, [::1]:PORT or a path")
        addresses.append((address, port))
    token_file = settings.one("status-token-file")
    if token_file is not None and not addresses:
        token_file.wrong("no port needs a token", "--status [HOST:]PORT too")
    where = os.path.abspath(token_file.text) if token_file is not None else ""
    return StatusPlaces(tuple(paths), tuple(addresses), where)
