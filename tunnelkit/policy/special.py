"""Addresses that no rule admits unless it names them (row P3, rule X2).

A host rule or a wide network such as ``0.0.0.0/0`` means 'the hosts out
there', never this machine, its link, or another spelling of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_IPV4 = (
    ("unspecified", "0.0.0.0/8"),
    ("loopback", "127.0.0.0/8"),
    ("link-local", "169.254.0.0/16"),
    ("metadata", "169.254.169.254/32"),
    ("metadata", "100.100.100.200/32"),
    ("metadata", "168.63.129.16/32"),
    ("metadata", "192.0.0.192/32"),
    ("multicast", "224.0.0.0/4"),
    ("reserved", "240.0.0.0/4"),
    ("broadcast", "255.255.255.255/32"),
)
_IPV6 = (
    ("unspecified", "::/128"),
    ("loopback", "::1/128"),
    ("link-local", "fe80::/10"),
    ("site-local", "fec0::/10"),
    ("metadata", "fd00:ec2::/32"),
    ("metadata", "fd20:ce::/32"),
    ("metadata", "fd00:c1::/32"),
    ("metadata", "fd00:42::/32"),
    ("multicast", "ff00::/8"),
    ("translated", "64:ff9b:1::/48"),
    ("translated", "2001::/32"),
)
_EMBEDDING = (
    # networks whose addresses stand for an IPv4 address, and at which bit it begins
    ("::ffff:0:0", 96),  # v4-mapped
    ("::", 96),  # v4-compatible
    ("::ffff:0:0:0", 96),  # SIIT
    ("64:ff9b::", 96),  # NAT64
    ("2002::", 16),  # 6to4
)


def _special_ranges() -> tuple[tuple[str, Network], ...]:
    ranges: list[tuple[str, Network]] = [(name, IPv4Network(text)) for name, text in _IPV4]
    ranges.extend((name, IPv6Network(text)) for name, text in _IPV6)
    for prefix, length in _EMBEDDING:
        ranges.append(("translated", IPv6Network((prefix, length))))
        # A rule for the whole translated network shall not admit, say, translated loopback.
        for name, text in _IPV4:
            inner = IPv4Network(text)
            start = int(IPv6Address(prefix)) | int(inner.network_address) << (96 - length)
            network = IPv6Network((start, length + inner.prefixlen))
            ranges.append((f"translated {name}", network))
    return tuple(ranges)


_RANGES = tuple(
    (network.version, int(network.network_address), int(network.netmask), name, network)
    for name, network in _special_ranges()
)


OWN = "this machine's own"


def own_range(address: Address) -> tuple[str, Network]:
    """The range that an address of this machine is in besides its `special_ranges`: itself."""
    return OWN, ip_network(address)


def is_only_own(ranges: Sequence[tuple[str, Network]]) -> bool:
    """Whether an address in ``ranges`` is special in nothing but being this machine's."""
    return len(ranges) == 1 and ranges[0][0] == OWN


def special_ranges(address: Address) -> tuple[tuple[str, Network], ...]:
    """Every special range that ``address`` is in, with what it is called; empty for an ordinary
    address. A rule admits the address only if what it names lies within all of them."""
    version, number = address.version, int(address)
    return tuple(
        (name, network)
        for of_version, start, mask, name, network in _RANGES
        if of_version == version and number & mask == start
    )


def names_itself(named: Network, ranges: tuple[tuple[str, Network], ...]) -> bool:
    """Whether ``named`` lies within every one of ``ranges``: then it was meant."""
    return all(
        named.version == special.version
        and named.prefixlen >= special.prefixlen
        and named.network_address in special
        for _, special in ranges
    )


def unmapped(address: Address) -> Address:
    """The IPv4 address that a v4-mapped one stands for; any other address unchanged."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def to_network(text: str) -> Network:
    """An address or a network in CIDR, brackets allowed; raises ValueError."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if "%" in text or not text.isascii() or text.isdigit():
        raise ValueError("not a network")
    if "/" in text and not text.rpartition("/")[2].isdigit():
        raise ValueError("not a prefix length")
    return ip_network(text)
