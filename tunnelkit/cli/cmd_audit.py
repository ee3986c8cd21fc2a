"""``tunnelkit audit verify``: whether audit files are still what they were when written (O8)."""

from __future__ import annotations

import argparse
from typing import Any

from tunnelkit.errors import ConfigError


def register(subparsers: Any) -> None:
    """Add ``audit`` and its action."""
    audit = subparsers.add_parser("audit", help="whether an audit file has been tampered with")
    actions = audit.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser(
        "verify",
        help="look for changed, missing and cut-off lines; status 1 if there are any",
        description="Looks for changed, missing and cut-off lines. Lines behind the last "
        "checkpoint can be cut off unseen. Status 1 if something is wrong.",
    )
    verify.add_argument(
        "files", nargs="+", metavar="FILE", help="of --audit; rotated ones in front, oldest first"
    )
    verify.add_argument(
        "--with",
        dest="checkpoints",
        action="append",
        metavar="CHECKPOINTS",
        help="file that the other end's --checkpoints or this one's --checkpoint-to has written; "
        "repeatable",
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found; status 1 for tampering."""
    from tunnelkit.policy.audit_chain import Verifier, read_checkpoints

    checkpoints = None
    if args.checkpoints is not None:
        checkpoints = []
        for path in args.checkpoints:
            with _opened(path) as lines:
                checkpoints += read_checkpoints(lines, path)
    verifier = Verifier(checkpoints)
    for path in args.files:
        with _opened(path) as lines:
            verifier.file(path, lines)
    report = verifier.report()
    if report.first:
        print(f"chain {report.chain or '(unnamed)'}: lines {report.first} to {report.last}")
    if report.first > 1:
        print(f"lines 1 to {report.first - 1} are in an older file, which was not looked at")
    for seq in report.torn:
        print(f"behind line {seq}: torn off when the process was killed")
    if report.vouched is not None:
        told = report.vouched
        who = f"told by {told.peer}" if told.peer else "of this machine"
        print(f"vouched for up to line {told.checkpoint.seq}: checkpoint of {told.time} {who}")
    elif checkpoints is not None:
        print("no line is vouched for by a checkpoint")
    for problem in report.problems:
        print(f"WRONG: {problem}")
    print("tampered with" if report.problems else "nothing is wrong")
    return 1 if report.problems else 0


def _opened(path: str) -> Any:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: expected a file") from None
