"""Connections that wait ahead for browsers (row S10)."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread

from tests.net.secureproxy.test_server import SITE, ask, offers
from tests.net.secureproxy.world import SecureProxyCase
from tests.wire.test_tls_peek import host_name, made
from tunnelkit.net.secureproxy.opening import Opened
from tunnelkit.net.secureproxy.server import SecureProxyServer
from tunnelkit.net.secureproxy.spares import Spares


def waiting(server: SecureProxyServer) -> int:
    """How many the office has there."""
    return sum(len(offer.spares) for offer in offers(server))


class SparesTests(SecureProxyCase):
    def spares(self, count: int) -> Spares:
        self.taken: list[Opened] = []
        made = Spares(self.link("office"), [SITE.name], count, self.served)
        self.addCleanup(made.stop)
        return made

    def served(self, resource: str, opened: Opened) -> Deferred[None]:
        assert resource == SITE.name
        self.taken.append(opened)
        opened.unwrapped.carrier.write(b"quick")
        opened.unwrapped.carrier.close()
        return succeed(None)

    async def test_a_browser_takes_one_and_another_takes_its_place(self) -> None:
        server = self.serve()
        office = self.present("office", SITE)
        await self.until(lambda: offers(server))
        spares = self.spares(3)
        spares.start()
        await self.until(lambda: waiting(server) == 3)
        hello = made(host_name(b"site.example"))
        for times in (1, 2):
            assert await deferToThread(ask, self.port, hello) == b"quick"
            assert len(self.taken) == times
            await self.until(lambda: waiting(server) == 3)
        assert office.asked == []
        spares.stop()
        await self.until(lambda: not waiting(server))

    async def test_one_that_is_refused_is_tried_again_later(self) -> None:
        server = self.serve()
        self.spares(1).start()
        # Nobody publishes the site yet.
        self.present("office", SITE)
        await self.until(lambda: waiting(server) == 1)
