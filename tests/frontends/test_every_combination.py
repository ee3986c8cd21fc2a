"""Every front end over channel protocols that are not those of the rendezvous below them."""

from __future__ import annotations

from typing import Any

import attrs
from zope.interface import implementer

from examples.custom_protocol import Channels, ExampleMux
from tests.acceptance.processes import free_port
from tests.frontends.matrix import OVER_USHER
from tests.frontends.matrix_case import MatrixCase, reactor
from tunnelkit.core.lstp.mux import LstpMux
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.interfaces import IProtocolMaker
from tunnelkit.net.sockets.context import Shared
from tunnelkit.roles.registry import protocol_makers, roles

NEED_MORE_THAN_STREAMS = ("socks5_udp", "forward_udp", "socks5_bind", "reverse")
OVER_PLAIN = tuple(way for way in OVER_USHER if way not in NEED_MORE_THAN_STREAMS)


@implementer(IProtocolMaker)
class PlainMaker:
    """The protocol of the example, which has streams and nothing else."""

    name = "plain"

    def make_protocol(self, reactor: Any) -> Channels:
        return Channels(Shared.of(reactor).budget)


class OverUsher(MatrixCase):
    """A portal dials a gate; what they speak is ``maker``'s."""

    maker: Any
    mux: type

    def parsed(self, role: str, *words: str) -> Any:
        return attrs.evolve(super().parsed(role, *words), protocols=(self.maker,))

    async def test_every_front_end_reaches_what_is_allowed_and_nothing_else(self) -> None:
        await self.start()
        await self.gate.tunnel.when_up()
        for end in (self.portal, self.gate):
            (connection,) = end.tunnel.connections
            assert isinstance(connection.mux, self.mux)
        for rules, reached in ((self.rules(), True), ([], False)):
            await self.allow(*rules)
            for way in self.ways:
                await self.check(way, reached)


class OverTheMiddle(OverUsher):
    """Two ends meet at a middle."""

    def make_gate(self, *words: str) -> tuple[Any, int]:
        place = free_port()
        here = ("--listen", f"127.0.0.1:{place}", "--tunnel", "t")
        config = self.parsed("lstp-server-end", *here, *words)
        return self.run_role("lstp-server-end", config), place

    def portal_config(self, place: int, *words: str) -> Any:
        middle = ("--middle", f"127.0.0.1:{place}", "--tunnel", "t")
        return self.parsed("lstp-client-end", *middle, *words)

    def make_portal(self, place: int, *words: str) -> Any:
        return self.run_role("lstp-client-end", self.portal_config(place, *words))

    def run_role(self, role: str, config: Any) -> Any:
        return self.run_service(roles()[role].make_service(reactor, config))


class LstpOverUsherTests(OverUsher):
    ways = OVER_USHER
    maker = protocol_makers()["lstp"]
    mux = LstpMux


class PlainOverUsherTests(OverUsher):
    ways = OVER_PLAIN
    maker = PlainMaker()
    mux = ExampleMux


class UsherOverTheMiddleTests(OverTheMiddle):
    ways = OVER_USHER
    maker = protocol_makers()["usher"]
    mux = UsherMux


class PlainOverTheMiddleTests(OverTheMiddle):
    ways = OVER_PLAIN
    maker = PlainMaker()
    mux = ExampleMux


# Only for the combinations.
del OverUsher, OverTheMiddle
