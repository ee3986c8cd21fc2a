"""``tunnelkit status``: what a running role is doing (row O2)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tunnelkit.cli.control_client import add_control_argument, ask, running_roles
from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable
from tunnelkit.services.colour import GREEN, RED, YELLOW, painted


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "status", help="what the running roles of this machine are doing"
    )
    add_control_argument(parser, required=False)
    parser.add_argument(
        "--open",
        action="store_true",
        help="print the address of its page, token included, and open it where there is a browser",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit status 1 if it is an end that is not connected and does not wait for others",
    )


def run(args: argparse.Namespace) -> int:
    """Print what the role says of itself, one thing a line."""
    if args.control is None:
        if args.open:
            raise ConfigError("--open: expected --control PATH of the role too")
        return _all(args)
    if args.open:
        return _open(args.control)
    status = ask(args.control, "status")
    result = int(args.check and _is_down(status))
    if args.json:
        print(json.dumps(status))
        return result
    width = max(map(len, status), default=0)
    for name, value in status.items():
        for label, shown in _lines(name.replace("_", " "), value):
            print(f"{label:<{width}}  {shown or '-'}")
    return result


def _is_down(status: Mapping[str, object]) -> bool:
    return status.get("state") in ("disconnected", "dialling", "down", "draining", "locked")


def _all(args: argparse.Namespace) -> int:
    """All roles that this user can ask: a few lines each."""
    found = list(running_roles())
    if args.json:
        print(json.dumps([{"control": place, **status} for place, status in found]))
    elif not found:
        print("no role of this user is running here (as root: of any user)")
    else:
        print("\n\n".join("\n".join(_overview(*one)) for one in found))
    return int(args.check and (not found or any(_is_down(status) for _, status in found)))


def _overview(place: str, status: Mapping[str, Any]) -> Iterator[str]:
    """One role: what it is, how it is, and what may need somebody's attention."""
    name = f" {printable(str(status['name']))}" if status.get("name") else ""
    state = status.get("state", "running")
    colour = RED if _is_down(status) else GREEN if state in ("connected", "running") else YELLOW
    shown_state = painted(str(state), colour, sys.stdout)
    yield f"{status.get('role')}{name}: {shown_state}, up since {_when(status.get('up_since', ''))}"
    rules = status.get("rules")
    shown = {
        "tunnel": status.get("tunnel"),
        "waits for": _waits_for(status, place),
        "where": status.get("where"),
        "listening on": status.get("listening"),
        "connected to": status.get("peers"),
        "open here": status.get("ports"),
        "allows": None if rules is None else rules or "nothing",
        "last error": status.get("last_error"),
        "last problem": _problem(status),
        "certificate": _until(status),
        "revoked": status.get("revocation_list"),
        "version": status.get("version"),
        "control": place,
    }
    for label, value in shown.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
        if text:
            yield f"  {label:<13} {printable(text)}"


def _waits_for(status: Mapping[str, Any], place: str) -> str:
    locked = status.get("locked")
    return f"passphrase of {locked}: tunnelkit connect --control {place}" if locked else ""


def _until(status: Mapping[str, Any]) -> str:
    end = status.get("certificate_until")
    return f"until {_when(end)}" if end else ""


def _problem(status: Mapping[str, Any]) -> str:
    """The newest warning, which may be over, and when that was."""
    problem = status.get("last_problem")
    return f"{_when(status.get('last_problem_at', ''))}: {problem}" if problem else ""


def _when(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return printable(text)


def _open(control: str) -> int:
    """Print where the role's page is, and have a browser show it."""
    places: Any = ask(control, "page").get("pages")
    if not places:
        raise ConfigError("this role shows no page on a port: expected --status [HOST:]PORT there")
    address, token_file = places[0]["address"], places[0]["token_file"]
    try:
        with open(token_file, encoding="ascii") as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a token"
        raise ConfigError(
            f"{printable(token_file)}: {reason}: expected the token of the role's page"
        ) from None
    url = f"http://{address}/#{token}"
    print(url, flush=True)
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(url)
    return 0


def _lines(name: str, value: object) -> Iterator[tuple[str, str]]:
    """What to print of one field: one line, or one for each record of a list."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        for record in value:
            yield name, _fields(record)
            name = ""
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    elif isinstance(value, dict):
        yield name, _durations(value) if "counts" in value else _fields(value)
    else:
        yield name, str(value)


def _fields(record: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in record.items())


def _durations(histogram: Mapping[str, Any]) -> str:
    count = sum(histogram["counts"])
    mean = 1000 * histogram["seconds"] / count if count else 0.0
    return f"{count}, {mean:.1f} ms each"
