"""``tunnelkit sessions``: the sessions of a running Communication Server (row S9)."""

from __future__ import annotations

import argparse
from typing import Any

from tunnelkit.cli.control_client import add_control_argument, ask
from tunnelkit.cli.records import print_records


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "sessions", help="the sessions of a running Communication Server"
    )
    add_control_argument(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, one object a line")


def run(args: argparse.Namespace) -> int:
    """Print what the server says, one record a line."""
    print_records(ask(args.control, "sessions")["sessions"], args.json)
    return 0
