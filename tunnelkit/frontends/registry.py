"""Finding front ends: the `IFrontEnd` plug-ins of this package and of every other one.

Those that come with tunnelkit are declared in ``twisted/plugins/tunnelkit_frontends.py``, in
the same way as anybody else's. Every start of twistd imports that file: this one stays light.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Given, Option, Settings, suggestion


@implementer(IPlugin, IFrontEnd)
@attrs.frozen
class FrontEndMaker:
    """A front end whose code is imported only once one of its options is given, as by Twisted's
    ``ServiceMaker``: ``module`` has the functions ``configure`` and ``make_service``, and
    ``needs`` if there are any."""

    name: str
    module: str
    """Where its code is, by its full name."""
    options: tuple[Option, ...]

    def configure(self, settings: Settings) -> Sequence[Any]:
        """See `IFrontEnd`."""
        if not any(settings.all(option.name) for option in self.options):
            return ()
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


@attrs.frozen
class Wanted:
    """One port of a front end, and to whom it leads (rule X29)."""

    front_end: IFrontEnd
    config: Any
    """What the front end made of its option."""
    peers: frozenset[str] = frozenset()
    """Verified names, one of which the other end has; none: there is only one that may come."""


def configured(settings: Settings, peers: Collection[str] | None = None) -> tuple[Wanted, ...]:
    """Each front end with each thing that it makes of the settings, and with the peer behind ``@``.

    ``peers`` are the names of those who may be the other end; of several one has to be named.
    None: any name will do, and none. Raises `ConfigError` with the place of the first mistake.
    """
    return tuple(
        Wanted(front_end, config, frozenset({peer} if peer else ()))
        for front_end in front_ends()
        for peer, bound in _by_peer(settings, front_end.name, peers)
        for config in front_end.configure(bound)
    )


def _by_peer(
    settings: Settings, option: str, peers: Collection[str] | None
) -> Iterator[tuple[str, Settings]]:
    """The settings once for each peer that values of ``option`` name, with these values alone."""
    found: dict[str, list[Given]] = {}
    for given in settings.all(option):
        value, peer = _bound_to(given, peers)
        found.setdefault(peer, []).append(value)
    for peer, values in found.items() or (("", []),):
        yield peer, settings.with_values(option, values)


def _bound_to(given: Given, peers: Collection[str] | None) -> tuple[Given, str]:
    """The value without ``@PEER``, and the peer; empty where none is named."""
    text, _, peer = given.text.rpartition("@")
    # The services of tunnelkit itself have an '@' in front: service:@dns.
    if not text or text.endswith(":"):
        if peers is not None and len(peers) > 1:
            given.wrong("several peers are named", f"@PEER behind it, {_either(peers)}")
        return given, ""
    if peers is not None and peer not in peers:
        hint = suggestion(peer, peers)
        given.wrong(f"{printable(peer)} is none of the peers{hint}", _either(peers))
    return attrs.evolve(given, text=text), peer


def _either(names: Collection[str]) -> str:
    return "PEER of --peer" if not names else " or ".join(sorted(names)[:8])


def _origin(plug_in: Any) -> str:
    module = getattr(plug_in, "module", None)
    if isinstance(module, str):
        return module
    kind = type(plug_in)
    return f"{kind.__module__}.{kind.__qualname__}"
