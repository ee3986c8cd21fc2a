"""A role as a twistd subcommand: what `tunnelkit.interfaces` adapts every `IProxyRole` to.

Every start of twistd imports this for each role: it is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import IService, IServiceMaker
from zope.interface import implementer

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IProxyRole
from tunnelkit.services.collector import collector_off

if TYPE_CHECKING:
    from tunnelkit.services.options import RoleOptions


@implementer(IServiceMaker)
class Subcommand:
    """``twistd NAME`` for one role."""

    def __init__(self, role: IProxyRole) -> None:
        self._role = role
        self.tapname: str = role.name
        self.description: str = role.description

    def options(self) -> RoleOptions:
        """Its options; one line and status 2 if a plug-in is not what it should be."""
        with collector_off():
            from tunnelkit.services.options import exit_with, options_for

        try:
            return options_for(self._role)()
        except ConfigError as error:
            exit_with(self.tapname, error)

    def makeService(self, options: Any) -> IService:
        """The service for ``options`` that were parsed; one line and status 2 if a port is
        taken."""
        with collector_off():
            from tunnelkit.services.role_service import role_service

        return role_service(self._role, options)
