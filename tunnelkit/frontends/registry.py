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
from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.policy.settings import Option, Settings


@implementer(IPlugin, IFrontEnd)
@attrs.frozen
class FrontEndMaker:
    """A front end whose code is imported only once it is configured, as by Twisted's
    `ServiceMaker`: ``module`` has the functions ``configure`` and ``make_service``, and
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


def front_ends() -> tuple[IFrontEnd, ...]:
    """Every front end that is installed, by name.

    Raises `ConfigError` for one that is not what `IFrontEnd` says, and for two of one name.
    """
    found: dict[str, IFrontEnd] = {}
    for front_end in getPlugins(IFrontEnd):
        try:
            verifyObject(IFrontEnd, front_end)
        except Invalid as error:
            problem = " ".join(str(error).split())
            raise ConfigError(
                f"front end plug-in {_origin(front_end)}: {problem} "
                "expected what tunnelkit.interfaces.IFrontEnd says"
            ) from None
        other = found.setdefault(front_end.name, front_end)
        if other is not front_end:
            raise ConfigError(
                f"two front end plug-ins are named {front_end.name}, {_origin(other)} and "
                f"{_origin(front_end)}: expected one of them to be installed"
            )
    return tuple(found[name] for name in sorted(found))


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


def _origin(front_end: Any) -> str:
    if isinstance(front_end, FrontEndMaker):
        return front_end.module
    kind = type(front_end)
    return f"{kind.__module__}.{kind.__qualname__}"
