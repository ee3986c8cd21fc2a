"""``tunnelkit status``: what a running role is doing (row O2)."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tunnelkit.cli.control_client import add_control_argument, ask


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("status", help="what a running role is doing")
    add_control_argument(parser)
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit status 1 if it is an end that is not connected and does not wait for others",
    )


def run(args: argparse.Namespace) -> int:
    """Print what the role says of itself, one thing a line."""
    status = ask(args.control, "status")
    state = status.get("state")
    result = int(args.check and state in ("disconnected", "dialling", "down", "draining"))
    if args.json:
        print(json.dumps(status))
        return result
    width = max(map(len, status), default=0)
    for name, value in status.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        print(f"{name.replace('_', ' '):<{width}}  {shown or '-'}")
    return result
