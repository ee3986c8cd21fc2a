"""``tunnelkit keys``: a private CA and the identities of ends (K1), or ends without a CA (K3)."""

from __future__ import annotations

import argparse
import os
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tunnelkit.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

    from tunnelkit.policy.key_directory import KeyDirectory

# What needs cryptography is imported by the functions that do the work: `--help` stays quick.

_MOST_DAYS = 3650


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``keys`` and its actions."""
    keys = subparsers.add_parser("keys", help="make, show, renew and revoke identities")
    actions = keys.add_subparsers(dest="action", metavar="ACTION", required=True)

    init = actions.add_parser("init", help="make a private CA and a rendezvous secret")
    _directory(init)
    _passphrase(init)

    issue = actions.add_parser("issue", help="make an identity file for one end")
    renew = actions.add_parser("renew", help="replace an identity by one with a new key")
    for action in (issue, renew):
        action.add_argument("name", metavar="NAME", help="name of the end, in its certificate")
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
        "--days", type=_days, metavar="DAYS", help="how long the list is valid (as the CA)"
    )

    show = actions.add_parser("show", help="what an identity file or a directory of keys holds")
    show.add_argument("path", metavar="FILE-OR-DIR")


def run(args: argparse.Namespace) -> int:
    """Do one action; prints what came of it."""
    action: str = args.action
    if action == "show":
        lines = show(args.path)
    elif action == "sign-request":
        lines = _ask(args.name, Path(args.out or f"{args.name}.pem"), _new_passphrase(args))
    elif action == "self":
        lines = _make_alone(args.name, Path(args.out), args.secret, args.days)
    else:
        from tunnelkit.policy.key_directory import KeyDirectory

        lines = _change(action, KeyDirectory(args.dir), args)
    print("\n".join(lines))
    return 0


def _change(action: str, keys: KeyDirectory, args: argparse.Namespace) -> list[str]:
    from tunnelkit.policy.identity import fingerprint

    if action == "init":
        from tunnelkit.policy.key_directory import write_new
        from tunnelkit.roles.secure_proxy_policy import EXAMPLE

        authority = keys.create(_new_passphrase(args))
        write_new(keys.path / "policy.toml", EXAMPLE.encode("utf-8"))
        return [f"made a CA in {keys.path}: {fingerprint(authority.certificate)}"]
    if action == "revoke":
        if args.name is None:
            keys.list_again(args.days)
            return [f"made {keys.revocation_file} again"]
        revoked = keys.revoke(args.name, args.days)
        count = f"{len(revoked)} certificate{'s' * (len(revoked) != 1)}"
        return [f"revoked {count} of {args.name} in {keys.revocation_file}"]
    if action == "sign":
        return _sign(keys, args)
    if action == "issue":
        identity, path = keys.issue(
            args.name, out=args.out, days=args.days, passphrase=_new_passphrase(args)
        )
        return [f"issued {identity.name} in {path}: {identity.fingerprint}"]
    identity, path = keys.renew(
        args.name,
        out=args.out,
        days=args.days,
        rendezvous_secret=args.rendezvous_secret,
        passphrase=_new_passphrase(args),
    )
    lines = [f"renewed {identity.name} in {path}: {identity.fingerprint}"]
    if args.rendezvous_secret:
        lines.append("the rendezvous secret is new: renew every other end before it can be met")
    return lines


def _ask(name: str, out: Path, passphrase: bytes | None) -> list[str]:
    from tunnelkit.policy.key_directory import write_new
    from tunnelkit.policy.key_requests import make_request

    key, request = make_request(name, passphrase)
    asked = out.with_suffix(".csr")
    if os.path.lexists(asked):
        raise ConfigError(f"{asked}: exists already")
    write_new(out, key)
    write_new(asked, request)
    answer = asked.with_suffix(".crt").name
    return [
        f"made the key of {name} in {out}: it stays here",
        f"made {asked}: bring it to the CA, which answers it by: tunnelkit keys sign {asked.name}",
        f"then put the answer behind the key: cat {answer} >> {out.name}",
    ]


def _sign(keys: KeyDirectory, args: argparse.Namespace) -> list[str]:
    from tunnelkit.policy.files import read_file
    from tunnelkit.policy.identity import fingerprint
    from tunnelkit.policy.key_requests import LARGEST_REQUEST, parse_request
    from tunnelkit.policy.printable import printable

    where = f"request {printable(args.request)}"
    request = parse_request(read_file(args.request, where, LARGEST_REQUEST), where)
    out = Path(args.out) if args.out else Path(args.request).with_suffix(".crt")
    certificate = keys.sign(request, out, days=args.days, again=args.again)
    return [
        f"signed {request.name} in {out}: {fingerprint(certificate)}",
        "it has the rendezvous secret: bring it back over a way that others cannot read",
    ]


def _make_alone(name: str, out: Path, secret_file: str | None, days: int) -> list[str]:
    from tunnelkit.policy.files import read_private_file
    from tunnelkit.policy.identity import identity_pem, parse_secret, secret_pem
    from tunnelkit.policy.key_directory import write_new
    from tunnelkit.policy.keys import self_signed
    from tunnelkit.policy.printable import printable

    where = f"--secret {printable(secret_file or '')}"
    known = secret_file is not None and os.path.lexists(secret_file)
    secret = None
    if secret_file is not None and known:
        secret = parse_secret(read_private_file(secret_file, where), where)
    identity = self_signed(name, days=days, rendezvous_secret=secret)
    write_new(out, identity_pem(identity))
    lines = [f"made {name} in {out}: {identity.fingerprint}"]
    if secret_file is not None and not known:
        write_new(Path(secret_file), secret_pem(identity.rendezvous_secret))
        lines.append(f"made a rendezvous secret in {secret_file}: the other end needs it too")
    return lines


def show(path: str) -> list[str]:
    """What is in an identity file or a directory of keys, in lines, without secrets."""
    from tunnelkit.policy.files import read_private_file
    from tunnelkit.policy.identity import has_encrypted_key, parse_identity
    from tunnelkit.policy.key_directory import KeyDirectory
    from tunnelkit.policy.passphrases import unlock
    from tunnelkit.policy.printable import printable

    if os.path.isdir(path):
        keys = KeyDirectory(path)
        lines = ["CA", *_certificate(keys.load().certificate)]
        now = datetime.now(timezone.utc)
        for entry in keys.issued():
            until = entry.revoked or entry.not_after
            word = "since" if entry.revoked else "until"
            state = entry.state(now)
            lines.append(f"{entry.name}  {state} {word} {until:%Y-%m-%d}  serial {entry.serial:x}")
            if entry.pin:
                lines.append(f"  fingerprint  {entry.pin}")
        return lines
    where = f"identity {printable(path)}"
    # Expired ones are shown too: this is how one finds out.
    content = read_private_file(path, where)
    if has_encrypted_key(content):
        identity = unlock(where, partial(parse_identity, content, where))
    else:
        identity = parse_identity(content, where)
    lines = [identity.name, *_certificate(identity.credentials.certificate)]
    for between in identity.credentials.chain:
        lines += ["CA between", *_certificate(between)]
    for authority in identity.credentials.authorities:
        lines += ["CA", *_certificate(authority)]
    return lines


def _certificate(certificate: x509.Certificate) -> list[str]:
    from tunnelkit.net.tls.engine import moment
    from tunnelkit.policy.identity import fingerprint

    end = certificate.not_valid_after_utc
    expired = " (expired)" if datetime.now(timezone.utc) > end else ""
    return [
        f"  fingerprint  {fingerprint(certificate)}",
        f"  serial       {certificate.serial_number:x}",
        f"  valid from   {moment(certificate.not_valid_before_utc)}",
        f"  valid until  {moment(end)}{expired}",
    ]


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", required=True, metavar="KEYS", help="the directory of the CA")


def _passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase", action="store_true", help="ask for one, and encrypt the private key with it"
    )


def _new_passphrase(args: argparse.Namespace) -> bytes | None:
    if not args.passphrase:
        return None
    from tunnelkit.policy.passphrases import new_passphrase

    return new_passphrase(getattr(args, "name", None) or "the CA")


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_DAYS):
        raise ConfigError(f"--days {ascii(text)[:40]}: expected a number from 1 to {_MOST_DAYS}")
    return int(text)
