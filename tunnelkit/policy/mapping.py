"""``--map HOST:PORTS=DESTINATION``: what is asked for here means something else (rows P6, U9).

So a host inside can serve its own ports under the names that programs
outside use. The rules are asked about the destination that is meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

import attrs

from tunnelkit.core.globs import Glob
from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import (
    KINDS,
    SERVICE,
    TCP,
    UDP,
    UNIX,
    Destination,
    destination_to,
    parse_destination,
)
from tunnelkit.policy.patterns import (
    Ranges,
    host_glob,
    network_of,
    shown,
    split_host_ports,
    to_ports,
)
from tunnelkit.policy.special import Network

REMEMBERED = 1024
"""Answers that `Maps` keeps."""
EXPECTED = "HOST:PORTS=DESTINATION, such as db.corp.example:5432=tcp:127.0.0.1:5432"

_ANY_PORT = ":*"


@attrs.frozen
class MapRule:
    """One ``--map``. Made by `parse_map`."""

    text: str
    """As the owner wrote it, for logs."""
    ports: Ranges
    """The ports that are asked for."""
    destination: Destination
    """What is meant; with ``same_port`` the port of it does not matter."""
    network: Network | None = None
    """The addresses that are asked for, if it names addresses."""
    host: Glob | None = None
    """The names that are asked for, if it names names; ``*`` stands for addresses, too."""
    same_port: bool = False
    """Whether the port that is asked for is kept."""

    def meant(self, asked: Destination) -> Destination | None:
        """What ``asked`` means by this rule; None: it is not for that."""
        if (asked.kind == UDP) is not (self.destination.kind == UDP):
            return None
        if not any(first <= asked.port <= last for first, last in self.ports):
            return None
        if self.network is not None:
            if not asked.is_address or ip_address(asked.host) not in self.network:
                return None
        elif self.host is not None and not self.host.match(asked.host.removesuffix(".")):
            return None
        if self.same_port:
            return attrs.evolve(self.destination, port=asked.port)
        return self.destination


class Maps:
    """All maps of an end; the first that is for a destination counts, and what it means is not
    looked up again."""

    def __init__(self, rules: Iterable[MapRule] = ()) -> None:
        self.rules = tuple(rules)
        self._meant = lru_cache(maxsize=REMEMBERED)(self._look_up)

    def meant(self, asked: Destination) -> Destination:
        """What ``asked`` means; itself if no map is for it, or if it is not ``tcp`` or ``udp``."""
        return self._meant(asked) if self.rules and asked.kind in (TCP, UDP) else asked

    def meant_address(self, host: str, port: int) -> tuple[str, int]:
        """The same for where a datagram is sent; what is no possible destination stays."""
        if not self.rules:
            return host, port
        try:
            meant = self.meant(destination_to(UDP, host, port))
        except ConfigError:
            return host, port
        return meant.host, meant.port

    def _look_up(self, asked: Destination) -> Destination:
        found = (meant for rule in self.rules if (meant := rule.meant(asked)) is not None)
        return next(found, asked)


def parse_map(text: str) -> MapRule:
    """Read one ``--map`` value.

    ============================================  ================================================
    text                                          what a request then leads to
    ============================================  ================================================
    ``db.corp.example:5432=tcp:127.0.0.1:5432``   for that name and port: this address
    ``*.corp.example:80,443=tcp:127.0.0.1:*``     for these names and ports: this address, the
                                                  port that was asked for
    ``10.0.0.0/8:1-1023=tcp:self.example:22``     for addresses of that network
    ``db:5432=unix:/run/db.sock``                 a unix socket
    ``ns.example:53=udp:127.0.0.1:53``            a map to ``udp:`` is for datagrams, all others
                                                  for connections
    ``wiki:80=service:wiki``                      a published service
    ``db:5432=127.0.0.1:5432``                    ``tcp:`` is the default
    ============================================  ================================================

    Raises `ConfigError`.
    """
    try:
        pattern, equals, target = text.partition("=")
        if not equals:
            raise ConfigError(f"there is no '='; expected {EXPECTED}")
        if not target.startswith(tuple(f"{kind}:" for kind in KINDS)):
            target = f"{TCP}:{target}"
        kind = target.partition(":")[0]
        if kind not in (TCP, UDP, UNIX, SERVICE) or target == f"{UDP}:*":
            raise ConfigError(
                f"{shown(target)} cannot be meant; expected tcp:HOST:PORT, udp:HOST:PORT, "
                "unix:PATH or service:NAME"
            )
        same_port = kind in (TCP, UDP) and target.endswith(_ANY_PORT)
        destination = parse_destination(target[:-1] + "1" if same_port else target)
        host, ports = split_host_ports(pattern)
        network = network_of(host)
        return MapRule(
            text,
            to_ports(ports, kind),
            destination,
            network,
            None if network is not None else host_glob(host),
            same_port,
        )
    except ConfigError as error:
        raise ConfigError(f"map {shown(text)}: {error}") from None
