"""Who is at which address: what makes devices behind one address (NAT) several, or one (row W4).

A device is matched by address and port. Some stacks take a new port each time; such a device can
be matched by its address alone, if it is alone there.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

Address = tuple[str, int]

ROAMING_AFTER = 3
"""5.03s to one address, for different ports, after which its ports do not count."""
TIDY = 30.0
"""Seconds between looks for what is old."""


class Lately:
    """The latest devices of which something is remembered, at most ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._until: OrderedDict[Address, float] = OrderedDict()

    def add(self, device: Address, until: float = math.inf) -> None:
        """Remember ``device``."""
        self._until[device] = until
        self._until.move_to_end(device)
        if len(self._until) > self._most:
            self._until.popitem(last=False)

    def take(self, device: Address, now: float) -> bool:
        """Whether it is remembered; it is not any more."""
        return self._until.pop(device, now) > now

    def __contains__(self, device: Address) -> bool:
        return device in self._until


class Places:
    """The associations at each address, and the devices that were sent away from it lately.

    A device that has been told to come again counts as gone: its association only waits there to
    repeat that. ``memory``: seconds that sending away is remembered.
    """

    def __init__(self, memory: float, strict: bool) -> None:
        self._memory = memory
        self._strict = strict
        self._served: dict[str, set[int]] = {}
        self._sent_away: dict[str, deque[tuple[float, int]]] = {}
        """When, and which port."""
        self._tidied = 0.0

    def made(self, device: Address) -> None:
        """``device`` has an association here."""
        self._served.setdefault(device[0], set()).add(device[1])

    def ended(self, device: Address) -> None:
        """It has none any more."""
        ports = self._served.get(device[0])
        if ports is not None:
            ports.discard(device[1])
            if not ports:
                del self._served[device[0]]

    def sent_away(self, device: Address, now: float) -> None:
        """It has been told to come again."""
        self.ended(device)
        ports = self._sent_away.setdefault(device[0], deque(maxlen=2 * ROAMING_AFTER))
        ports.append((now, device[1]))

    def needs_same_port(self, device: Address, tunnels: set[int], now: float) -> bool:
        """Whether ``device`` cannot be told from others, unless it comes from the same port.

        ``tunnels``: the ports of its address that are in tunnel mode.
        """
        ports = self._ports(device[0], now) | {device[1]}
        return len(ports) > ROAMING_AFTER and not self._alone(device[0], ports, tunnels)

    def last_port(self, host: str, tunnels: set[int], now: float) -> int | None:
        """The port from which the device was sent away that is alone at ``host`` and changes its
        ports; None: there is no such device."""
        ports = self._ports(host, now)
        if len(ports) < ROAMING_AFTER or not self._alone(host, ports, tunnels):
            return None
        return self._sent_away[host][-1][1]

    def tidy(self, now: float) -> None:
        """Forget what is old, once in a while."""
        if now - self._tidied >= TIDY:
            self._tidied = now
            for host in [host for host in self._sent_away if not self._ports(host, now)]:
                del self._sent_away[host]

    def _alone(self, host: str, ports: set[int], tunnels: set[int]) -> bool:
        return not self._strict and not (self._served.get(host, set()) | tunnels) - ports

    def _ports(self, host: str, now: float) -> set[int]:
        return {port for when, port in self._sent_away.get(host, ()) if when > now - self._memory}
