"""Meeting at an LSTP middle with any channel protocol: ``tunnel-end --rendezvous lstp``."""

from __future__ import annotations

from typing import Any

import attrs

from tunnelkit.net.dial.via import Hop
from tunnelkit.net.lstp.meeting import LstpParty, LstpRendezvous
from tunnelkit.net.sockets.context import Shared
from tunnelkit.policy.destination import parse_host_port
from tunnelkit.policy.identity import load_identity
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import admission_token, proxies, to_tunnel_name
from tunnelkit.roles.end import WayOut
from tunnelkit.wire.lstp import CLIENT_END, SERVER_END, derive_common


@attrs.frozen
class Config:
    """Where, under which name, and as what."""

    middle: tuple[str, int]
    tunnel: str
    via: tuple[Hop, ...] | None
    party: LstpParty


def configure(settings: Settings) -> Config:
    """See `IRendezvousMaker`."""
    identity = settings.required("identity", "FILE.pem made by 'tunnelkit keys issue'")
    middle = settings.required("middle", "HOST:PORT of the middle, e.g. middle.example:7000")
    tunnel = settings.required("tunnel", "NAME of the tunnel, the same at both ends")
    name = tunnel.parsed(to_tunnel_name)
    known = identity.parsed(load_identity)
    party = LstpParty(
        derive_common(known.rendezvous_secret, name),
        known.name,
        SERVER_END if settings.flag("serve") else CLIENT_END,
        admission=admission_token(settings),
    )
    return Config(middle.parsed(parse_host_port), name, proxies(settings), party)


def describe(config: Config) -> str:
    """See `IRendezvousMaker`."""
    host, port = config.middle
    return f"tunnel {config.tunnel} at middle {host}:{port}"


def make_rendezvous(reactor: Any, config: Config) -> LstpRendezvous:
    """See `IRendezvousMaker`."""
    way = WayOut(reactor, config.via, "middle", config.middle)
    return LstpRendezvous(Shared.of(reactor), way, config.party)
