"""What is this machine, and what is this process: addresses and listeners of our own."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address

from tunnelkit.policy.special import Address, unmapped

_DISCARD = 9
"""Any port does: nothing is sent there."""
_NONLOCAL = {4: "/proc/sys/net/ipv4/ip_nonlocal_bind", 6: "/proc/sys/net/ipv6/ip_nonlocal_bind"}


def is_own_address(address: Address) -> bool:
    """Whether ``address`` is one of this machine's.

    Costs two or three system calls; sends nothing.
    """
    if address.is_loopback or address.is_unspecified:
        return True
    if address.is_multicast:
        return False  # can be bound to everywhere
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            # Anything but 'there is no such address here' is no proof of the contrary.
            return error.errno != errno.EADDRNOTAVAIL
    return not _binds_anything(address.version) or _is_its_own_source(family, str(address))


def _binds_anything(version: int) -> bool:
    """Whether this machine lets programs bind to addresses that it does not have."""
    try:
        with open(_NONLOCAL[version], encoding="ascii") as file:
            return file.read(2).strip() == "1"
    except OSError:
        return False


def _is_its_own_source(family: socket.AddressFamily, address: str) -> bool:
    """Whether packets to ``address`` would come from it: only those to oneself do."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, _DISCARD))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == address)


class OwnListeners:
    """The TCP and UDP ports that this process listens on; it does not dial itself for a peer."""

    def __init__(self) -> None:
        self._addresses: dict[tuple[str, int], list[Address]] = {}

    def add(self, protocol: str, address: str, port: int) -> None:
        """A listener has been opened."""
        self._addresses.setdefault((protocol, port), []).append(unmapped(ip_address(address)))

    def discard(self, protocol: str, address: str, port: int) -> None:
        """A listener has been closed."""
        addresses = self._addresses.get((protocol, port), [])
        if (closed := unmapped(ip_address(address))) in addresses:
            addresses.remove(closed)
        if not addresses:
            self._addresses.pop((protocol, port), None)

    def may_have(self, protocol: str, port: int) -> bool:
        """Whether there is a listener with that port on any address; cheap."""
        return (protocol, port) in self._addresses

    def covers(self, protocol: str, address: Address, port: int) -> bool:
        """Whether dialling there would reach one of the listeners."""
        target = unmapped(address)
        return any(
            own == target
            or target.is_unspecified
            or (own.is_unspecified and is_own_address(target))
            for own in self._addresses.get((protocol, port), ())
        )
