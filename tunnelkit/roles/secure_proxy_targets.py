"""Whom a client of a Communication Server asks for, and to whom its ports lead (S7, X29)."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from tunnelkit.errors import ConfigError
from tunnelkit.frontends.registry import Wanted
from tunnelkit.policy.destination import UDP, ForwardSpec, parse_forward
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Given, Settings
from tunnelkit.roles.configure import to_name
from tunnelkit.roles.secure_proxy_resources import RESOURCE
from tunnelkit.wire.secureproxy import GROUP


def named_targets(ports: Iterable[Wanted]) -> frozenset[str]:
    """The names behind the ``@`` of ports; raises `ConfigError` if one is none."""
    names: set[str] = set()
    for port in ports:
        for name in port.peers:
            if to_name(name).startswith(GROUP):
                raise ConfigError(
                    f"--{port.front_end.name}: {printable(name)}: only datagrams can go to a "
                    "group: expected --target group:NAME for ports that lead to any member"
                )
            names.add(name)
    return frozenset(names)


def bound_ports(
    ports: Iterable[Wanted], target: str | None, peers: frozenset[str], callers: frozenset[str]
) -> tuple[Wanted, ...]:
    """Each of the ports with those to whom it leads: for a group any of ``peers`` (rule X29).

    ``callers`` are those who may ask for this client. Raises `ConfigError` if that is not said.
    """
    return tuple(
        port if port.peers else attrs.evolve(port, peers=_those_meant(port, target, peers, callers))
        for port in ports
    )


def _those_meant(
    port: Wanted, target: str | None, peers: frozenset[str], callers: frozenset[str]
) -> frozenset[str]:
    if target is not None:
        return frozenset({target}) if target in peers else peers
    if len(callers) == 1:
        return callers
    raise ConfigError(
        f"--{port.front_end.name}: --target is missing: expected NAME of the client to which the "
        "ports here lead, or @NAME behind each"
    )


def split_group_forwards(
    settings: Settings,
) -> tuple[tuple[tuple[str, ForwardSpec], ...], Settings]:
    """``--forward PORT=udp:HOST:PORT@group:NAME``, and the settings without these."""
    found: list[tuple[str, ForwardSpec]] = []
    others: list[Given] = []
    for given in settings.all("forward"):
        text, at, group = given.text.partition(f"@{GROUP}")
        if not at:
            others.append(given)
            continue
        specs = Given(text, given.where).parsed(parse_forward)
        if not RESOURCE.fullmatch(group) or any(spec.protocol != UDP for spec in specs):
            given.wrong("only datagrams can go to a group", "PORT=udp:HOST:PORT@group:NAME")
        found += [(f"{GROUP}{group}", spec) for spec in specs]
    values = {name: settings.all(name) for name in settings.names}
    return tuple(found), Settings({**values, "forward": others})
