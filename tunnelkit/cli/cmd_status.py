"""``tunnelkit status``: what a running role is doing (row O2)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from collections.abc import Iterator, Mapping
from typing import Any

from tunnelkit.cli.control_client import add_control_argument, ask
from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("status", help="what a running role is doing")
    add_control_argument(parser)
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
    if args.open:
        return _open(args.control)
    status = ask(args.control, "status")
    state = status.get("state")
    result = int(args.check and state in ("disconnected", "dialling", "down", "draining"))
    if args.json:
        print(json.dumps(status))
        return result
    width = max(map(len, status), default=0)
    for name, value in status.items():
        for label, shown in _lines(name.replace("_", " "), value):
            print(f"{label:<{width}}  {shown or '-'}")
    return result


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
