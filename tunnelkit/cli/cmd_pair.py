"""``tunnelkit pair``: two ends get to know each other by a code that is read aloud (row Q2)."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnelkit.errors import ConfigError

if TYPE_CHECKING:
    from tunnelkit.core.pairing.code import PairingCode
    from tunnelkit.services.paired_files import PairedFiles
    from tunnelkit.services.pairing import Own
    from tunnelkit.services.pairing_ways import PairingWay
    from tunnelkit.wire.pairing import Offer

# What needs cryptography or a reactor is imported by the functions that do the work.

_NUMBERS = 5
"""Nameplates that an inside tries."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    pair = subparsers.add_parser(
        "pair",
        usage="tunnelkit pair --middle HOST:PORT --name NAME --allow PATTERN [options]\n"
        "       tunnelkit pair --middle HOST:PORT --name NAME [options] [CODE]\n"
        "       tunnelkit pair --again [--name NAME] [--control PATH]",
        help="connect two machines by a one-time code, without any files",
        description="On the inside, say what may be reached (--allow): a code is shown. On the "
        "other machine, the same command without --allow asks for the code. Then both go on as a "
        "tunnel, and need no code any more.",
    )
    pair.add_argument(
        "code",
        nargs="?",
        metavar="CODE",
        help="shown by the other machine; better "
        "typed when asked for: others can read command lines",
    )
    pair.add_argument("--name", help="of this machine in the tunnel")
    meeting = pair.add_argument_group("where the two meet (one of the first four)")
    where = meeting.add_mutually_exclusive_group()
    where.add_argument("--middle", metavar="HOST:PORT", help="of the LSTP middle where both meet")
    where.add_argument(
        "--server", metavar="HOST:PORT", help="of the Communication Server where both log in"
    )
    where.add_argument(
        "--gate", metavar="HOST:PORT", help="of the inside, which listens there itself (Usher)"
    )
    where.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        help="be that inside: where the other end comes to; a port alone is on all IPv4 addresses",
    )
    meeting.add_argument(
        "--via",
        action="append",
        default=[],
        metavar="URL",
        help="of a proxy on the way out, as for every end; repeatable",
    )
    meeting.add_argument(
        "--via-password-file", metavar="FILE", help="with the proxies' passwords, one a line"
    )
    server = pair.add_argument_group("with --server")
    server.add_argument("--login-file", metavar="FILE", help="with the password of --name there")
    server.add_argument(
        "--server-ca", metavar="FILE|system", help="with the CAs that may have issued its identity"
    )
    server.add_argument("--server-name", metavar="NAME", help="of its certificate (default: HOST)")
    server.add_argument(
        "--target", metavar="NAME", help="of the inside, on the other machine: whom to ask for"
    )
    inside = pair.add_argument_group("on the inside")
    inside.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATTERN",
        help="what the other end may reach from here, such as tcp:10.1.2.3:22; repeatable",
    )
    inside.add_argument(
        "--publish",
        action="append",
        default=[],
        metavar="NAME=HOST:PORT",
        help="what the other end may reach by a name only (with --middle); repeatable",
    )
    inside.add_argument(
        "--issue",
        action="store_true",
        help="issue the other end a certificate of the CA in KEYS (tunnelkit keys init), so that "
        "it can be revoked, instead of pinning keys",
    )
    inside.add_argument("--tunnel", metavar="NAME", help="of the tunnel (default: --name)")
    other = pair.add_argument_group("on the other machine")
    for option, metavar, what in (
        ("forward", "[HOST:]PORT=DESTINATION", "a port here that leads to there"),
        ("socks", "[HOST:]PORT", "a SOCKS proxy here"),
        ("http-proxy", "[HOST:]PORT", "an HTTP proxy here"),
    ):
        other.add_argument(
            f"--{option}",
            action="append",
            default=[],
            metavar=metavar,
            help=f"{what} (default: what fits what is allowed)",
        )
    pair.add_argument(
        "--dir",
        default=os.environ.get("TUNNELKIT_KEYS", "keys"),
        metavar="KEYS",
        help="where the files go (default: ./keys, or $TUNNELKIT_KEYS)",
    )
    again = pair.add_argument_group("over the tunnel, once paired")
    again.add_argument(
        "--again",
        action="store_true",
        help="renew both keys, while the two run and are connected: no code, nothing stops",
    )
    again.add_argument(
        "--control", metavar="PATH", help="of the running end (default: the one with --name)"
    )
    pair.add_argument("--ask", action="store_true", help="ask here before the other end is taken")
    pair.add_argument("--once", action="store_true", help="stop once paired; do not run the tunnel")


def run(args: argparse.Namespace) -> int:
    """Pair, keep what came of it, and be the end from now on."""
    if args.again:
        from tunnelkit.cli.pair_again import pair_again

        return pair_again(args)
    if not args.name:
        raise ConfigError("--name is missing: expected what this machine is called in the tunnel")
    import attrs

    from tunnelkit.core.pairing.code import new_code, parse_code
    from tunnelkit.egress.publish import parse_publish
    from tunnelkit.policy.key_directory import KeyDirectory
    from tunnelkit.policy.rules import parse_rule
    from tunnelkit.services.paired_files import ISSUED, PairedFiles
    from tunnelkit.services.pairing import Own

    inside = bool(args.allow or args.publish or args.listen)
    _check_side(args, inside)
    for rule in args.allow:
        parse_rule(rule)
    services = tuple(parse_publish(text).name for text in args.publish)
    files = PairedFiles(Path(args.dir), args.name)
    way = _way(args, inside)
    keys = KeyDirectory(args.dir) if args.issue else None
    if keys is None:
        identity = files.identity()
        files.check(inside)
    else:
        files.check(inside, ISSUED)
        identity = files.identity_of(keys)
    tunnel = args.tunnel or args.name
    if inside:
        code = new_code()
        rules = tuple(args.allow)
        own = Own(identity=identity, inside=True, tunnel=tunnel, rules=rules, services=services)
        if keys is not None:
            own = attrs.evolve(own, certify=keys.certify)
    else:
        own = Own(identity=identity, inside=False)
        code = parse_code(args.code or _ask_for_code())
    offer = _pair(way, code, own, args)
    _keep(args, files, way, own, offer)
    role = way.role(inside)
    print(f"Running: tunnelkit {role} --config {files.config_file}", flush=True)
    if not args.once:
        os.execv(  # the same process from now on, so that whoever started it can end it
            sys.executable,
            [sys.executable, "-m", "tunnelkit", role, "--config", str(files.config_file)],
        )
    return 0


def _check_side(args: argparse.Namespace, inside: bool) -> None:
    wrong = ""
    if not (args.middle or args.server or args.gate or args.listen):
        wrong = "where the two meet is missing: expected --middle, --server, --gate or --listen"
    elif args.control:
        wrong = "--control: nothing runs yet: expected --again too"
    elif inside and not (args.allow or args.publish):
        wrong = "--listen: the other end could reach nothing: expected --allow PATTERN too"
    elif args.publish and not args.middle:
        wrong = "--publish: only an LSTP tunnel has published services: expected --middle"
    elif inside and args.gate:
        wrong = "--gate: the inside listens itself: expected --listen, or no --allow"
    elif inside and args.code:
        wrong = "a code is given beside --allow: the inside shows one, the other machine has it"
    elif inside and (args.forward or args.socks or args.http_proxy):
        wrong = "--forward, --socks and --http-proxy are for the other machine: expected --allow"
    elif not inside and args.issue:
        wrong = "--issue: the inside has the CA: expected it there"
    elif not inside and args.tunnel:
        wrong = "--tunnel: the inside says what the tunnel is called: expected it there"
    elif args.listen and args.via:
        wrong = "--via: nothing is dialled: expected it on the other machine"
    if wrong:
        raise ConfigError(wrong)


def _way(args: argparse.Namespace, inside: bool) -> PairingWay:
    from tunnelkit.policy.destination import parse_host_port, parse_open_listen
    from tunnelkit.policy.settings import Given, Settings
    from tunnelkit.roles.configure import proxies
    from tunnelkit.services.pairing_ways import GatePairing, LstpPairing, secure_proxy_pairing

    names = ("via-password-file", "server", "server-name", "server-ca", "login-file", "target")
    given = {"via": [Given(url, "--via") for url in args.via]}
    for name in names:
        if value := getattr(args, name.replace("-", "_")):
            given[name] = [Given(value, f"--{name}")]
    settings = Settings(given)
    if args.server:
        return secure_proxy_pairing(settings, args.name, inside)
    for name in names[2:]:
        if wrong := settings.one(name):
            wrong.wrong("it is for a Communication Server", "--server HOST:PORT")
    via = proxies(settings)
    if args.middle:
        return LstpPairing(Given(args.middle, "--middle").parsed(parse_host_port), via)
    if args.listen:
        return GatePairing(Given(args.listen, "--listen").parsed(parse_open_listen), listens=True)
    return GatePairing(Given(args.gate, "--gate").parsed(parse_host_port), via=via)


def _show(args: argparse.Namespace, way: PairingWay, code: PairingCode) -> None:
    print(f"The code is  {code.text}\n")
    print("It is good for one try within 10 minutes. On the other machine:\n")
    print(f"    tunnelkit pair {way.elsewhere()} --name NAME\n")
    reached = ", ".join([*args.allow, *args.publish])
    print("Waiting for it; what may be reached from here:", reached, flush=True)


def _ask_for_code() -> str:
    try:
        # Shown while it is typed: it is used up at once, and a typing error costs the code.
        return input("The code that the other machine shows: ")
    except EOFError:
        raise ConfigError("no code was given: expected it on standard input") from None


def _pair(way: PairingWay, code: PairingCode, own: Own, args: argparse.Namespace) -> Offer:
    """What the other end offers; the reactor runs for as long as it takes."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react
    from twisted.internet.threads import deferToThread
    from twisted.python.failure import Failure

    from tunnelkit.core.pairing.code import new_code
    from tunnelkit.errors import Code, DialError
    from tunnelkit.net.sockets.timer import use_monotonic_clock
    from tunnelkit.services.pairing import pair

    outcome: list[Any] = []

    async def agree(offer: Offer) -> bool:
        if not args.ask:
            return True
        return bool(await deferToThread(_asked, offer))

    async def paired_with(reactor: Any) -> Offer:
        shown = code
        for _ in range(_NUMBERS):
            try:
                show = partial(_show, args, way, shown) if own.inside else _say_it_looks
                return await pair(reactor, way, shown, own, agree=agree, on_waiting=show)
            except DialError as error:
                if error.code is not Code.CROWDED or not own.inside:
                    raise
            print("Somebody else has that number; here is another one.\n")
            shown = new_code()
        raise ConfigError(f"{_NUMBERS} numbers were taken at this middle: is it abused?")

    def main(reactor: Any) -> Deferred[Any]:
        use_monotonic_clock(reactor)
        paired = Deferred.fromCoroutine(paired_with(reactor))
        return paired.addBoth(outcome.append)

    try:
        react(main)
    except SystemExit:
        pass
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    offer: Offer = outcome[0]
    return offer


def _say_it_looks() -> None:
    print("Looking for the machine that shows this code, for 30 s at most ...", flush=True)


def _asked(offer: Offer) -> bool:
    from tunnelkit.policy.printable import printable

    try:
        answer = input(f"Take {printable(offer.name)}? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _keep(
    args: argparse.Namespace, files: PairedFiles, way: PairingWay, own: Own, offer: Offer
) -> None:
    import attrs

    from tunnelkit.policy.key_directory import KeyDirectory
    from tunnelkit.policy.printable import printable
    from tunnelkit.services.paired_files import ISSUED, entrances
    from tunnelkit.services.pairing import identity_issued, offered_pin

    pin = offered_pin(offer)
    identity = own.identity
    settings: dict[str, Any] = {**way.settings(own.tunnel or offer.tunnel or "")}
    settings["via"] = args.via
    if args.via_password_file:
        settings["via-password-file"] = os.path.abspath(args.via_password_file)
    settings["identity"] = os.path.abspath(files.identity_file)
    if args.issue:
        settings["crl"] = os.path.abspath(KeyDirectory(args.dir).revocation_file)
    settings["allow"] = args.allow
    settings["publish"] = args.publish
    if not own.inside:
        assert offer.rendezvous is not None
        if offer.issued is not None:
            identity = identity_issued(offer, identity)
        identity = attrs.evolve(identity, rendezvous_secret=offer.rendezvous)
        given = {"forward": args.forward, "socks": args.socks, "http-proxy": args.http_proxy}
        settings |= given if any(given.values()) else entrances(offer.rules, offer.services)
    if own.certify is not None or offer.issued is not None:
        files.keep(identity, settings, offer.name, ISSUED)
    else:
        files.keep(identity, settings, f"{offer.name}={pin}")
    print(f"Paired with {printable(offer.name)}, whose key is {pin}.")
    for rule in offer.rules:
        print(f"It allows {printable(rule)}.")
    for service in offer.services:
        print(f"It publishes {printable(service)}.")
    for name in ("forward", "socks", "http-proxy"):
        for entrance in settings.get(name, ()):
            print(f"Open here: {name} {entrance}")
    print(f"Kept in {files.identity_file} and {files.config_file}.")
