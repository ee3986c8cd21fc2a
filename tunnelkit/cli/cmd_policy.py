"""``tunnelkit policy explain``: what a Communication Server's policy says, and which rule (S5)."""

from __future__ import annotations

import argparse
from typing import Any

from tunnelkit.errors import ConfigError


def register(subparsers: Any) -> None:
    """Add ``policy`` and its action."""
    policy = subparsers.add_parser("policy", help="which rule of a policy file decides")
    actions = policy.add_subparsers(dest="action", metavar="ACTION", required=True)
    explain = actions.add_parser("explain", help="what the file says about one wish of a client")
    explain.add_argument("--policy", required=True, metavar="FILE", help="the policy file")
    explain.add_argument(
        "--in-group",
        action="append",
        default=[],
        metavar="NAME",
        help="a group that the target is in; repeatable",
    )
    explain.add_argument("wish", choices=("connect", "publish", "lookup", "register"))
    explain.add_argument("client", metavar="CLIENT")
    explain.add_argument(
        "what", metavar="WHAT", nargs="?", default="", help="TARGET/RESOURCE, RESOURCE or TARGET"
    )


def run(args: argparse.Namespace) -> int:
    """Print yes or no, and the rule; status 1 for no."""
    # What reads policies is imported here: `--help` stays quick.
    from tunnelkit.roles.secure_proxy_policy import load_policy

    policy = load_policy(args.policy)
    if not args.what and args.wish != "register":
        raise ConfigError(f"{args.wish}: expected WHAT as well (see --help)")
    if args.wish == "connect":
        target, slash, resource = args.what.rpartition("/")
        if not slash:
            raise ConfigError(f"connect {args.what!a}: expected TARGET/RESOURCE")
        verdict = policy.may_connect(args.client, target, resource, args.in_group)
    elif args.wish == "publish":
        verdict = policy.may_publish(args.client, args.what)
    elif args.wish == "lookup":
        verdict = policy.may_look_up(args.client, args.what, args.in_group)
    else:
        verdict = policy.may_register(args.client)
    print(f"{'allowed' if verdict else 'not allowed'}: {verdict.rule}")
    return 0 if verdict else 1
