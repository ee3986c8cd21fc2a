"""A peer keeps 64 tunnels with an end at most (rule X25)."""

from __future__ import annotations

from tests.net.channels.ends import FAR, NEAR, PROTOCOLS, EndsCase
from tunnelkit.net.channels.member import MAX_TUNNELS


class TunnelsPerPeerTests(EndsCase):
    timeout = 60.0

    async def check(self, kind: str) -> None:
        place = await self.place("usher")
        protocol = PROTOCOLS[kind]
        far = self.end(FAR, place.far, [protocol()], peers=(NEAR, "other")).tunnel
        first = self.end(NEAR, place.near, [protocol()])
        for _ in range(MAX_TUNNELS - 1):
            self.end(NEAR, place.near, [protocol()])
        await self.until(lambda: far.status().connections == MAX_TUNNELS)
        one_too_many = self.end(NEAR, place.near, [protocol()])
        await self.until(lambda: one_too_many.tunnel.status().last_error)
        assert far.status().connections == MAX_TUNNELS
        assert first.tunnel.status().up
        other = self.end("other", place.near, [protocol()]).tunnel
        await self.until(lambda: other.status().up)
        assert set(far.status().peers) == {NEAR, "other"}
        # A place that is free can be taken.
        first.disconnect(0.0)
        await self.until(lambda: not first.tunnel.status().up)
        await self.until(lambda: far.status().connections == MAX_TUNNELS)
        one_too_many.connect()
        await self.until(lambda: far.status().connections == MAX_TUNNELS + 1)
        assert one_too_many.tunnel.status().up

    async def test_over_lstp(self) -> None:
        await self.check("lstp")

    async def test_over_usher(self) -> None:
        await self.check("usher_1_1")
