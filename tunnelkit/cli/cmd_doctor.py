"""``tunnelkit doctor``: what works of a role's configuration, and what to do about the rest (O9).

With ``--site`` it looks whether a published site's TLS is ended in between (row S15).
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from tunnelkit.errors import ConfigError, TunnelkitError


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "doctor",
        help="what works of a role's configuration, hop by hop, and what to do about the rest",
        description="Goes the way that the role goes: settings, certificates, name, proxies, TCP, "
        "setup, TLS, a channel. Status 1 if something is wrong. With --site: whether anybody ends "
        "the TLS of a site that is published as pass:.",
    )
    parser.add_argument("--config", metavar="FILE.toml", help="the role's configuration file")
    parser.add_argument(
        "--control",
        metavar="PATH",
        help="with --site: the control socket of the client that publishes it",
    )
    parser.add_argument(
        "--site",
        metavar="HOST",
        help="the site's name, as the client at --control publishes it with pass:HOST=...",
    )
    parser.add_argument(
        "--at",
        metavar="HOST:PORT",
        help="where browsers find the site (default: its own name, port 443)",
    )
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=20.0,
        help="that each step may take (default: 20)",
    )
    parser.add_argument("role", nargs="?", metavar="ROLE", help="e.g. lstp-client-end")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="...", help="the role's own options"
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found, one step a line; status 1 if something is wrong."""
    if args.site is not None:
        from tunnelkit.cli.site_doctor import look_at_site

        if args.control is None:
            raise ConfigError("--site: expected --control PATH of who publishes it too")
        return look_at_site(args)
    if args.control is not None or args.at is not None:
        raise ConfigError("--control and --at: expected with --site, or behind ROLE")
    words = [*(("--config", args.config) if args.config else ()), *args.options]
    if not words:
        raise ConfigError("expected ROLE and its options, --config FILE, or --site HOST")
    return _examine(args.role, words, args.patience)


def _examine(name: str | None, words: list[str], patience: float) -> int:
    # What looks is imported here: `--help` stays quick.
    from twisted.internet import reactor

    from tunnelkit.cli.findings import look_at_settings
    from tunnelkit.net.sockets.timer import use_monotonic_clock
    from tunnelkit.services.doctor.there import look_there

    use_monotonic_clock(reactor)
    options, config, findings = look_at_settings(name, words, "doctor")
    if config is not None:
        running = _ask_running(options.control_path)

        async def look(reactor: Any) -> None:
            async for each in look_there(reactor, options.role, config, patience, running):
                findings.show(each)

        _react(reactor, look)
    return findings.end()


def _react(reactor: Any, look: Any) -> None:
    from twisted.internet.defer import Deferred

    failures: list[Any] = []

    def begin() -> None:
        looking = Deferred.fromCoroutine(look(reactor))
        looking.addErrback(failures.append)
        looking.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if failures:
        failures[0].raiseException()


def _ask_running(control: str) -> bool:
    """What the role says of itself; whether it runs."""
    from tunnelkit.cli.control_client import ask

    if not control or not os.path.exists(control):
        return False
    try:
        status = ask(control, "status")
    except TunnelkitError as error:
        print(f"{'warning':<8} {'running role':<16} {error}")
        return False
    why = status.get("last_error")
    state = status.get("state", "it answers")
    if locked := status.get("locked"):
        print(f"{'warning':<8} {'running role':<16} {state}: {locked} waits for its passphrase")
        print(f"{'':<8} {'do':>16}: tunnelkit connect --control {control}")
        return True
    print(f"{'ok':<8} {'running role':<16} {state}{f': {why}' if why else ''}")
    return True
