"""The LSTP middle as a role: its ports, and the factory that pairs what comes in (L1, L12)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import attrs


@attrs.frozen
class LstpMiddleConfig:
    """What a middle is told. No key: it cannot read what passes."""

    listen: tuple[tuple[str, int], ...]
    """Address and port of each listener; port 0 is any free one."""
    name: str
    """Its name in topologies."""
    admit: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that ends may come from; empty: all."""
    admission_token: str | None = attrs.field(default=None, repr=False)
    """What an end has to show; None: nothing."""
    max_waiting: int = 10_000
    """Ends that wait at once."""
    max_waiting_per_address: int = 10_000
    """Of those, from one address."""
    max_in_setup: int = 200
    """Connections at once whose setup is not complete."""
