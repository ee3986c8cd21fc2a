"""``tunnelkit keys``: a private CA and the identities of ends (K1), or ends without a CA (K3)."""

from __future__ import annotations

import argparse
import os
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tunnelkit.cli.keys_parser import register
from tunnelkit.errors import ConfigError

__all__ = ["register", "run"]

if TYPE_CHECKING:
    from cryptography import x509

    from tunnelkit.policy.key_directory import KeyDirectory
    from tunnelkit.services.end_files import EndPlan

# What needs cryptography is imported by the functions that do the work: `--help` stays quick.


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
        return _revoke(keys, args)
    if action == "sign":
        return _sign(keys, args)
    if action == "list":
        return _issued(keys, pins=False) or [f"nothing has been issued in {keys.path} yet"]
    if args.out and len(args.names) > 1:
        raise ConfigError("--out: there are several names: expected one, or --dir alone")
    if action == "issue":
        return _issue(keys, args)
    return _renew(keys, args)


def _revoke(keys: KeyDirectory, args: argparse.Namespace) -> list[str]:
    bring = f"bring {keys.revocation_file} to every other end, next to its identity file: it is "
    bring += "in force there within a second"
    if args.name is None:
        if args.rendezvous_secret:
            raise ConfigError("--rendezvous-secret: expected NAME that is to be revoked")
        keys.list_again(args.days)
        return [f"made {keys.revocation_file} again", bring]
    revoked = keys.revoke(args.name, args.days)
    count = f"{len(revoked)} certificate{'s' * (len(revoked) != 1)}"
    lines = [f"revoked {count} of {args.name} in {keys.revocation_file}", bring]
    if not args.rendezvous_secret:
        again = f"tunnelkit keys revoke {args.name} --rendezvous-secret --dir {keys.path}"
        return [
            *lines,
            f"{args.name} still has the rendezvous secret, by which it finds the others at a "
            "middle, to be refused by them",
            f"to change that, and renew the others: {again}",
        ]
    keys.new_secret()
    lines.append("the rendezvous secret is new: bring each renewed file to its machine")
    return [*lines, *_renew_others(keys)]


def _renew_others(keys: KeyDirectory) -> list[str]:
    """Renew all that can be renewed here, and say which cannot."""
    from tunnelkit.policy.identity import has_encrypted_key

    now = datetime.now(timezone.utc)
    lines = []
    for name in sorted({one.name for one in keys.issued() if one.state(now) == "valid"}):
        file = keys.path / f"{name}.pem"
        if not file.exists():
            lines.append(f"not renewed: {name} has no file in {keys.path}")
        elif has_encrypted_key(file.read_bytes()):
            lines.append(f"not renewed: {name} has a passphrase: keys renew {name} --passphrase")
        else:
            identity, path = keys.renew(name)
            lines.append(f"renewed {name} in {path}: {identity.fingerprint}")
    return lines


def _issue(keys: KeyDirectory, args: argparse.Namespace) -> list[str]:
    plans = _plans(args)
    passphrase = _new_passphrase(args)
    lines = []
    for name in args.names:
        settings = Path(args.out).with_suffix(".toml") if args.out else keys.path / f"{name}.toml"
        if name in plans and os.path.lexists(settings):
            raise ConfigError(f"{settings}: exists already: expected another NAME, or none there")
        identity, path = keys.issue(name, out=args.out, days=args.days, passphrase=passphrase)
        lines.append(f"issued {identity.name} in {path}: {identity.fingerprint}")
        if name in plans:
            from tunnelkit.policy.key_directory import write_new

            write_new(settings, plans[name].toml(path.name).encode("utf-8"))
            lines += [
                f"  bring {path}, {settings} and {keys.revocation_file} to its machine, into one "
                "directory; there:",
                *(f"  {command}" for command in plans[name].commands(settings.name)),
            ]
    return lines


def _plans(args: argparse.Namespace) -> dict[str, EndPlan]:
    """What the settings of each name are to say; none without ``--middle``."""
    names, own = args.names, ("allow", "forward", "socks")
    if args.middle is None:
        given = [name for name in ("tunnel", "peer", "via", *own) if getattr(args, name)]
        if given:
            raise ConfigError(f"--{given[0]}: no settings are written: expected --middle too")
        return {}
    if args.tunnel is None:
        raise ConfigError("--tunnel is missing: expected NAME, the same at all ends of the tunnel")
    if len(names) > 1 and (given := [name for name in own if getattr(args, name)]):
        raise ConfigError(f"--{given[0]}: there are several names: expected the one it is for")

    from tunnelkit.services.end_files import EndPlan

    plans = {}
    for name in names:
        peers = args.peer or [other for other in names if other != name]
        if not peers or name in peers:
            raise ConfigError(f"--peer: expected NAME of an end that {name} is to meet")
        plans[name] = plan = EndPlan(
            middle=args.middle,
            tunnel=args.tunnel,
            peers=peers,
            via=args.via,
            **{option: getattr(args, option) for option in own},
        )
        plan.check()
    return plans


def _renew(keys: KeyDirectory, args: argparse.Namespace) -> list[str]:
    passphrase = _new_passphrase(args)
    fresh = args.rendezvous_secret
    lines = []
    for name in args.names:
        identity, path = keys.renew(
            name, out=args.out, days=args.days, rendezvous_secret=fresh, passphrase=passphrase
        )
        fresh = False  # those behind it get the new one
        lines.append(f"renewed {identity.name} in {path}: {identity.fingerprint}")
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
        return ["CA", *_certificate(keys.load().certificate), *_issued(keys, pins=True)]
    if path.endswith(".crl"):
        return _list(path)
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


def _issued(keys: KeyDirectory, *, pins: bool) -> list[str]:
    lines = []
    now = datetime.now(timezone.utc)
    for entry in keys.issued():
        until = entry.revoked or entry.not_after
        word = "since" if entry.revoked else "until"
        state = entry.state(now)
        lines.append(f"{entry.name}  {state} {word} {until:%Y-%m-%d}  serial {entry.serial:x}")
        if entry.pin and pins:
            lines.append(f"  fingerprint  {entry.pin}")
    return lines


def _list(path: str) -> list[str]:
    """What a revocation list says; names where the record of its CA is beside it."""
    from tunnelkit.net.tls.engine import moment
    from tunnelkit.policy.files import read_file
    from tunnelkit.policy.key_directory import RECORD_FILE, KeyDirectory
    from tunnelkit.policy.list_numbers import list_number
    from tunnelkit.policy.printable import printable
    from tunnelkit.policy.revocation import LARGEST_LIST, read_lists

    where = f"revocation list {printable(path)}"
    crls = read_lists(read_file(path, where, LARGEST_LIST), where)
    names = {}
    if os.path.exists(os.path.join(os.path.dirname(path), RECORD_FILE)):
        names = {
            one.serial: one.name for one in KeyDirectory(os.path.dirname(path) or ".").issued()
        }
    lines = []
    for crl in crls:
        until = moment(crl.next_update_utc) if crl.next_update_utc else "always"
        lines += [
            f"revocation list of {printable(crl.issuer.rfc4514_string())}",
            f"  number       {list_number(crl)}",
            f"  made         {moment(crl.last_update_utc)}",
            f"  valid until  {until}",
            f"  entries      {len(crl)}",
        ]
        for entry in crl:
            name = names.get(entry.serial_number, "")
            lines.append(
                f"  {entry.revocation_date_utc:%Y-%m-%d}   serial {entry.serial_number:x}  {name}"
            )
    return [line.rstrip() for line in lines]


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


def _new_passphrase(args: argparse.Namespace) -> bytes | None:
    if not args.passphrase:
        return None
    from tunnelkit.policy.passphrases import new_passphrase

    return new_passphrase(_whose(args))


def _whose(args: argparse.Namespace) -> str:
    if args.action == "init":
        return "the CA"
    return ", ".join(args.names) if "names" in args else str(args.name)
