"""Finding roles, rendezvous and channel protocols: plug-ins of this package and of all others.

Those that come with tunnelkit are declared in ``twisted/plugins/tunnelkit_roles.py``, which
every start of twistd imports: this file stays light.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs
from twisted.plugin import IPlugin, getPlugins
from twisted.python.reflect import namedAny
from zope.interface import implementer

from tunnelkit.errors import ConfigError
from tunnelkit.frontends.registry import front_end_options, installed
from tunnelkit.interfaces import (
    IChannelProtocol,
    IEndRole,
    IEndService,
    IPortProtocol,
    IProtocolMaker,
    IProxyRole,
    IRendezvous,
    IRendezvousMaker,
    IRoleService,
)
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Option, Settings, suggestion

Maker = TypeVar("Maker")


@implementer(IPlugin, IProxyRole)
@attrs.frozen(kw_only=True)
class RoleMaker:
    """A role whose code is imported only once it is configured, as by Twisted's ``ServiceMaker``:
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


@implementer(IPlugin, IEndRole)
@attrs.frozen(kw_only=True)
class AnyEndMaker(EndMaker):
    """The same for the end that meets others by any rendezvous: with the options of each."""

    @property
    def options(self) -> tuple[Option, ...]:
        """See `IProxyRole`; raises `ConfigError` if there is a plug-in that is none."""
        found = rendezvous_makers().values()
        # Several may have one and the same, such as --via.
        theirs = dict.fromkeys(option for maker in found for option in maker.options)
        return (*super().options, *theirs)


@implementer(IPlugin, IRendezvousMaker)
@attrs.frozen
class RendezvousMaker:
    """A rendezvous whose code is imported once it is configured: ``module`` has the functions
    ``configure``, ``describe`` and ``make_rendezvous``."""

    name: str
    module: str
    """Where its code is, by its full name."""
    options: tuple[Option, ...]

    def configure(self, settings: Settings) -> Any:
        """See `IRendezvousMaker`."""
        return namedAny(self.module).configure(settings)

    def describe(self, config: Any) -> str:
        """See `IRendezvousMaker`."""
        return str(namedAny(self.module).describe(config))

    def make_rendezvous(self, reactor: Any, config: Any) -> IRendezvous:
        """See `IRendezvousMaker`."""
        made: IRendezvous = namedAny(self.module).make_rendezvous(reactor, config)
        return made


@implementer(IPlugin, IProtocolMaker)
@attrs.frozen
class ProtocolMaker:
    """A channel protocol whose code is imported once it is chosen: ``module`` has the function
    ``make_protocol``."""

    name: str
    module: str
    """Where its code is, by its full name."""

    def make_protocol(self, reactor: Any) -> IChannelProtocol:
        """See `IProtocolMaker`."""
        made: IChannelProtocol = namedAny(self.module).make_protocol(reactor)
        return made


def rendezvous_makers() -> dict[str, IRendezvousMaker]:
    """Every kind of rendezvous that is installed, by name; raises `ConfigError`."""
    return installed(IRendezvousMaker, "rendezvous")


def protocol_makers() -> dict[str, IProtocolMaker]:
    """Every channel protocol that is installed, by name; raises `ConfigError`."""
    return installed(IProtocolMaker, "channel protocol")


def port_protocols() -> dict[str, IPortProtocol]:
    """Every further protocol of a Communication Server's port, by its ALPN name; raises
    `ConfigError`."""
    return installed(IPortProtocol, "protocol of the port")


def named(makers: Mapping[str, Maker], name: str) -> Maker:
    """One of them; raises `ConfigError` that names all if it is none."""
    if name not in makers:
        known = ", ".join(makers) or "one to be installed"
        raise ConfigError(
            f"'{printable(name)}' is not installed{suggestion(name, makers)}: expected {known}"
        )
    return makers[name]


def roles() -> dict[str, IProxyRole]:
    """Every role that is installed, by its name."""
    return {role.name: role for role in getPlugins(IProxyRole)}


def end_roles() -> dict[str, IEndRole]:
    """Those that are ends, by name."""
    return {role.name: role for role in getPlugins(IEndRole)}
