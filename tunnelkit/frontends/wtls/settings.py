"""The settings of an operator's proxy as text, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunnelkit.core.wtls.events import GatewayConfig
from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import parse_host_port, to_host
from tunnelkit.policy.files import read_private_file
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Given, Settings
from tunnelkit.wire.wtls_map import KEY_BYTES, MAX_TTL

TTL = 600
"""Seconds."""

Target = tuple[str, int]

_KEY = re.compile(r"[0-9a-fA-F]{64}\Z")
_MAX_KEYS = 10_000


def parse_secure(text: str) -> tuple[str, Target]:
    """``HOST=DOMAIN-PROXY:PORT``: a secure server and where its domain proxy is."""
    host, equals, target = text.partition("=")
    if not equals:
        raise ConfigError(f"'{printable(text)}' has no '=': expected HOST=DOMAIN-PROXY:PORT")
    return to_host(host).removesuffix("."), parse_host_port(target)


def parse_suffix(text: str) -> str:
    """A name; what is under it, and itself, has a mirror."""
    return to_host(text.removeprefix("*").removeprefix(".")).removesuffix(".")


def gateway_config(settings: Settings, prefix: str = "") -> GatewayConfig:
    """What ``--secure``, ``--map-key-file``, ``--ttl`` and ``--match`` say, with ``prefix``."""
    secure: dict[str, Target] = {}
    for given in settings.all(f"{prefix}secure"):
        host, target = given.parsed(parse_secure)
        if secure.setdefault(host, target) != target:
            given.wrong(f"{host} has a domain proxy already", "each HOST once")
    file = settings.one(f"{prefix}map-key-file")
    keys = map_keys(file) if file is not None else {}
    match = settings.one(f"{prefix}match")
    if match is not None and match.text not in ("strict", "auto"):
        match.wrong("not possible", "strict or auto")
    return GatewayConfig(
        ttl=time_to_live(settings.one(f"{prefix}ttl")),
        secure=secure,
        keys=keys,
        strict=match is not None and match.text == "strict",
    )


def suffixes(settings: Settings, prefix: str = "") -> tuple[str, ...]:
    """What ``--learn-from`` says."""
    return tuple(given.parsed(parse_suffix) for given in settings.all(f"{prefix}learn-from"))


def time_to_live(given: Given | None) -> float:
    """What ``--ttl`` says, in seconds."""
    if given is None:
        return float(TTL)
    text = given.text
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_TTL):
        given.wrong("not possible", f"whole seconds from 1 to {MAX_TTL}")
    return float(text)


def map_keys(given: Given) -> dict[Target, bytes]:
    """The lines ``HOST:PORT KEY`` of a map key file."""
    keys: dict[Target, bytes] = {}
    for number, words in _lines(given):
        where = f"{given.where} {printable(given.text)}:{number}"
        if len(words) != 2 or not _KEY.match(words[1]):
            raise ConfigError(
                f"{where}: expected HOST:PORT and a key of {2 * KEY_BYTES} hex digits"
            )
        try:
            target = parse_host_port(words[0])
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if target in keys:
            raise ConfigError(f"{where}: {printable(words[0])} has a key already")
        keys[target] = bytes.fromhex(words[1])
        if len(keys) > _MAX_KEYS:
            raise ConfigError(f"{where}: expected at most {_MAX_KEYS} keys")
    return keys


def own_map_key(given: Given) -> bytes:
    """The one key in a domain proxy's map key file."""
    lines = list(_lines(given))
    if len(lines) != 1 or len(lines[0][1]) != 1 or not _KEY.match(lines[0][1][0]):
        raise ConfigError(
            f"{given.where} {printable(given.text)}: expected one line with a key of "
            f"{2 * KEY_BYTES} hex digits"
        )
    return bytes.fromhex(lines[0][1][0])


def _lines(given: Given) -> Iterable[tuple[int, list[str]]]:
    where = f"{given.where} {printable(given.text)}"
    try:
        text = read_private_file(given.text, where).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not UTF-8 text: expected a text file") from None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            yield number, words
