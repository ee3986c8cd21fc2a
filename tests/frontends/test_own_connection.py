"""Channels on a connection of their own, however the two ends have met and speak (row L16)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.net.channels.ends import PROTOCOLS, RENDEZVOUS, EndsCase, reactor
from tests.net.channels.joined import StuckSide
from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.frontends.forward import own_connection
from tunnelkit.frontends.forward.own_connection import OwnConnection
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.lstp.protocol import MAX_FURTHER

LSTP = PROTOCOLS["lstp"]


def answer(request: ChannelRequest) -> None:
    """Whatever is asked for there is there."""
    request.attach(StuckSide(), "")


class OwnConnectionTests(EndsCase):
    async def alone(self, *tunnels: Tunnel) -> None:
        """Wait until there is nothing but the first connection."""
        await self.until(lambda: all(self.carrying(tunnel) == 1 for tunnel in tunnels))

    async def channel(self, opener: OwnConnection) -> StuckSide:
        side = StuckSide()
        await opener.open("tcp:there:1", side)
        return side

    async def ended(self, side: StuckSide) -> None:
        assert side.channel is not None
        side.channel.abort(Code.RESET, "enough")
        await self.until(lambda: side.ended)

    def carrying(self, tunnel: Tunnel) -> int:
        return len(tunnel.totals._carrying)

    async def test_one_is_made_for_the_first_channel_and_ends_with_the_last(self) -> None:
        for kind in RENDEZVOUS:
            for make in PROTOCOLS.values():
                near, far = await self.pair(kind, [make()], [make()], answer)
                opener = OwnConnection(reactor, near)
                sides = [await self.channel(opener) for _ in range(2)]
                shared = near.connections[0]
                assert near.connections == (shared,)
                assert (shared.channel_count, self.carrying(near)) == (0, 2)
                await self.ended(sides[0])
                assert self.carrying(near) == 2
                await self.ended(sides[1])
                await self.alone(near, far)
                assert near.connections == (shared,)
                assert shared.up

    async def test_many_that_come_and_go_are_not_many_at_once(self) -> None:
        near, _ = await self.pair("lstp", [LSTP()], [LSTP()], answer)
        opener = OwnConnection(reactor, near)
        for _ in range(MAX_FURTHER + 3):
            await self.ended(await self.channel(opener))
            await self.alone(near)

    async def test_more_at_once_than_the_other_end_takes_are_refused(self) -> None:
        near, _ = await self.pair("lstp", [LSTP()], [LSTP()], answer)
        for _ in range(MAX_FURTHER):
            await self.channel(OwnConnection(reactor, near))
        side = StuckSide()
        with pytest.raises(ChannelRefused) as caught:
            await OwnConnection(reactor, near).open("tcp:there:1", side)
        assert caught.value.code is Code.LIMIT
        assert side.ended == [Code.LIMIT]

    async def test_the_end_that_is_dialled_cannot_make_one(self) -> None:
        _, far = await self.pair("usher", [LSTP()], [LSTP()], answer)
        side = StuckSide()
        with pytest.raises(ChannelRefused, match="the other end connects to this one"):
            await OwnConnection(reactor, far).open("tcp:there:1", side)
        assert side.ended == [Code.UNREACHABLE]

    async def test_without_a_tunnel_it_waits_and_gives_up(self) -> None:
        place = await self.place("usher")
        tunnel = self.end("near", place.near, [PROTOCOLS["usher_1"]()]).tunnel
        cast(Any, self).patch(own_connection, "PATIENCE", 0.01)
        side = StuckSide()
        with pytest.raises(ChannelRefused, match="the tunnel is down"):
            await OwnConnection(reactor, tunnel).open("tcp:there:1", side)
        assert side.ended == [Code.UNREACHABLE]

    async def test_it_ends_with_the_tunnel_it_belongs_to(self) -> None:
        near, _ = await self.pair("lstp", [LSTP()], [LSTP()], answer)
        side = await self.channel(OwnConnection(reactor, near))
        near.connections[0].end(Code.RESET, "cut")
        await self.until(lambda: side.ended)
