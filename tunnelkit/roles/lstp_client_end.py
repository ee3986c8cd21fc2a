"""The LSTP client end as a role."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService
from twisted.plugin import IPlugin
from zope.interface import implementer

from tunnelkit.interfaces import IProxyRole
from tunnelkit.roles.lstp_end import LstpEndConfig, LstpEndService


@implementer(IPlugin, IProxyRole)
class LstpClientEnd:
    """``twistd lstp-client-end``: ports near the client application that lead into the tunnel."""

    name = "lstp-client-end"
    description = "LSTP client end: SOCKS and forwards here that lead through a tunnel."
    config_class = LstpEndConfig

    def make_service(self, reactor: Any, config: Any) -> IService:
        """The running end; raises `ConfigError` for a port that is taken."""
        return LstpEndService(reactor, self.name, config)
