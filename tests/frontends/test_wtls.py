"""The proxies of the WTLS-style tunnel: mirrors, the end of a tunnel, floods (W3, W5, W7)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.frontends.wtls_world import KEY, World, reactor
from tests.wire.test_dtls_records import hello, record
from tunnelkit.errors import DialError
from tunnelkit.net.sockets.udp import bind_udp
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.wire.wtls_map import MapDatagram, MapType, encode

ACCOUNT = "https://bank.example/account"


async def turns(number: int) -> None:
    """Let the reactor turn."""
    for _ in range(number):
        done: Deferred[None] = Deferred()
        reactor.callLater(0, done.callback, None)
        await done


class WtlsTests(TestCase):
    timeout = 30

    def world(self, *suffixes: str, **gateway: Any) -> World:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        world = World(directory.name, suffixes, **gateway)
        self.addCleanup(world.close)
        return world

    # -- mirrors ----------------------------------------------------------

    async def test_a_mirror_names_the_domain_proxy_and_is_asked_for_nothing_else(self) -> None:
        world = self.world("bank.example")
        world.pages.pages["bank.example/"] = (403, world.required, b"")
        world.pages.pages["bank.example/account?id=7"] = (200, {}, b"the balance")
        device = world.device()
        code, _ = await world.asks(device, f"{ACCOUNT}?id=7", world.operator_ca)
        assert code == "5.03"
        assert world.pages.asked == ["GET bank.example/"]
        answer = await world.asks(device, f"{ACCOUNT}?id=7", world.bank_ca)
        assert answer == ("2.05", b"the balance")
        assert world.pages.asked == ["GET bank.example/", "GET bank.example/account?id=7"]

    async def test_a_mirror_that_names_nothing_usable_is_5_02_and_nothing_is_fetched(self) -> None:
        for answer in (
            (200, {"Tunnel-Required": "door.bank.example:5684"}, b"come in"),
            (403, {}, b""),
            (403, {"Tunnel-Required": "door.evil.example:5684"}, b""),
            (403, {"Tunnel-Required": "door.bank.example"}, b""),
            (403, {"Tunnel-Required": "door.bank.example:5684"}, bytes(20_000)),
        ):
            world = self.world("bank.example")
            world.pages.pages["bank.example/"] = answer
            code, _ = await world.asks(world.device(), ACCOUNT, world.operator_ca)
            assert code == "5.02"
            assert world.pages.asked == ["GET bank.example/"]

    async def test_a_forged_answer_of_the_mirror_needs_a_map_key_too(self) -> None:
        world = self.world("bank.example")
        forged = {"Tunnel-Required": "forged.bank.example:5684"}
        world.pages.pages["bank.example/"] = (403, forged, b"")
        code, said = await world.asks(world.device(), ACCOUNT, world.operator_ca)
        assert (code, said[:24]) == ("5.02", b"there is no map key for ")

    async def test_a_mirror_is_asked_once_whoever_wants_to_know(self) -> None:
        world = self.world("bank.example")
        world.pages.pages["bank.example/"] = (403, world.required, b"")
        asking = [
            Deferred.fromCoroutine(world.asks(world.device(), ACCOUNT, world.operator_ca))
            for _ in range(3)
        ]
        for code, _ in await gatherResults(asking):
            assert code == "5.03"
        assert world.pages.asked == ["GET bank.example/"]

    # -- the end of a tunnel ----------------------------------------------

    async def test_shortly_before_the_end_of_its_time_a_device_is_told_and_cut(self) -> None:
        world = self.world()
        world.pages.pages["bank.example/account"] = (200, {}, bytes(5000))
        device = world.device(world.domain)
        answer = await world.asks(device, ACCOUNT, world.bank_ca)
        assert answer == ("2.05", bytes(5000))
        (association,) = world.domain._associations.values()
        said = encode(MapDatagram(MapType.MAP, bytes(16), 2), KEY)
        world.domain._received(said, association.address)
        await turns(3)
        refused = await device.ask(ACCOUNT)
        assert refused.payload == b"the tunnel has ended: connect again"
        await turns(10)
        with pytest.raises(DialError):
            await device.ask(ACCOUNT)

    async def test_a_domain_proxy_serves_a_device_that_nobody_announced(self) -> None:
        world = self.world()
        world.pages.pages["bank.example/account"] = (200, {}, b"the balance")
        device = world.device(world.domain)
        assert await world.asks(device, ACCOUNT, world.bank_ca) == ("2.05", b"the balance")
        assert await world.asks(device, "http://x.example/", world.bank_ca) == (
            "5.03",
            b"not of this domain: connect again",
        )

    async def test_a_device_that_returns_at_once_for_another_page_is_served_by_the_operator(
        self,
    ) -> None:
        world = self.world("bank.example")
        world.pages.pages["bank.example/"] = (403, world.required, b"")
        world.pages.pages["web.example/"] = (200, {}, b"a page")
        device = world.device()
        assert (await world.asks(device, ACCOUNT, world.operator_ca))[0] == "5.03"
        elsewhere = "http://web.example/"
        assert (await world.asks(device, elsewhere, world.bank_ca))[0] == "5.03"
        assert await world.asks(device, elsewhere, world.operator_ca) == ("2.05", b"a page")

    # -- floods -----------------------------------------------------------

    async def test_a_flood_of_one_device_leaves_room_for_others(self) -> None:
        world = self.world()
        world.pages.pages["web.example/"] = (200, {}, b"a page")
        loud = world.device()
        await loud.connect(DtlsContext(None, [world.operator_ca.certificate]))
        assert loud._client is not None
        association = loud._client.association
        assert association is not None
        for number in range(2000):
            request = bytes.fromhex("4001") + number.to_bytes(2, "big")
            association.write(request + b"\xdd\x16\x06" + b"http://web.example/")
        quiet = world.device()
        answer = await world.asks(quiet, "http://web.example/", world.operator_ca)
        assert answer == ("2.05", b"a page")
        assert len(world.pages.asked) < 2000

    async def test_spoofed_hellos_and_rubbish_disturb_nobody(self) -> None:
        world = self.world(secure={"bank.example": ("door.bank.example", 1)})
        world.pages.pages["web.example/"] = (200, {}, b"a page")
        flood = bind_udp(world.policy.own("127.0.0.1", 0, "udp"))
        self.addCleanup(flood.close)
        where = ("127.0.0.1", int(world.operator.address.rpartition(":")[2]))
        device = world.device()
        await device.connect(DtlsContext(None, [world.operator_ca.certificate]))
        for number in range(500):
            for data in (hello(random=number.to_bytes(32, "big")), record(23), b"TK" + bytes(36)):
                try:
                    flood.sendto(data, where)
                except BlockingIOError:
                    await turns(1)
        await turns(20)
        response = await device.ask("http://web.example/")
        assert response.payload == b"a page"
        assert world.operator.status()["associations"] == 1

    # -- keys -------------------------------------------------------------

    async def test_a_renewed_certificate_is_shown_from_the_next_handshake_on(self) -> None:
        world = self.world()
        world.pages.pages["web.example/"] = (200, {}, b"a page")
        file = Path(world.directory) / "proxy.pem"
        other = self.world()
        file.write_bytes((Path(other.directory) / "proxy.pem").read_bytes())
        world.operator._keys.look()
        answer = await world.asks(world.device(), "http://web.example/", other.operator_ca)
        assert answer == ("2.05", b"a page")
