"""Forwards: a port or unix socket here that leads to one destination there (row F2).

`tunnelkit.frontends.forward.udp` has those of UDP.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.errors import ChannelClosed, ConfigError
from tunnelkit.frontends.forward.own_connection import OwnConnection
from tunnelkit.frontends.forward.udp import UdpForward
from tunnelkit.local.listening import ChannelOpener, ListeningService
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import UDP, ForwardSpec, parse_forward
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings

_log = Logger()


class Forward(ListeningService):
    """One listening socket; each connection to it is a channel to the destination.

    What a client sends before the far side has answered travels with the
    request. When the far side refuses, the client's connection is reset.
    """

    def __init__(
        self, reactor: Any, tunnel: ChannelOpener, policy: PolicyHolder, spec: ForwardSpec
    ) -> None:
        ListeningService.__init__(
            self, reactor, policy, spec.protocol, spec.address, spec.port, self._enter
        )
        self._tunnel = tunnel
        self._destination = str(spec.destination)
        own = ", connection of its own" if spec.own_connection else ""
        self.description = f"forward {self.address} to {self._destination}{own}"
        """For the role's ready line."""

    def _enter(self, sock: socket.socket, client: tuple[str, int]) -> None:
        side = SocketSide(self.poller, sock)
        self._tunnel.open(self._destination, side).addErrback(self._refused)

    def _refused(self, failure: Failure) -> None:
        failure.trap(ChannelClosed)
        _log.info(
            "{what}: {why}",
            what=self.description,
            why=printable(str(failure.value)),
        )


def configure(settings: Settings) -> list[tuple[ForwardSpec, ...]]:
    """``--forward [HOST:]PORT=DESTINATION[,connection=own]``: one spec for each port of each."""
    return [given.parsed(parse_forward) for given in settings.all("forward")]


def needs(specs: tuple[ForwardSpec, ...]) -> tuple[str, ...]:
    """See `IFrontEnd`; the ports of a range lead to destinations of one kind."""
    return (str(specs[0].destination),)


def make_service(
    reactor: Any, tunnel: Any, policy: Any, specs: tuple[ForwardSpec, ...]
) -> IService:
    """The ports of one option, all of them; raises `ConfigError` if one is taken."""
    service = MultiService()
    opener: Any = OwnConnection(reactor, tunnel) if specs[0].own_connection else tunnel
    try:
        for spec in specs:
            make = UdpForward if spec.protocol == UDP else Forward
            forward: IService = make(reactor, opener, policy, spec)
            forward.setServiceParent(service)
    except ConfigError:
        service.stopService()
        raise
    return service
