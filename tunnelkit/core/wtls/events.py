"""What a `Gateway` is told, and what it says has to be done."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from enum import Enum
from typing import NamedTuple

import attrs

from tunnelkit.core.wtls.mapping import Mapping

Address = tuple[str, int]
"""Host and port."""


@attrs.frozen(kw_only=True)
class GatewayConfig:
    """What an operator's proxy is told."""

    ttl: float = 600.0
    """Seconds from the first forwarded hello, 1 to 65,535."""
    secure: MappingOf[str, Address] = attrs.field(factory=dict)
    """Secure servers and the domain proxy of each."""
    keys: MappingOf[Address, bytes] = attrs.field(factory=dict, repr=False)
    """The map key of each domain proxy."""
    strict: bool = False
    """Match a device by address and port always."""


class Answer(Enum):
    """What a device that asked for a secure server is told."""

    RETRY = "end-to-end security is required: connect again with the same port"
    """5.03, Max-Age 0."""
    NO_KEY = "there is no map key for the domain proxy of this server"
    """5.02."""
    UNREACHABLE = "the domain proxy did not answer"
    """5.04."""
    NEW_PORTS = "connect again from the same port: several devices share this address"
    """5.02."""
    FULL = "too many devices"
    """5.03 with a Max-Age."""


class Serve(NamedTuple):
    """The datagram belongs to this proxy's own association with the device."""


class Discard(NamedTuple):
    """Forget this proxy's own association with the device, without a word: it has begun anew."""

    device: Address


class OpenPath(NamedTuple):
    """Have a socket towards the domain proxy, for this mapping alone."""

    mapping: Mapping


class ToTarget(NamedTuple):
    """Send this through the mapping's socket."""

    mapping: Mapping
    data: bytes | memoryview


class ToDevice(NamedTuple):
    """Send this to the mapping's device."""

    mapping: Mapping
    data: bytes | memoryview


class ClosePath(NamedTuple):
    """The mapping is over, and why."""

    mapping: Mapping
    why: str


Event = Serve | Discard | OpenPath | ToTarget | ToDevice | ClosePath
