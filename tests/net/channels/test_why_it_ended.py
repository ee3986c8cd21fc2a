"""What the other end said last is the reason that is told, not that it left right behind it."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.net.channels.joined import OneEnd, later
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.errors import Code
from tunnelkit.net.sockets.context import Shared
from tunnelkit.wire import lstp


class ReasonTests(TestCase):
    """A fatal ERROR and the end of the connection in one turn, as a busy machine delivers them."""

    timeout = 30

    def started(self) -> OneEnd:
        shared = Shared(reactor)
        end = OneEnd(LstpMux(True, MuxConfig(), shared.reactor.seconds()), "peer", shared)
        end.connection.start()
        return end

    async def reason(self, end: OneEnd) -> tuple[Code | None, str]:
        while not end.owner.ended:
            await later()
        [found] = end.owner.ended
        return found

    async def test_an_error_and_the_end_behind_it(self) -> None:
        end = self.started()
        why = "the certificate's name is not an allowed peer"
        end.wire.arrives(lstp.encode(lstp.Error(Code.SETUP_MISMATCH, why, fatal=True)))
        end.wire.lose("the far side closed the tunnel connection")
        assert await self.reason(end) == (Code.SETUP_MISMATCH, why)

    async def test_an_end_that_says_nothing(self) -> None:
        end = self.started()
        end.wire.lose("the connection was reset")
        assert await self.reason(end) == (Code.RESET, "the connection was reset")
