"""``tunnelkit connect``: makes a running end dial, now, and brings it the passphrase that it
waits for (rows L14, K6)."""

from __future__ import annotations

import argparse
import base64
from typing import Any

from tunnelkit.cli.control_client import add_control_argument, ask
from tunnelkit.errors import ConfigError


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "connect",
        help="tell a running end to connect now; asks for the passphrase that it waits for",
    )
    add_control_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Say what the end does from now on."""
    locked = ask(args.control, "status").get("locked")
    answer = _unlock(args.control, str(locked)) if locked else ask(args.control, "connect")
    print(answer["state"])
    return 0


def _unlock(control: str, where: str) -> dict[str, object]:
    # Only who needs it pays for what reads keys.
    from tunnelkit.policy.passphrases import ask_passphrase, may_ask

    if not may_ask():
        raise ConfigError(f"{where} waits for its passphrase: expected a terminal to ask for it")
    passphrase = base64.b64encode(ask_passphrase(where)).decode("ascii")
    return ask(control, f"unlock {passphrase}")
