"""One ``--allow PATTERN``: how it is read and what it matches (rows P2, P3, P5)."""

from __future__ import annotations

import re
from ipaddress import ip_network

import attrs

from tunnelkit.core.globs import Glob
from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import (
    KINDS,
    LISTEN,
    SERVICE,
    TCP,
    UDP,
    UNIX,
    X11,
    to_unix_path,
)
from tunnelkit.policy.patterns import (
    Ranges,
    host_glob,
    network_of,
    parse_network,
    shown,
    split_host_ports,
    to_ports,
)
from tunnelkit.policy.special import Address, Network, is_only_own, names_itself

__all__ = ["EXPECTED", "MAX_TEXT", "SELF", "Rule", "parse_network", "parse_rule"]

MAX_TEXT = 2048
SELF = "self"
"""The host that stands for the addresses that this machine has, loopback aside."""

EXPECTED = (
    "expected tcp:HOST:PORTS, udp:HOST:PORTS, unix:PATH, x11:DISPLAY, service:NAME or "
    "listen:ADDRESS:PORTS"
)

_SERVICE = re.compile(r"@?[A-Za-z0-9._*-]{1,128}\Z")
_PLACE = re.compile(r"(?:\[[^\]]+\]|[^:\[\]@/][^:\[\]@]*)(?:@[^:\[\]]+)?:[0-9*][0-9,*-]*(?:@.+)?")
"""``HOST:PORTS`` without a kind."""


@attrs.frozen
class Rule:
    """One allow rule. Made by `parse_rule`."""

    text: str
    """As the owner wrote it, for logs."""
    kind: str
    """``tcp``, ``udp``, ``unix``, ``x11``, ``service`` or ``listen``."""
    peers: tuple[Glob, ...] = ()
    """Names of the peers it is for; empty: all."""
    network: Network | None = None
    """The addresses it names, if it does so by address."""
    host: Glob | None = None
    """The host names it names, if it does so by name; for ``service`` the service's name."""
    any_host: bool = False
    """True for the host ``*``, which stands for addresses, too."""
    own: bool = False
    """True for the host ``self``: the addresses of this machine."""
    ports: Ranges = ()
    """Ranges of ports, or of displays for ``x11``; first and last."""
    also: tuple[Network, ...] = ()
    """Behind ``@``: special addresses that a host rule admits."""
    also_own: bool = False
    """``self`` behind ``@``."""
    exact: str = ""
    """The path for ``unix``; ``tcp`` or ``udp`` for a ``listen`` rule of one protocol only."""

    def is_for(self, peer: str) -> bool:
        """Whether the rule says anything about ``peer``."""
        return not self.peers or any(pattern.match(peer) for pattern in self.peers)

    def has_port(self, port: int) -> bool:
        """Whether ``port`` (or display) is within the rule."""
        return any(first <= port <= last for first, last in self.ports)

    def admits(
        self, address: Address, host: str | None, ranges: tuple[tuple[str, Network], ...]
    ) -> bool:
        """Whether ``address`` is within the rule; ``host`` is the name that led to it, if any,
        and ``ranges`` are the address's `special_ranges`."""
        if self.network is not None:
            return address in self.network and names_itself(self.network, ranges)
        if self.own:
            return is_only_own(ranges)
        if not self.any_host and (self.host is None or not host or not self.host.match(host)):
            return False
        if self.also_own and is_only_own(ranges):
            return True
        return not ranges or any(
            address in network and names_itself(network, ranges) for network in self.also
        )

    def is_for_name(self, host: str) -> bool:
        """Whether the rule is for that name, wherever it leads."""
        return self.any_host or (self.host is not None and self.host.match(host))

    @property
    def is_for_addresses(self) -> bool:
        """Whether the rule is for addresses, whatever the names that lead to them."""
        return self.any_host or self.own or self.network is not None

    def names_exactly(self, address: Address, port: int) -> bool:
        """Whether the rule was written for this one address and port."""
        named = (self.network,) if self.network is not None else self.also
        return (port, port) in self.ports and ip_network(address) in named


def parse_rule(text: str, what: str = "allow rule") -> Rule:
    """Read one ``--allow`` value; ``what`` errors call it.

    ==================================  ====================================================
    text                                admits
    ==================================  ====================================================
    ``tcp:127.0.0.1:9000``              that address (a special one must be named like this);
                                        ``tcp:`` may be left out (row Q8)
    ``tcp:[::1]:22``                    IPv6 goes in brackets
    ``udp:10.0.0.0/8:53``               a network, also ``[2001:db8::/32]``
    ``tcp:*.corp.example:80,443``       names; ``*`` is any run of characters, dots included
    ``tcp:host:1000-2000``              a range of ports, ``*`` for all
    ``tcp:*:443``                       every host, by name or address, but no special address
    ``tcp:localhost:80@127.0.0.0/8``    a name that may lead to these special addresses;
                                        several with commas; ``tcp:localhost@127.0.0.0/8:80``
                                        is the same
    ``tcp:self:22``                     this machine by the addresses that it has, loopback aside;
                                        a wider network or ``*`` does not stand for them
    ``tcp:host:80@self``                a name that may lead to one of them
    ``unix:/run/x.sock``                that path
    ``x11::0``, ``x11:HOST:0-3``        displays of this machine, of another one
    ``service:NAME``                    a published service; ``*`` as above
    ``listen:127.0.0.1:8000-8010``      that the far side opens these ports here;
                                        ``listen:tcp:...``, ``listen:udp:...`` for one protocol
    ``NAME,NAME=PATTERN``               any of these, for these peers only; ``*`` as above
    ==================================  ====================================================

    A name is resolved first; a rule by address also admits a name that leads
    there. Raises `ConfigError`.
    """
    try:
        if len(text) > MAX_TEXT:
            raise ConfigError(f"it has more than {MAX_TEXT} characters")
        peers, pattern = _split_peers(text)
        kind, _, rest = pattern.partition(":")
        if kind not in KINDS and _PLACE.fullmatch(pattern):
            kind, rest = TCP, pattern
        if kind not in KINDS:
            raise ConfigError(EXPECTED)
        if kind == UNIX:
            if "*" in rest:
                raise ConfigError("* stands for nothing in a path; expected the whole path")
            return Rule(text, kind, peers, exact=to_unix_path(rest))
        if kind == SERVICE:
            if not _SERVICE.match(rest):
                raise ConfigError("the service's name is wrong; expected service:NAME")
            return Rule(text, kind, peers, host=Glob(rest))
        protocol = ""
        if kind == LISTEN and rest.startswith((f"{TCP}:", f"{UDP}:")):
            protocol, _, rest = rest.partition(":")
        host, ports, also = _split_host_rule(rest)
        ranges = to_ports(ports, kind)
        if kind == X11 and not host:
            _also(also, by_name=False)
            return Rule(text, kind, peers, ports=ranges)
        network = network_of(host)
        own = host == SELF and kind != LISTEN
        if network is None and kind == LISTEN and host != "*":
            raise ConfigError(f"{shown(host)} is not an address; expected listen:ADDRESS:PORTS")
        special, also_own = _also(also, by_name=network is None and not own)
        return Rule(
            text,
            kind,
            peers,
            network=network,
            host=None if network or own else host_glob(host),
            any_host=host == "*",
            own=own,
            ports=ranges,
            also=special,
            also_own=also_own,
            exact=protocol,
        )
    except ConfigError as error:
        raise ConfigError(f"{what} {shown(text)}: {error}") from None


def _split_peers(text: str) -> tuple[tuple[Glob, ...], str]:
    names, equals, pattern = text.partition("=")
    # A pattern may have a '=' in a path, a peer's name a ':' in an URI.
    if not equals or names.startswith(tuple(f"{kind}:" for kind in KINDS)):
        return (), text
    peers = names.split(",")
    if not all(name and name.isprintable() and " " not in name for name in peers):
        raise ConfigError("a peer's name is empty or has blanks; expected NAME,NAME=PATTERN")
    return tuple(Glob(name) for name in peers), pattern


def _split_host_rule(rest: str) -> tuple[str, str, str]:
    """The host without brackets around a name, the ports, and what is behind ``@``."""
    before, at, behind = rest.partition("@")
    also = behind
    if at and ":" not in before:
        also, _, ports = behind.rpartition(":")
        before = f"{before}:{ports}"
    if at and not also:
        raise ConfigError("there is nothing behind '@'; expected a network")
    return (*split_host_ports(before), also)


def _also(text: str, by_name: bool) -> tuple[tuple[Network, ...], bool]:
    """The networks behind ``@``, and whether ``self`` is one of them."""
    if not text:
        return (), False
    if not by_name:
        raise ConfigError("only a rule for a host name can have '@NETWORK' behind it")
    parts = text.split(",")
    return tuple(parse_network(part) for part in parts if part != SELF), SELF in parts
