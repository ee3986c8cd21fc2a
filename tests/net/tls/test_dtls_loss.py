"""DTLS handshakes where datagrams are lost, come late and come twice (row W1).

OpenSSL repeats its flights by the clock of the machine, so this takes real seconds.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.net.tls.dtls_world import Talker, World

DEVICES = 100


class Lossy(World):
    """Loses ``loss`` of the datagrams each way; delays some and repeats some."""

    def __init__(self, loss: float) -> None:
        self.loss = loss
        self.chance = Random(1)
        super().__init__(reactor)

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        device = self.devices.get(address)
        if device is not None:
            self.carry(device.datagramReceived, data, ("192.0.2.200", 5684))

    def arrives(self, data: bytes, address: tuple[str, int]) -> None:
        self.carry(self.server.datagramReceived, data, address)

    def carry(self, arrive: Any, *what: Any) -> None:
        for _ in range(2 if self.chance.random() < 0.02 else 1):
            if self.chance.random() >= self.loss:
                late = 0.05 if self.chance.random() < 0.05 else 0.001
                self.reactor.callLater(late, arrive, *what)


class LossTests(TestCase):
    timeout = 60

    async def completed(self, loss: float, enough: int, within: float) -> int:
        """How many of 100 handshakes are complete within that many seconds, or ``enough``."""
        world = Lossy(loss)
        talkers: list[Talker] = [
            world.device(("192.0.2.1", port))[1] for port in range(1, DEVICES + 1)
        ]
        done: Deferred[None] = Deferred()
        end = world.reactor.seconds() + within

        def look() -> None:
            if sum(talker.up for talker in talkers) >= enough or world.reactor.seconds() > end:
                done.callback(None)
            else:
                world.reactor.callLater(0.05, look)

        look()
        await done
        for device in world.devices.values():
            device.stopProtocol()
        world.devices.clear()
        world.server.stopProtocol()
        self.addCleanup(self.drain, world)
        return sum(talker.up for talker in talkers)

    def drain(self, world: Lossy) -> None:
        for call in world.reactor.getDelayedCalls():
            call.cancel()

    async def test_a_tenth_lost_each_way(self) -> None:
        assert await self.completed(0.10, 97, 10) >= 97

    async def test_a_fifth_lost_each_way(self) -> None:
        assert await self.completed(0.20, 90, 30) >= 90
