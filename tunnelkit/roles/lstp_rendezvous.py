"""Meeting at an LSTP middle with any channel protocol: ``tunnel-end --rendezvous lstp``."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from tunnelkit.interfaces import IUsesIdentity
from tunnelkit.net.dial.via import Via
from tunnelkit.net.lstp.meeting import LstpParty, LstpRendezvous, MiddleRendezvous
from tunnelkit.net.sockets.context import Shared
from tunnelkit.policy.destination import parse_host_port
from tunnelkit.policy.identity import Identity
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import admission_token, proxies, to_tunnel_name
from tunnelkit.roles.way_out import WayOut
from tunnelkit.wire.lstp import CLIENT_END, SERVER_END, derive_common

_log = Logger()


@attrs.frozen(kw_only=True)
class Config:
    """Where, under which name, and as what."""

    middle: tuple[str, int]
    tunnel: str
    via: Via
    role: str
    """``client-end`` or ``server-end``."""
    admission_token: str | None = attrs.field(default=None, repr=False)


def configure(settings: Settings) -> Config:
    """See `IRendezvousMaker`."""
    middle = settings.required("middle", "HOST:PORT of the middle, e.g. middle.example:7000")
    tunnel = settings.required("tunnel", "NAME of the tunnel, the same at both ends")
    return Config(
        middle=middle.parsed(parse_host_port),
        tunnel=tunnel.parsed(to_tunnel_name),
        via=proxies(settings),
        role=SERVER_END if settings.flag("serve") else CLIENT_END,
        admission_token=admission_token(settings),
    )


def describe(config: Config) -> str:
    """See `IRendezvousMaker`."""
    host, port = config.middle
    return f"tunnel {config.tunnel} at middle {host}:{port}"


def make_rendezvous(reactor: Any, config: Config) -> NamedTunnel:
    """See `IRendezvousMaker`."""
    way = WayOut(reactor, config.via, "middle", config.middle)
    # Who this is is told by `NamedTunnel.use_identity`.
    party = LstpParty("", "", config.role, admission=config.admission_token)
    return NamedTunnel(Shared.of(reactor), way, party, config.tunnel)


@implementer(IUsesIdentity)
class NamedTunnel(LstpRendezvous):
    """Meets others at the middle under the name of ``tunnel`` and the end's rendezvous secret."""

    def __init__(
        self, shared: Shared, endpoint: IStreamClientEndpoint, party: LstpParty, tunnel: str
    ) -> None:
        super().__init__(shared, endpoint, party)
        self._tunnel = tunnel

    def use_identity(self, identity: Identity) -> None:
        """See `IUsesIdentity`."""
        meet_as(self, identity, self._tunnel)


def meet_as(rendezvous: MiddleRendezvous, identity: Identity, tunnel: str) -> None:
    """Wait under another rendezvous id if the secret is another one (row K5)."""
    party = rendezvous.party
    common = derive_common(identity.rendezvous_secret, tunnel)
    if common == party.common:
        return
    if party.common:
        _log.info("The rendezvous secret has changed: meeting the other end by it from now on")
    rendezvous.become(attrs.evolve(party, common=common, name=identity.name))
