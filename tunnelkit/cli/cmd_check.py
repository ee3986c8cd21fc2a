"""``tunnelkit check``: whether a role would start with these settings, without starting it (Q7)."""

from __future__ import annotations

import argparse
from typing import Any

from tunnelkit.errors import ConfigError


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "check",
        help="whether a role would start with these settings, without starting it",
        usage="tunnelkit check --config FILE | tunnelkit check ROLE [OPTIONS...]",
        description="Reads the settings, the identity and the revocation list as the role would, "
        "and connects to nothing; 'tunnelkit doctor' also tries the way to the other end. Exit "
        "status 1 if something is wrong.",
    )
    parser.add_argument("role", metavar="ROLE", nargs="?", help="needed where several could do")
    parser.add_argument("--config", metavar="FILE", help="the settings")
    parser.add_argument(
        "options", metavar="OPTIONS", nargs=argparse.REMAINDER, help="of the role, as it has them"
    )


def run(args: argparse.Namespace) -> int:
    """Print what is found, a line each."""
    from tunnelkit.cli.findings import look_at_settings

    words = [*(("--config", args.config) if args.config else ()), *args.options]
    if not words:
        raise ConfigError("expected --config FILE, or ROLE and its options")
    return look_at_settings(args.role, words, "check").findings.end()
