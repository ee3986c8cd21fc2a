"""``tunnelkit connect``: makes a running end dial, now (row L14)."""

from __future__ import annotations

import argparse
from typing import Any

from tunnelkit.cli.control_client import add_control_argument, ask


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("connect", help="tell a running end to connect now")
    add_control_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Say what the end does from now on."""
    print(ask(args.control, "connect")["state"])
    return 0
