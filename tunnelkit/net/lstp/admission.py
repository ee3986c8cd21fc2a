"""From where connections may come to a middle at all (row L12; O6 for those thrown out)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from twisted.logger import Logger

from tunnelkit.core.barred import Barred

_log = Logger()

Network = IPv4Network | IPv6Network


class Admission:
    """Lets in who comes from ``networks`` (none: from anywhere) and was not thrown out.

    Connections without an IP address (unix sockets, pipes of tests) always get in.
    """

    def __init__(self, networks: Sequence[Network], now: Callable[[], float]) -> None:
        self.networks = tuple(networks)
        """They may be replaced at any time; who is in stays in."""
        self.turned_away = 0
        self._now = now
        self._barred = Barred()

    def bar(self, address: str, seconds: float) -> None:
        """Turn away who comes from there for so long."""
        self._barred.bar(address, self._now() + seconds)

    def admits(self, host: str) -> bool:
        """Whether a connection from ``host`` (an address in text) may stay."""
        if not host:
            return True
        if self._barred.seconds(host, self._now()):
            self.turned_away += 1
            return False
        if not self.networks:
            return True
        address = ip_address(host.partition("%")[0])
        if any(address in network for network in self.networks):
            return True
        self.turned_away += 1
        _log.warn("Turned away {address}: not in an admitted network", address=host)
        return False
