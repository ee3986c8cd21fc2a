"""A front end of one's own: a port whose connections go to several destinations in turn.

One file in a directory ``twisted/plugins`` on the Python path is all that it takes:

    mkdir -p mine/twisted/plugins && cp own_front_end.py mine/twisted/plugins/spread.py
    PYTHONPATH=mine tunnelkit client ... --spread 8080=tcp:one:80,tcp:two:80

Every start of twistd imports this file, so what is heavy is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from twisted.application.service import IService
from twisted.plugin import IPlugin
from zope.interface import implementer

from tunnelkit.interfaces import IFrontEnd, ITunnel
from tunnelkit.policy.settings import Option, Settings

# Address, port, destinations.
Config = tuple[str, int, tuple[str, ...]]


@implementer(IPlugin, IFrontEnd)
class Spread:
    """``--spread [HOST:]PORT=DESTINATION,DESTINATION...``."""

    name = "spread"
    options = (
        Option(
            "spread",
            "[HOST:]PORT=DESTINATION,...",
            ", a port here whose connections go to these in turn",
            repeatable=True,
            live=True,
        ),
    )

    def configure(self, settings: Settings) -> list[Config]:
        """What is equal to what was there before stays open when the settings are read again."""
        return [given.parsed(parse) for given in settings.all("spread")]

    def needs(self, config: Config) -> Sequence[str]:
        """An end whose peer cannot be asked for these says so in its log."""
        return config[2]

    def make_service(self, reactor: Any, tunnel: ITunnel, policy: Any, config: Config) -> IService:
        """The port; `ConfigError` says that it is taken."""
        from tunnelkit.local.listening import ListeningService
        from tunnelkit.net.channels.socket_side import SocketSide

        address, port, destinations = config
        following = cycle(destinations)

        def accepted(sock: Any, client: tuple[str, int]) -> None:
            # What cannot be reached is reset, and is in the access log.
            opening = tunnel.open(next(following), SocketSide(service.poller, sock))
            opening.addErrback(lambda failure: None)

        service: Any = ListeningService(reactor, policy, "tcp", address, port, accepted)
        service.description = f"spread {service.address} to {' '.join(destinations)}"
        return IService(service)


def parse(text: str) -> Config:
    """One option's value; the message of a `ConfigError` is shown behind the place."""
    from tunnelkit.errors import ConfigError
    from tunnelkit.policy.destination import parse_destination, parse_listen

    port, equals, destinations = text.partition("=")
    if not equals:
        raise ConfigError(f"'{text}' has no '=': expected [HOST:]PORT=DESTINATION,DESTINATION")
    found = tuple(str(parse_destination(word)) for word in destinations.split(","))
    return (*parse_listen(port), found)


spread = Spread()
