"""From settings to configurations: the parts that several roles have.

Every function raises `ConfigError` with one line: the place, what is wrong
there, and what is expected (X22, R13).
"""

from __future__ import annotations

import os
import re
import stat
from functools import partial
from ipaddress import ip_address
from typing import Any

from tunnelkit.egress.resolver_files import parse_server
from tunnelkit.errors import ConfigError
from tunnelkit.frontends import registry
from tunnelkit.net.dial.choice import parse_alone, stands_alone
from tunnelkit.net.dial.via import Via, parse_hop, parse_via, read_password_file
from tunnelkit.net.sockets.context import HALF_CLOSED_LIMIT
from tunnelkit.net.tls.context import KeyUse, judge_use, spki_pin
from tunnelkit.policy.destination import to_host
from tunnelkit.policy.files import demand_private, is_credential, read_private_file
from tunnelkit.policy.identity import PIN_PREFIX, Identity, Terms, parse_pin
from tunnelkit.policy.list_numbers import ListNumbers
from tunnelkit.policy.mapping import parse_map
from tunnelkit.policy.passphrases import is_unlocked, open_identity
from tunnelkit.policy.printable import printable
from tunnelkit.policy.revocation import known_authorities, list_beside, load_revocations
from tunnelkit.policy.rules import parse_network, parse_rule
from tunnelkit.policy.settings import Given, Settings
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.roles.live_ports import parse_allowed
from tunnelkit.roles.registry import named, protocol_makers

LONGEST_NAME = 255
LONGEST_TOKEN = 1024
USHER_SESSIONS = 10_000
"""Sessions that the other end of an Usher tunnel may have open at once, unless it is said."""


def end_parts(settings: Settings, *, by_name: bool = False) -> dict[str, Any]:
    """The fields of `EndConfig`; ``by_name``: this end asks for others by name, as front ends
    do, and may let in whoever asks for it."""
    identity_file = settings.required("identity", "FILE.pem made by 'tunnelkit keys issue'")
    if not (by_name or settings.all("peer-pin")):
        settings.required("peer", "NAME that the other end's certificate has (or --peer-pin)")
    terms = identity_terms(settings)
    identity = identity_file.parsed(partial(open_identity, terms=terms, may_wait=True))
    unlocking = _unlocking(settings)
    if identity.locked and not unlocking:
        identity_file.wrong(
            "its key is encrypted with a passphrase, which nobody could bring",
            "a terminal to ask on, or --control PATH or --status too",
        )
    for given in settings.all("peer"):
        if given.text == identity.name:
            given.wrong("that is this end's own name", "the other end's")
    pins = pinned_keys(settings, identity)
    if not (pins or identity.credentials.authorities):
        identity_file.wrong("it is self-signed, without a CA", "--peer-pin instead of --peer")
    if not pins and (unfit := judge_use(identity.credentials.certificate, terms.use)):
        raise ConfigError(f"{identity_file.where} {printable(identity_file.text)}: {unfit}")
    if settings.flag("manual") and not (settings.one("control") or settings.one("status")):
        raise ConfigError(
            "--manual: nobody could connect this end: expected --control PATH or --status too"
        )
    peers = frozenset(given.parsed(to_name) for given in settings.all("peer"))
    kept = settings.one("forwards-file")
    return {
        # A decrypted key has one place, from which it can be taken away again (row K6).
        "identity": identity.without_key() if is_unlocked(identity_file.text) else identity,
        "unlocking": unlocking,
        "terms": terms,
        "state_dir": state_dir(settings),
        "manual": settings.flag("manual"),
        "identity_file": os.path.abspath(identity_file.text),
        "pins": pins,
        "paired": settings.flag("paired"),
        "pins_file": pins_file(settings),
        "peers": peers,
        "crl_file": None if pins else revocation_list(settings, identity),
        "protocols": tuple(
            given.parsed(partial(named, protocol_makers())) for given in settings.all("protocol")
        ),
        "front_ends": registry.configured(
            settings, None if by_name else peers.union(pins.values())
        ),
        "maps": tuple(given.parsed(parse_map) for given in settings.all("map")),
        "keepalive": count(settings, "keepalive", 10, 1, 3600),
        "half_closed_limit": count(settings, "half-closed-limit", HALF_CLOSED_LIMIT, 1, 604_800),
        "system_resolver": system_resolver(settings),
        "rules": tuple(given.parsed(parse_rule) for given in settings.all("allow")),
        "sources": tuple(given.parsed(parse_network) for given in settings.all("from")),
        "dns_servers": tuple(given.parsed(parse_server) for given in settings.all("dns-server")),
        "ports_allowed": tuple(
            given.parsed(parse_allowed) for given in settings.all("forwards-allow")
        ),
        "ports_file": os.path.abspath(kept.text) if kept is not None else "",
    }


def _unlocking(settings: Settings) -> str:
    """What brings the passphrase of an identity to an end that runs; empty: nothing does."""
    control, status = settings.one("control"), settings.one("status")
    ways = []
    if control is not None:
        path = printable(os.path.abspath(control.text))
        ways.append(f"`tunnelkit connect --control {path}`")
    if status is not None:
        ways.append("its page")
    return " or ".join(ways)


def identity_terms(settings: Settings) -> Terms:
    """What is let pass with the identity and with certificates (X31, X32)."""
    mode, use = settings.one("identity-mode"), settings.one("eku")
    for given, expected in ((mode, "private or any"), (use, "both or any")):
        if given is not None and given.text not in expected.split(" or "):
            given.wrong("not possible", expected)
    return Terms(
        any_mode=mode is not None and mode.text == "any",
        use=KeyUse.ANY if use is not None and use.text == "any" else KeyUse.BOTH,
    )


def system_resolver(settings: Settings) -> bool:
    """Whether names are looked up by the system rather than by this package's own resolver."""
    given = settings.one("resolver")
    if given is None or given.text == "own":
        return False
    if given.text != "system":
        given.wrong("not a resolver", "own or system")
    return True


def pinned_keys(settings: Settings, identity: Identity) -> dict[bytes, str]:
    """The keys that are trusted instead of a CA, and what they are called (K3, X28)."""
    given = settings.all("peer-pin")
    if not given:
        return {}
    for name in ("peer", "crl", "no-crl"):
        if other := settings.all(name):
            other[0].wrong("there are pinned keys, which need no CA", f"--{name} or --peer-pin")
    pins: dict[bytes, str] = {}
    for value in given:
        name, pin = value.parsed(_named_pin)
        if pin == spki_pin(identity.credentials.certificate):
            value.wrong("that is this end's own key", "the other end's")
        if pins.get(pin, name) != name:
            value.wrong(f"this key is called {pins[pin]} already", "one name for each key")
        pins[pin] = name
    for rule in settings.all("allow"):
        # What a certificate claims counts for nothing where its key is what is trusted.
        for peer in rule.parsed(parse_rule).peers:
            if not any(map(peer.match, pins.values())):
                wanted = f"--peer-pin {peer.text}=sha256:HEX too"
                rule.wrong("no pinned key is called that", wanted)
    return pins


def pins_file(settings: Settings) -> str:
    """The settings file in which renewed keys take the place of those pinned; empty: keys stay."""
    paired = settings.one("paired")
    if paired is None or not settings.all("peer-pin"):
        return ""
    files = {given.from_file for given in settings.all("peer-pin")}
    if len(files) != 1 or "" in files:
        paired.wrong(
            "keys that are pinned on a command line cannot be renewed there",
            "every peer-pin in the --config file",
            show=False,
        )
    return os.path.abspath(files.pop())


def _named_pin(text: str) -> tuple[str, bytes]:
    """``NAME=sha256:HEX``, or a fingerprint alone, whose key goes by its first 16 digits."""
    name, equals, digits = text.rpartition("=")
    pin = parse_pin(digits)
    return (to_name(name) if equals else f"{PIN_PREFIX}{pin.hex()[:16]}"), pin


def require_rule(config: EndConfig) -> None:
    """Refuse to start what dials for others without a rule (X22)."""
    if not config.rules:
        raise ConfigError(
            "--allow is missing: expected at least one PATTERN of what the other end may reach "
            "from here, e.g. tcp:127.0.0.1:9000"
        )


def require_use(config: EndConfig) -> None:
    """Refuse to start an end that nothing can enter and that connects to nothing (X22)."""
    if config.front_ends or config.rules:
        return
    ports = ", ".join(f"--{front_end.name}" for front_end in registry.front_ends())
    raise ConfigError(
        "this end would be of no use: expected a port here that leads to the far side "
        f"({ports}), or --allow PATTERN of what the other end may reach from here"
    )


def to_name(text: str) -> str:
    """A name as certificates and topologies carry it."""
    if not text or len(text) > LONGEST_NAME or not re.fullmatch(r"[!-~]+", text):
        raise ConfigError(
            f"'{printable(text)}' is not a name: expected 1 to {LONGEST_NAME} "
            "letters, digits and signs, without spaces"
        )
    return text


def count(settings: Settings, name: str, default: int, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``."""
    given = settings.one(name)
    if given is None:
        return default
    text = given.text
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        given.wrong("not possible", f"a whole number from {least} to {most}")
    return int(text)


def admission_token(settings: Settings) -> str | None:
    """The token in the file that ``--admission-token-file`` names."""
    given = settings.one("admission-token-file")
    if given is None:
        return None
    token = secret_line(given)
    if len(token) > LONGEST_TOKEN:
        given.wrong(f"the token has {len(token)} characters", f"at most {LONGEST_TOKEN}")
    return token


def secret_line(given: Given) -> str:
    """The one line of a file that holds a secret and that only its owner can read (X13)."""
    text = secret_text(given)
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        given.wrong(f"it has {len(lines)} lines", "a file of one line")
    return lines[0].strip()


def secret_text(given: Given) -> str:
    """The text of a file that only its owner can read."""
    where = f"{given.where} {printable(given.text)}"
    try:
        return read_private_file(given.text, where).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not UTF-8 text: expected a text file") from None


def to_tunnel_name(text: str) -> str:
    """The name of a tunnel: any text of one line, since only its HMAC travels."""
    if not text or len(text) > LONGEST_NAME or not text.isprintable():
        raise ConfigError(
            f"'{printable(text)}' is not a name: expected 1 to {LONGEST_NAME} printable characters"
        )
    return text


def revocation_list(settings: Settings, identity: Identity) -> str | None:
    """The path of ``--crl``, or of the list beside the identity, where there need not be one yet;
    what is there can be used now. None: with ``--no-crl``, and without a CA."""
    given = settings.one("crl")
    identity_file = settings.required("identity", "FILE.pem").text
    if settings.flag("no-crl"):
        if given is not None:
            given.wrong("there is --no-crl too", "one of the two")
        return None
    if given is None and not identity.credentials.authorities:
        return None
    path = os.path.abspath(given.text) if given is not None else list_beside(identity_file)
    if given is not None or os.path.lexists(path):
        where = state_dir(settings) or os.path.dirname(os.path.abspath(identity_file))
        found = load_revocations(
            given.text if given is not None else path,
            known_authorities(identity.credentials),
            seen=ListNumbers(where),
        )
        if found.problem and given is not None:
            raise ConfigError(f"{given.where}: {found.problem}")
        if found.problem:
            raise ConfigError(f"{found.problem}: expected a list that can be used, or --no-crl")
    return path


def state_dir(settings: Settings) -> str | None:
    """The directory of ``--state-dir``."""
    given = settings.one("state-dir")
    if given is None:
        return None
    if not os.path.isdir(given.text):
        given.wrong("there is no such directory", "one that this end can write to")
    return os.path.abspath(given.text)


def proxies(settings: Settings) -> Via:
    """The way out that ``--via`` describes (row N1)."""
    given = settings.all("via")
    file = settings.one("via-password-file")
    alone = [value for value in given if stands_alone(value.text)]
    for value in given:
        if value in alone:
            if len(given) > 1:
                value.wrong("it stands beside others", f"{value.text} alone, or a chain of URLs")
            continue
        hop = parse_hop(value.text, value.where)
        if hop.password is not None:
            if not value.from_file:
                value.wrong(
                    "there is a password in it, which others on this machine can see",
                    "USER@HOST and --via-password-file FILE",
                    show=False,
                )
            _demand_private(value)
    if file is not None and (alone or not given):
        file.wrong("there is no proxy that it could be for", "--via with a user name")
    if alone:
        beside = os.path.dirname(alone[0].from_file) if alone[0].from_file else ""
        return parse_alone(alone[0].text, alone[0].where, beside)
    password = file.parsed(_password) if file is not None else None
    return parse_via([value.text for value in given], password, given[-1].where) if given else ()


def _password(path: str) -> str:
    try:
        password = read_password_file(path)
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and not is_credential(path):
            demand_private(path, status, printable(path))
        return password
    except ConfigError as error:
        # The place is told by whoever knows whether it is an option or a key.
        raise ConfigError(str(error).removeprefix("--via-password-file ")) from None


def _demand_private(given: Given) -> None:
    status = os.stat(given.from_file)
    if not is_credential(given.from_file):
        demand_private(
            given.from_file, status, f"{given.where}: there is a password in this file, and"
        )


def to_server_name(text: str) -> str:
    """A name as TLS carries it (RFC 6066): a host name in lower case, not an address."""
    name = to_host(text).removesuffix(".")
    try:
        ip_address(name)
    except ValueError:
        return name
    raise ConfigError(f"'{printable(text)}' is an address: expected a name")
