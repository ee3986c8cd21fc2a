"""Two ends in one process, over any rendezvous and with any channel protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from examples.custom_protocol import Channels
from tests.frontends.talk import Echo
from tunnelkit.core.lstp.middle import Lobby
from tunnelkit.errors import Code
from tunnelkit.interfaces import IChannelProtocol, IRendezvous
from tunnelkit.net.channels.end import TunnelEnd, context_for
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.lstp.meeting import LstpParty, LstpRendezvous
from tunnelkit.net.lstp.middle import LstpMiddleFactory
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.usher.meeting import GateRendezvous, UsherGateFactory, UsherRendezvous
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.testing.authority import throwaway_ca
from tunnelkit.wire.usher import Version

reactor: Any = global_reactor

NEAR, FAR = "near", "far"
RENDEZVOUS = ("lstp", "usher")
PROTOCOLS: dict[str, Callable[[], IChannelProtocol]] = {
    "lstp": lambda: LstpProtocol(budget=Shared.of(reactor).budget),
    "usher_1_1": lambda: UsherProtocol(budget=Shared.of(reactor).budget),
    "usher_1": lambda: UsherProtocol(budget=Shared.of(reactor).budget, versions=(Version.V1,)),
    "plain": lambda: Channels(Shared.of(reactor).budget),
}
"""Makers of the channel protocols that there are, that of the example among them."""
HAS_SERVICES = ("lstp", "usher_1_1", "plain")
CARRIES_UDP = ("lstp", "usher_1_1", "usher_1")
LISTENS = ("lstp", "usher_1_1")


def refuse(request: ChannelRequest) -> None:
    request.refuse(Code.NOT_ALLOWED, "only services are reached here")


@attrs.define
class Place:
    """Where two ends meet."""

    near: IRendezvous
    far: IRendezvous


class EndsCase(TestCase):
    """Ends are stopped, and everything is closed, when the test is over."""

    timeout = 20.0

    def setUp(self) -> None:
        self.shared = Shared.of(reactor)
        self.ca = throwaway_ca()
        self.ready: list[str] = []

    async def place(self, kind: str) -> Place:
        """The far side waits there before the near one comes."""
        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if kind == "usher":
            gate = GateRendezvous(self.shared)
            way = await self._way(listening, UsherGateFactory(gate))
            return Place(UsherRendezvous(way), gate)
        middle = LstpMiddleFactory(reactor, Lobby("middle", "here"))
        self.addCleanup(middle.shut_down)
        way = await self._way(listening, middle)
        near, far = (
            LstpRendezvous(self.shared, way, LstpParty("c" * 43, name, role))
            for name, role in ((NEAR, "client-end"), (FAR, "server-end"))
        )
        return Place(near, far)

    async def _way(self, listening: TCP4ServerEndpoint, factory: Factory) -> TCP4ClientEndpoint:
        port = await listening.listen(factory)
        self.addCleanup(port.stopListening)
        return TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)

    def end(
        self,
        name: str,
        rendezvous: IRendezvous,
        protocols: Iterable[IChannelProtocol],
        acceptor: Callable[[ChannelRequest], None] = refuse,
        peers: Iterable[str] = (NEAR, FAR),
    ) -> TunnelEnd:
        """One that has been started; it answers ``service:echo``."""
        protocols = tuple(protocols)
        made = TunnelEnd(
            rendezvous,
            protocols,
            tunnel=Tunnel(self.shared, "test", acceptor, lambda record: None),
            context=context_for(self.ca.credentials(name), protocols),
            peers=tuple(peers),
            on_ready=lambda: self.ready.append(name),
        )
        listening: Any = made.tunnel.accept("echo").listen(Factory.forProtocol(Echo))
        listening.addCallback(lambda port: self.addCleanup(port.stopListening))
        made.start()
        self.addCleanup(made.stop, 0.5)
        return made

    async def pair(
        self,
        kind: str,
        near: Iterable[IChannelProtocol],
        far: Iterable[IChannelProtocol],
        acceptor: Callable[[ChannelRequest], None] = refuse,
    ) -> tuple[Tunnel, Tunnel]:
        """Two ends with a tunnel between them."""
        place = await self.place(kind)
        ends = self.end(FAR, place.far, far, acceptor), self.end(NEAR, place.near, near)
        await gatherResults([end.tunnel.when_up() for end in ends])
        return ends[1].tunnel, ends[0].tunnel

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for it."""
        while not condition():
            await deferLater(reactor, 0.001)
