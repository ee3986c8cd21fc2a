"""Finding roles: the `IProxyRole` plug-ins of this package and of every other one.

Those that come with tunnelkit are declared in ``twisted/plugins/tunnelkit_roles.py``, which
every start of twistd imports: this file stays light.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.plugin import IPlugin, getPlugins
from twisted.python.reflect import namedAny
from zope.interface import implementer

from tunnelkit.frontends.registry import front_end_options
from tunnelkit.interfaces import IEndRole, IEndService, IProxyRole, IRoleService
from tunnelkit.policy.settings import Option, Settings


@implementer(IPlugin, IProxyRole)
@attrs.frozen(kw_only=True)
class RoleMaker:
    """A role whose code is imported only once it is configured, as by Twisted's `ServiceMaker`:
    ``module`` has ``config_class``, and the functions ``configure`` and ``make_service``."""

    name: str
    description: str
    synopsis: str
    longdesc: str
    module: str
    """Where its code is, by its full name."""
    own_options: tuple[Option, ...]

    @property
    def options(self) -> tuple[Option, ...]:
        """See `IProxyRole`."""
        return self.own_options

    @property
    def config_class(self) -> type[Any]:
        """See `IProxyRole`."""
        found: type[Any] = self._code.config_class
        return found

    def configure(self, settings: Settings, starting: bool) -> Any:
        """See `IProxyRole`."""
        return self._code.configure(settings, starting)

    def make_service(self, reactor: Any, config: Any) -> IRoleService:
        """See `IProxyRole`."""
        service: IRoleService = self._code.make_service(reactor, config)
        return service

    @property
    def _code(self) -> Any:
        return namedAny(self.module)


@implementer(IPlugin, IEndRole)
@attrs.frozen(kw_only=True)
class EndMaker(RoleMaker):
    """The same for a role that is an end: its options are also those of every front end."""

    @property
    def options(self) -> tuple[Option, ...]:
        """See `IProxyRole`; raises `ConfigError` if there is a front end that is none."""
        return (*self.own_options, *front_end_options())

    def make_service(self, reactor: Any, config: Any) -> IEndService:
        """See `IEndRole`."""
        service: IEndService = self._code.make_service(reactor, config)
        return service


def roles() -> dict[str, IProxyRole]:
    """Every role that is installed, by its name."""
    return {role.name: role for role in getPlugins(IProxyRole)}


def end_roles() -> dict[str, IEndRole]:
    """Those that are ends, by name."""
    return {role.name: role for role in getPlugins(IEndRole)}
