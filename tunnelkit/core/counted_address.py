"""Which strangers count as one (rule X25)."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network


def counted_address(address: str) -> str:
    """The address as limits count it: IPv6 by /64, since a host has a whole one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False))
