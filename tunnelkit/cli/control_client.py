"""How `tunnelkit` talks to a running role (see `tunnelkit.services.control`)."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

from tunnelkit.errors import ConfigError, TunnelkitError
from tunnelkit.net.sockets.tcp import remove_socket
from tunnelkit.policy.printable import printable
from tunnelkit.services.control_places import places

_PATIENCE = 10.0
"""Seconds to wait for the answer."""
_LONGEST_ANSWER = 1 << 20


def add_control_argument(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Which role is meant."""
    parser.add_argument(
        "--control",
        metavar="PATH",
        required=required,
        help="the control socket of the role, as its own --control says",
    )


def ask(path: str, command: str, patience: float = _PATIENCE) -> dict[str, object]:
    """The role's answer to ``command``, which may take ``patience`` seconds; raises `ConfigError`
    or `TunnelkitError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        try:
            sock.connect(path)
        except OSError as error:
            raise ConfigError(
                f"--control {printable(path)}: {error.strerror or error}: expected the control "
                "socket of a running role"
            ) from None
        try:
            sock.sendall(command.encode("ascii") + b"\n")
            answer = b""
            while len(answer) < _LONGEST_ANSWER and (piece := sock.recv(65536)):
                answer += piece
            parsed = json.loads(answer)
        except (OSError, ValueError):
            raise TunnelkitError(f"the role at {printable(path)} gives no answer") from None
    if not isinstance(parsed, dict) or "error" in parsed:
        reason = parsed.get("error") if isinstance(parsed, dict) else "no object"
        raise TunnelkitError(f"the role at {printable(path)} says: {reason}")
    return parsed


def running_roles() -> Iterator[tuple[str, dict[str, Any]]]:
    """Control sockets of all roles that this user can ask, and what each says of itself."""
    for place in places(os.environ):
        with contextlib.suppress(TunnelkitError):
            yield place, ask(place, "status")
            continue
        # What a role left behind that was killed; a socket that is in use stays.
        remove_socket(os.path.realpath(place))
        if os.path.islink(place) and not os.path.exists(place):
            with contextlib.suppress(OSError):
                os.unlink(place)
