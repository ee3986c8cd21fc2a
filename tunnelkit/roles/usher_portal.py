"""The Usher portal as a role: dials its gate and keeps a tunnel up (U7, U10)."""

from __future__ import annotations

from typing import Any

import attrs

from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.net.dial.via import Via
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.usher.meeting import UsherRendezvous
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.policy.destination import parse_host_port
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import (
    USHER_SESSIONS,
    count,
    end_parts,
    proxies,
    require_use,
    to_server_name,
)
from tunnelkit.roles.end import EndService
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.roles.way_out import WayOut
from tunnelkit.version import __version__

TUNNEL = "usher"
"""What logs call the tunnel: Usher gives it no name."""


@attrs.frozen(kw_only=True)
class UsherPortalConfig(EndConfig):
    """What a portal is told."""

    gate: tuple[str, int]
    """Host and port of the gate, or of a bastion that relays to it."""
    server_name: str = ""
    """The name under which a bastion relays to the gate; empty: none is said."""
    via: Via = ()
    """The way out."""
    max_sessions: int = 10_000
    """Sessions that the gate's side may have open at once."""


class UsherPortalService(EndService):
    """One running portal."""

    def __init__(self, reactor: Any, role: str, config: UsherPortalConfig) -> None:
        mux = UsherConfig(
            max_sessions=config.max_sessions,
            keepalive=config.keepalive,
            software=f"tunnelkit/{__version__}",
        )
        protocol = UsherProtocol(mux, Shared.of(reactor).budget)
        super().__init__(reactor, role, config, TUNNEL, {"usher": protocol}, config.server_name)
        way = WayOut(reactor, config.via, "gate", config.gate)
        self.run(UsherRendezvous(way), way.describe())


config_class = UsherPortalConfig


def configure(settings: Settings, starting: bool) -> UsherPortalConfig:
    """See `IProxyRole`."""
    gate = settings.required("gate", "HOST:PORT of the gate, e.g. gate.example:7000")
    server_name = settings.one("server-name")
    config = UsherPortalConfig(
        gate=gate.parsed(parse_host_port),
        server_name=server_name.parsed(to_server_name) if server_name is not None else "",
        via=proxies(settings),
        max_sessions=count(settings, "max-channels", USHER_SESSIONS, 1, 32_767),
        **end_parts(settings),
    )
    if starting:
        require_use(config)
    return config


def make_service(reactor: Any, config: UsherPortalConfig) -> UsherPortalService:
    """See `IEndRole`."""
    return UsherPortalService(reactor, "usher-portal", config)


def make_protocol(reactor: Any) -> UsherProtocol:
    """Usher's records for an end of another kind, see `IProtocolMaker`."""
    config = UsherConfig(max_sessions=USHER_SESSIONS, software=f"tunnelkit/{__version__}")
    return UsherProtocol(config, Shared.of(reactor).budget)
