"""An end of any rendezvous with any channel protocols, both by name, as a role."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from twisted.application.service import IService

from tunnelkit.interfaces import IHasPorts, IRendezvousMaker, IUsesIdentity
from tunnelkit.policy.identity import Identity
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import end_parts, require_use
from tunnelkit.roles.end import EndService
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.roles.registry import named, protocol_makers, rendezvous_makers


@attrs.frozen(kw_only=True)
class TunnelEndConfig(EndConfig):
    """What such an end is told."""

    rendezvous: IRendezvousMaker
    meeting: Any
    """What it made of its options."""


class TunnelEndService(EndService):
    """One running end."""

    def __init__(self, reactor: Any, role: str, config: TunnelEndConfig) -> None:
        super().__init__(reactor, role, config, config.rendezvous.name, {})
        rendezvous = config.rendezvous.make_rendezvous(reactor, config.meeting)
        self._keyed = IUsesIdentity(rendezvous, None)
        self.identity_changed(self.identity)
        for own in getattr(IHasPorts(rendezvous, None), "own_ports", ()):
            self.policy.listeners.add(*own)
        part = IService(rendezvous, None)
        if part is not None:
            part.setServiceParent(self)
        self.run(rendezvous, config.rendezvous.describe(config.meeting))

    def identity_changed(self, identity: Identity) -> None:
        """See `EndService`; also at the start."""
        if self._keyed is not None:
            self._keyed.use_identity(identity)


config_class = TunnelEndConfig


def configure(settings: Settings, starting: bool) -> TunnelEndConfig:
    """See `IProxyRole`."""
    makers = rendezvous_makers()
    known = ", ".join(makers) or "one to be installed"
    maker = settings.required("rendezvous", f"NAME of one ({known})").parsed(partial(named, makers))
    settings.required("protocol", f"NAME of one ({', '.join(protocol_makers())})")
    config = TunnelEndConfig(
        rendezvous=maker, meeting=maker.configure(settings), **end_parts(settings)
    )
    if starting:
        require_use(config)
    return config


def make_service(reactor: Any, config: TunnelEndConfig) -> TunnelEndService:
    """See `IEndRole`."""
    return TunnelEndService(reactor, "tunnel-end", config)
