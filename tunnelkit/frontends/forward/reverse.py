"""Reverse forwards: a port at the far side that leads to one destination here (rows F2, U12).

    far side: a client connects -> channel back -> connected to the destination here

The far side opens the port only if it has ``--allow listen:ADDRESS:PORTS``.
The destination needs no rule here: the option that names it is the permission.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from twisted.application.service import IService, MultiService, Service
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.decision import Decision
from tunnelkit.egress.dial import Egress
from tunnelkit.errors import ChannelClosed, Code, ConfigError
from tunnelkit.net.channels.contracts import Connection
from tunnelkit.net.channels.far_listener import FarListener
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.dial.backoff import Backoff
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import PolicyHolder, Prospect
from tunnelkit.policy.destination import (
    LISTEN,
    TCP,
    UNIX,
    Destination,
    ForwardSpec,
    parse_forward,
)
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings

_log = Logger()


class _ByOption(PolicyHolder):
    """What the option itself permits: its destination, and every address of its name."""

    def authorize(
        self,
        peer: str,
        action: str,
        protocol: str,
        address: str,
        port: int,
        host: str | None = None,
    ) -> Decision:
        """See `Policy.authorize`; asked only for the option's destination."""
        decision = self.own(address, port, protocol, action)
        return attrs.evolve(decision, peer=peer, rule="--reverse")

    def prospect(self, peer: str, action: str, protocol: str, host: str, port: int) -> Prospect:
        """See `Policy.prospect`; likewise."""
        return Prospect.BY_NAME


class Reverse(Service):
    """One port at the far side, at each peer that is connected; opened anew with each tunnel."""

    def __init__(
        self, reactor: Any, tunnel: Tunnel, policy: PolicyHolder, spec: ForwardSpec
    ) -> None:
        self.reactor = reactor
        self.poller = Poller.of(reactor)
        self.listen = str(Destination(LISTEN, spec.address, spec.port))
        self.destination = spec.destination
        self.description = (
            f"reverse {self.listen.removeprefix('listen:tcp:')} to {spec.destination}"
        )
        """For the role's ready line. The address is the far side's."""
        self.tunnel = tunnel
        self._egress = Egress(reactor, self.poller, _ByOption(policy.current))
        self._make_side = partial(SocketSide, self.poller)
        self._ports: dict[str, _FarPort] = {}

    def startService(self) -> None:
        """Open the port wherever a tunnel leads, now and later."""
        Service.startService(self)
        self.tunnel.watch(self._came)

    def stopService(self) -> None:
        """Close the port; connections that came in over it go on."""
        Service.stopService(self)
        self.tunnel.unwatch(self._came)
        for port in list(self._ports.values()):
            port.close_port()
        self._ports.clear()
        self._egress.close()

    def connect(self, request: ChannelRequest) -> None:
        """Connect what the far side has accepted."""
        self._egress.dial(request, self.destination, self._make_side)

    def _came(self, connection: Connection) -> None:
        port = self._ports.get(connection.peer)
        if port is None:
            port = self._ports[connection.peer] = _FarPort(self, connection.peer)
        port.open()


class _FarPort:
    """The port at one peer, on whichever of its connections."""

    def __init__(self, reverse: Reverse, peer: str) -> None:
        self._reverse = reverse
        self._peer = peer
        self._side: FarListener | None = None
        self._timer = Timer(reverse.reactor, self.open)
        self._backoff = Backoff()
        self._told = ""

    def open(self) -> None:
        """Have the port opened, unless it is open."""
        self._timer.stop()
        if self._side is not None:
            return
        connections = [
            connection for connection in self._reverse.tunnel.connections if connection.up
        ]
        for connection in connections:
            if connection.peer == self._peer and not connection.draining:
                side = self._side = FarListener(self._reverse.connect, self.over)
                opening = connection.open(self._reverse.listen, side)
                opening.addCallbacks(partial(self._opened, side), self._refused)
                return

    def close_port(self) -> None:
        """Close it, and leave it closed."""
        self._timer.stop()
        side, self._side = self._side, None
        if side is not None:
            side.end()

    def over(self, side: FarListener, code: Code | None, reason: str) -> None:
        """The port is closed there: try again, soon if it was open for long."""
        if side is not self._side:
            return
        self._side = None
        why = f"{code}: {reason}" if code is not None else reason
        if why != self._told:
            self._told = why
            _log.warn(
                "{what} at {peer}: no port: {why}",
                what=self._reverse.description,
                peer=printable(self._peer),
                why=printable(why),
            )
        self._timer.start(self._backoff.next_delay())

    def _opened(self, side: FarListener, bound: str) -> None:
        if side is not self._side:
            return
        self._backoff.reset()
        self._told = ""
        _log.info(
            "{what}: {peer} listens on {bound}",
            what=self._reverse.description,
            peer=printable(self._peer),
            bound=printable(bound.removeprefix(f"{TCP}:")),
        )

    def _refused(self, failure: Failure) -> None:
        # The side has been told.
        failure.trap(ChannelClosed)


def configure(settings: Settings) -> list[tuple[ForwardSpec, ...]]:
    """``--reverse [ADDRESS:]PORT=DESTINATION``: one spec for each port of each option."""
    return [given.parsed(parse_reverse) for given in settings.all("reverse")]


def parse_reverse(text: str) -> tuple[ForwardSpec, ...]:
    """Ports at the far side and where they lead here; raises `ConfigError`."""
    try:
        specs = parse_forward(text)
    except ConfigError as error:
        raise ConfigError(str(error).replace("forward ", "reverse ", 1)) from None
    spec = specs[0]
    if spec.protocol != TCP or spec.destination.kind not in (TCP, UNIX):
        raise ConfigError(
            f"reverse '{printable(text, 80)}': only TCP ports can be opened at the far "
            "side; expected [ADDRESS:]PORT=tcp:HOST:PORT or [ADDRESS:]PORT=unix:PATH"
        )
    return specs


def make_service(
    reactor: Any, tunnel: Any, policy: Any, specs: tuple[ForwardSpec, ...]
) -> IService:
    """The far ports of one option."""
    service = MultiService()
    for spec in specs:
        reverse: IService = Reverse(reactor, tunnel, policy, spec)
        reverse.setServiceParent(service)
    return service
