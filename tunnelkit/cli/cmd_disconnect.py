"""``tunnelkit disconnect``: ends a running end's tunnels, and its dialling (row L14)."""

from __future__ import annotations

import argparse
from typing import Any

from tunnelkit.cli.control_client import add_control_argument, ask


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "disconnect", help="tell a running end to disconnect, and to stay so"
    )
    add_control_argument(parser)
    parser.add_argument(
        "--now", action="store_true", help="end what is open too, without letting it finish"
    )


def run(args: argparse.Namespace) -> int:
    """Say what the end does from now on."""
    answer = ask(args.control, "disconnect-now" if args.now else "disconnect")
    print(answer["state"])
    if answer["draining"]:
        print(f"channels that may finish within {answer['grace']:g} s: {answer['draining']}")
    return 0
