"""How rules and maps name hosts and ports: one address, a network, names with stars; ranges."""

from __future__ import annotations

import re

import idna

from tunnelkit.core.globs import Glob
from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import LISTEN, MAX_DISPLAY, X11, to_host
from tunnelkit.policy.printable import printable
from tunnelkit.policy.special import Network, to_network

_GLOB_LABEL = re.compile(r"[a-z0-9_*](?:[a-z0-9_*-]{0,61}[a-z0-9_*])?\Z")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")

Ranges = tuple[tuple[int, int], ...]
"""Ranges of ports; first and last."""


def parse_network(text: str) -> Network:
    """Read one ``--from`` value, an address or a network in CIDR. Raises `ConfigError`."""
    try:
        return to_network(text)
    except ValueError as error:
        hint = " (bits behind the prefix are set)" if "host bits" in str(error) else ""
        raise ConfigError(
            f"{shown(text)} is not a network{hint}; expected one such as 10.0.0.0/8 or "
            "2001:db8::/32"
        ) from None


def split_host_ports(text: str) -> tuple[str, str]:
    """Cut ``HOST:PORTS``; IPv6 addresses keep their brackets. Raises `ConfigError`."""
    if text.startswith("["):
        host, bracket, ports = text.partition("]:")
        host += "]" if bracket else ""
    else:
        host, bracket, ports = text.rpartition(":")
        if ":" in host:
            raise ConfigError(f"{shown(host)} has colons; expected IPv6 addresses in brackets")
    if not bracket:
        raise ConfigError(f"the ports are missing in {shown(text)}; expected HOST:PORTS")
    return host, ports


def network_of(host: str) -> Network | None:
    """The network that ``host`` is, None if it is a name. Raises `ConfigError`."""
    if host.startswith("[") or "/" in host:
        return parse_network(host)
    if "*" in host:
        return None
    name = to_host(host)
    return to_network(name) if name.rpartition(".")[2].isdigit() else None


def host_glob(host: str) -> Glob:
    """The pattern of names that ``host`` is. Raises `ConfigError`."""
    if "*" not in host:
        return Glob(to_host(host).removesuffix("."))
    labels = host.lower().removesuffix(".").split(".")
    try:
        labels = [
            label if label.isascii() else idna.encode(label, uts46=True).decode("ascii")
            for label in labels
        ]
    except UnicodeError as error:
        raise ConfigError(f"{shown(host)} is not a valid name ({printable(str(error))})") from None
    if len(labels) > 1 and all(label.strip("*").isdigit() or label == "*" for label in labels):
        raise ConfigError(f"{shown(host)} looks like an address; expected one such as 10.0.0.0/8")
    if not all(map(_GLOB_LABEL.match, labels)):
        raise ConfigError(f"{shown(host)} is not a name; expected one such as *.corp.example")
    return Glob(".".join(labels))


def to_ports(text: str, kind: str) -> Ranges:
    """``80,443``, ``1000-2000`` or ``*``; displays for ``x11``. Raises `ConfigError`."""
    lowest = 0 if kind in (LISTEN, X11) else 1
    highest = MAX_DISPLAY if kind == X11 else 65535
    if text == "*":
        return ((lowest, highest),)
    ranges = []
    for part in text.split(","):
        match = _PORTS.match(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not lowest <= first <= last <= highest:
            raise ConfigError(
                f"{shown(part)} is not a port or range; expected numbers from {lowest} to "
                f"{highest}, such as 80,443 or 1000-2000, or *"
            )
        ranges.append((first, last))
    return tuple(ranges)


def shown(text: str) -> str:
    """``text`` as messages quote it."""
    return f"'{printable(text, 80)}'"
