"""A deadline that comes to be sooner than what was due before is kept."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.net.channels.joined import OneEnd, StuckSide
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux.contract import TunnelMux
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.errors import Code
from tunnelkit.net.sockets.context import Shared
from tunnelkit.wire.usher import Version


class DeadlineTests(SynchronousTestCase):
    """One connection whose keepalive is far away, with an open channel."""

    def begin(self, near: TunnelMux, far: TunnelMux) -> None:
        self.clock = Clock()
        self.end = OneEnd(near, "peer", Shared(self.clock))
        self.peer = far
        self.end.connection.start()
        self.exchange()
        self.end.connection.open("tcp:a:1", StuckSide()).addErrback(lambda _: None)
        self.exchange()

    def exchange(self) -> None:
        """What each has for the other arrives, within this moment."""
        for _ in range(3):
            self.clock.advance(0)
            self.end.connection.pump()
            sent, self.end.wire.sent[:] = bytes(self.end.wire.sent), b""
            list(self.peer.receive(memoryview(sent), self.clock.seconds()))
            self.end.wire.arrives(self.peer.data_to_send())
        self.clock.advance(0)

    def ends_on_time(self) -> None:
        self.clock.advance(1.9)
        assert self.end.owner.ended == []
        self.clock.advance(0.2)
        self.clock.advance(0)
        ((code, _),) = self.end.owner.ended
        assert code is Code.SHUTDOWN

    def lstp(self) -> None:
        self.begin(LstpMux(True, MuxConfig(), 0.0), LstpMux(False, MuxConfig(), 0.0))

    def usher(self) -> None:
        config = UsherConfig()
        self.begin(UsherMux(Version.V1_1, config, 0.0), UsherMux(Version.V1_1, config, 0.0))

    def test_lstp_drains_no_longer_than_this_end_says(self) -> None:
        self.lstp()
        self.end.connection.shutdown(2.0, "enough")
        self.ends_on_time()

    def test_lstp_drains_no_longer_than_the_far_side_says(self) -> None:
        self.lstp()
        self.peer.shutdown(2.0, "enough", 0.0)
        self.end.wire.arrives(self.peer.data_to_send())
        self.ends_on_time()

    def test_usher_drains_no_longer_than_this_end_says(self) -> None:
        self.usher()
        self.end.connection.shutdown(2.0, "enough")
        self.ends_on_time()

    def test_usher_drains_no_longer_than_the_far_side_says(self) -> None:
        self.usher()
        self.peer.shutdown(2.0, "enough", 0.0)
        self.end.wire.arrives(self.peer.data_to_send())
        self.ends_on_time()
