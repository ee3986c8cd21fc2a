"""The options of ``tunnelkit keys``."""

from __future__ import annotations

import argparse
import os

from tunnelkit.errors import ConfigError

_MOST_DAYS = 3650


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``keys`` and its actions."""
    keys = subparsers.add_parser("keys", help="make, show, renew and revoke identities")
    actions = keys.add_subparsers(dest="action", metavar="ACTION", required=True)

    init = actions.add_parser("init", help="make a private CA and a rendezvous secret")
    _directory(init)
    _passphrase(init)

    issue = actions.add_parser(
        "issue",
        help="make an identity file for each end, and with --middle its settings too",
        epilog="For example: tunnelkit keys issue office laptop --middle relay.example:7000 "
        "--tunnel work",
    )
    _settings(issue)
    renew = actions.add_parser("renew", help="replace identities by ones with new keys")
    for action in (issue, renew):
        action.add_argument(
            "names", metavar="NAME", nargs="+", help="name of the end, in its certificate"
        )
        _directory(action)
        _passphrase(action)
        action.add_argument("--out", metavar="FILE", help="where to write it (KEYS/NAME.pem)")
        action.add_argument(
            "--days", type=_days, default=365, metavar="DAYS", help="how long it is valid (365)"
        )
    renew.add_argument(
        "--rendezvous-secret",
        action="store_true",
        help="also make a new rendezvous secret; every other end must then be renewed too",
    )

    alone = actions.add_parser(
        "self", help="make a self-signed identity, for an end whose key the other end pins"
    )
    alone.add_argument("name", metavar="NAME", help="name of the end, in its certificate")
    alone.add_argument("--out", required=True, metavar="FILE", help="where to write it")
    alone.add_argument(
        "--secret",
        metavar="FILE",
        help="the rendezvous secret, the same at both ends of an LSTP tunnel; made if not there",
    )
    alone.add_argument(
        "--days", type=_days, default=_MOST_DAYS, metavar="DAYS", help="how long it is valid (3650)"
    )

    ask = actions.add_parser(
        "sign-request", help="make a key that stays here, and a request for its certificate"
    )
    ask.add_argument("name", metavar="NAME", help="name of the end, in its certificate")
    _passphrase(ask)
    ask.add_argument("--out", metavar="FILE", help="where to write the key (NAME.pem)")

    sign = actions.add_parser("sign", help="make the certificate that a request asks for")
    sign.add_argument("request", metavar="FILE", help="what sign-request has written")
    _directory(sign)
    sign.add_argument("--out", metavar="FILE", help="where to write the answer (FILE with .crt)")
    sign.add_argument(
        "--days", type=_days, default=365, metavar="DAYS", help="how long it is valid (365)"
    )
    sign.add_argument(
        "--again", action="store_true", help="also for a name that has an identity already"
    )

    revoke = actions.add_parser("revoke", help="put all certificates of a name on KEYS/revoked.crl")
    revoke.add_argument(
        "name", metavar="NAME", nargs="?", help="the end; without: only make the list again"
    )
    _directory(revoke)
    revoke.add_argument(
        "--rendezvous-secret",
        action="store_true",
        help="also make a new rendezvous secret and renew every other end whose file is in KEYS: "
        "who is revoked does not find them any more",
    )
    revoke.add_argument(
        "--days", type=_days, metavar="DAYS", help="how long the list is valid (as the CA)"
    )

    show = actions.add_parser(
        "show", help="what an identity file, a revocation list or a directory of keys holds"
    )
    show.add_argument("path", metavar="FILE-OR-DIR")

    listing = actions.add_parser("list", help="what the CA has issued, a line for each")
    _directory(listing)


def _settings(issue: argparse.ArgumentParser) -> None:
    """What `NAME.toml` is to say."""
    end = issue.add_argument_group("settings of the end, written to NAME.toml beside NAME.pem")
    end.add_argument("--middle", metavar="HOST:PORT", help="where the ends of the tunnel meet")
    end.add_argument("--tunnel", metavar="NAME", help="of the tunnel, the same at its ends")
    for name, metavar, what in (
        ("peer", "NAME", "of the other end (default: the other NAMEs)"),
        ("via", "URL", "of a proxy on its way out"),
        ("allow", "PATTERN", "of what others may reach from there: it is a server end"),
        ("forward", "[HOST:]PORT=DESTINATION", "of a port there: it is a client end"),
        ("socks", "[HOST:]PORT", "of a SOCKS server there: it is a client end"),
    ):
        end.add_argument(
            f"--{name}", action="append", default=[], metavar=metavar, help=f"{what}; repeatable"
        )


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir",
        default=os.environ.get("TUNNELKIT_KEYS", "keys"),
        metavar="KEYS",
        help="the directory of the CA (default: ./keys, or $TUNNELKIT_KEYS)",
    )


def _passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase", action="store_true", help="ask for one, and encrypt the private key with it"
    )


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_DAYS):
        raise ConfigError(f"--days {ascii(text)[:40]}: expected a number from 1 to {_MOST_DAYS}")
    return int(text)
