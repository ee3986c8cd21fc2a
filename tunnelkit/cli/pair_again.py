"""``tunnelkit pair --again``: both keys are renewed through the tunnel that is up (row Q2)."""

from __future__ import annotations

import argparse
from typing import Any

from tunnelkit.cli.control_client import ask, running_roles
from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable

_PATIENCE = 60.0
"""Seconds that the two ends may take: each of their steps has 10."""
_OTHERS = (
    "middle", "server", "gate", "listen", "code", "allow", "publish", "issue", "tunnel", "via",
    "forward", "socks", "http_proxy", "once", "ask", "target",
)  # fmt: skip
"""Options that are for pairing by a code."""


def pair_again(args: argparse.Namespace) -> int:
    """Have the running end do it, and say what came of it: 1 if a peer's key stays."""
    for name in _OTHERS:
        if getattr(args, name):
            option = "CODE" if name == "code" else f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: the two are paired: expected --again alone")
    found = ask(args.control or _running(args.name), "pair-again", _PATIENCE)
    return _tell(found)


def _running(name: str | None) -> str:
    """The control socket of the end ``name``, or of the only one here."""
    ends = [
        (place, str(status["name"]))
        for place, status in running_roles()
        if "certificate_until" in status and name in (None, status.get("name"))
    ]
    if not ends:
        which = f"end {printable(name)}" if name else "end"
        raise ConfigError(f"no {which} is running here: expected one, or --control PATH")
    if len(ends) > 1:
        known = ", ".join(sorted({printable(one) for _, one in ends}))
        raise ConfigError(
            f"several ends are running here ({known}): expected --control PATH of one, as "
            "`tunnelkit status` shows it, or another --name"
        )
    return ends[0][0]


def _tell(found: dict[str, Any]) -> int:
    stays = False
    for peer in found["peers"]:
        who = printable(peer["peer"])
        if peer["problem"]:
            stays = True
            print(f"{who}: its key stays: {peer['problem']}")
        elif peer["in_force"]:
            print(f"{who}: its key is {peer['key']} now")
        else:
            print(f"{who}: its key will be {peer['key']}, once all its peers know it")
    own = f"{printable(found['name'])}: the key here"
    waits = ", ".join(map(printable, found["waits_for"]))
    if waits:
        print(f"{own} will be {found['key']}, once these have connected and know it: {waits}")
    elif all(peer["problem"] for peer in found["peers"]):
        print(f"{own} stays")
    else:
        print(f"{own} is {found['key']} now")
    return int(stays)
