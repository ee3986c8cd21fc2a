"""Finding front ends: the `IFrontEnd` plug-ins of this package and of every other one.

Those that come with tunnelkit are declared in ``twisted/plugins/tunnelkit_frontends.py``, in
the same way as anybody else's. Every start of twistd imports that file: this one stays light.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.plugin import IPlugin, getPlugins
from twisted.python.reflect import namedAny
from zope.interface import Interface, implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.policy.settings import Option, Settings


@implementer(IPlugin, IFrontEnd)
@attrs.frozen
class FrontEndMaker:
    """A front end whose code is imported only once it is configured, as by Twisted's
    ``ServiceMaker``: ``module`` has the functions ``configure`` and ``make_service``, and
    ``needs`` if there are any."""

    name: str
    module: str
    """Where its code is, by its full name."""
    options: tuple[Option, ...]

    def configure(self, settings: Settings) -> Sequence[Any]:
        """See `IFrontEnd`."""
        found: Sequence[Any] = namedAny(self.module).configure(settings)
        return found

    def needs(self, config: Any) -> Sequence[str]:
        """See `IFrontEnd`; a module without ``needs`` needs nothing."""
        needs = getattr(namedAny(self.module), "needs", None)
        return () if needs is None else needs(config)

    def make_service(self, reactor: Any, tunnel: Any, policy: Any, config: Any) -> IService:
        """See `IFrontEnd`."""
        service: IService = namedAny(self.module).make_service(reactor, tunnel, policy, config)
        return service


def installed(interface: type[Interface], kind: str) -> dict[str, Any]:
    """Every plug-in that is installed, in the order of the names.

    ``kind`` is for the `ConfigError`: one is not what ``interface`` says, or two have one name.
    """
    found: dict[str, Any] = {}
    for plug_in in getPlugins(interface):
        try:
            verifyObject(interface, plug_in)
        except Invalid as error:
            problem = " ".join(str(error).split())
            raise ConfigError(
                f"{kind} plug-in {_origin(plug_in)}: {problem} "
                f"expected what tunnelkit.interfaces.{interface.__name__} says"
            ) from None
        name = getattr(plug_in, "name", "")
        other = found.setdefault(name, plug_in)
        if other is not plug_in:
            raise ConfigError(
                f"two {kind} plug-ins are named {name}, {_origin(other)} and "
                f"{_origin(plug_in)}: expected one of them to be installed"
            )
    return dict(sorted(found.items()))


def front_ends() -> tuple[IFrontEnd, ...]:
    """Every front end that is installed, by name; raises `ConfigError` as `installed` does."""
    return tuple(installed(IFrontEnd, "front end").values())


def front_end_options() -> tuple[Option, ...]:
    """The options of all of them; raises `ConfigError` as `front_ends` does."""
    return tuple(option for front_end in front_ends() for option in front_end.options)


def configured(settings: Settings) -> tuple[tuple[IFrontEnd, Any], ...]:
    """Each front end with each thing that it makes of the settings.

    Raises `ConfigError` with the place of the first mistake.
    """
    return tuple(
        (front_end, config)
        for front_end in front_ends()
        for config in front_end.configure(settings)
    )


def _origin(plug_in: Any) -> str:
    module = getattr(plug_in, "module", None)
    if isinstance(module, str):
        return module
    kind = type(plug_in)
    return f"{kind.__module__}.{kind.__qualname__}"
