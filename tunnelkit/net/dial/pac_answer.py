"""Reading what a proxy auto-configuration script answers: ``PROXY a:3128; SOCKS5 b; DIRECT``."""

from __future__ import annotations

import re

from tunnelkit.errors import ConfigError
from tunnelkit.net.dial.via import Hop, parse_hop

MOST_WAYS = 16
"""What comes behind so many is not tried."""

_KINDS = {
    "PROXY": ("http", 80),
    "HTTP": ("http", 80),
    "HTTPS": ("https", 443),
    "SOCKS": ("socks4", 1080),  # as browsers take it
    "SOCKS4": ("socks4", 1080),
    "SOCKS4A": ("socks4a", 1080),
    "SOCKS5": ("socks5", 1080),
}
"""The scheme of ``--via``, and the port if none is given."""
_EXPECTED = "expected 'PROXY HOST:PORT', HTTPS, SOCKS5, SOCKS4 or DIRECT, with ; between several"

Way = Hop | None
"""A proxy; None: directly."""


def parse_answer(answer: str, source: str) -> tuple[Way, ...]:
    """The ways to try, in order, at least one and at most `MOST_WAYS`; ``source`` is for errors.

    An empty answer means directly. Kinds of proxies that are not known here are left out, as
    browsers do, unless nothing else is left. Raises `ConfigError`, which names no login.
    """
    ways: list[Way] = []
    unknown = ""
    entries = [entry.strip() for entry in answer.split(";")]
    for entry in filter(None, entries):
        kind, _, place = entry.partition(" ")
        kind, place = kind.upper(), place.strip()
        if kind == "DIRECT" and not place:
            ways.append(None)
        elif kind in _KINDS:
            scheme, port = _KINDS[kind]
            ways.append(_proxy(scheme, place, port, source))
        else:
            unknown = unknown or kind
    if unknown and not ways:
        shown = f"{unknown} in it" if re.fullmatch("[A-Z0-9+-]{1,16}", unknown) else "its answer"
        raise ConfigError(f"{source}: {shown} is no kind of proxy known here; {_EXPECTED}")
    if not any(entries):
        return (None,)
    return tuple(dict.fromkeys(ways))[:MOST_WAYS]


def _proxy(scheme: str, place: str, port: int, source: str) -> Hop:
    with_port = re.search(r":[0-9]+$", place) and not place.endswith("]")
    try:
        return parse_hop(f"{scheme}://{place}" if with_port else f"{scheme}://{place}:{port}")
    except ConfigError as problem:
        why = str(problem).removeprefix("--via: ")
        raise ConfigError(f"{source}: a proxy in its answer: {why}; {_EXPECTED}") from None
