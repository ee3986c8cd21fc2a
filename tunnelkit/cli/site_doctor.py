"""``tunnelkit doctor --site``: whether a published site's TLS is ended in between (row S15)."""

from __future__ import annotations

import argparse
import time

from tunnelkit.cli.control_client import ask
from tunnelkit.errors import ConfigError

_LOOKS = 10
_PAUSE = 0.2
"""Seconds between two looks: who ends TLS in between may pass the hello on later."""


def look_at_site(args: argparse.Namespace) -> int:
    """Dial as a browser does and compare; status 1 if what was sent is not what arrived."""
    # What needs TLS is imported here: `--help` stays quick.
    from tunnelkit.cli.site_hellos import SiteHellos
    from tunnelkit.policy.destination import parse_host_port

    try:
        place = parse_host_port(args.at) if args.at else (args.site, 443)
    except ConfigError as error:
        raise ConfigError(f"--at: {error}") from None
    with SiteHellos(args.site, *place) as own:
        same = _seen(args.control, own.client_hello)
    if not same:
        print(
            f"{args.site}: SOMEBODY ENDS TLS IN BETWEEN: the hello that was sent to "
            f"{place[0]} port {place[1]} has not come to the client that publishes the site. "
            "Or it is published by another client: is --control the right one?"
        )
        return 1
    if all(pair["server_hello"] != own.server_hello for pair in same):
        print(
            f"{args.site}: SOMEBODY ENDS TLS IN BETWEEN: the answer that came is not the one "
            "that the web server gave"
        )
        return 1
    print(f"{args.site}: what was said reached the web server inside, and its answer came back")
    print(f"certificate  {own.certificate}")
    print("Nobody ended TLS in between in this connection. It says nothing of others.")
    return 0


def _seen(control: str, client_hello: str) -> list[dict[str, str]]:
    """What the publisher has of connections that began with this hello."""
    for _ in range(_LOOKS):
        answer = ask(control, "hellos").get("hellos")
        pairs = answer if isinstance(answer, list) else []
        same = [pair for pair in pairs if pair["client_hello"] == client_hello]
        if same:
            return same
        time.sleep(_PAUSE)
    return []
