"""The LSTP server end as a role."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService
from twisted.plugin import IPlugin
from zope.interface import implementer

from tunnelkit.interfaces import IProxyRole
from tunnelkit.roles.lstp_end import LstpEndConfig, LstpEndService


@implementer(IPlugin, IProxyRole)
class LstpServerEnd:
    """``twistd lstp-server-end``: connects to what is allowed near the server application."""

    name = "lstp-server-end"
    description = "LSTP server end: connects to what is allowed here, for the far side of a tunnel."
    config_class = LstpEndConfig

    def make_service(self, reactor: Any, config: Any) -> IService:
        """The running end; raises `ConfigError` for a port that is taken."""
        return LstpEndService(reactor, self.name, config)
