"""A half-closed channel where nothing moves has a time limit (finding D-8)."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.net.channels.joined import OneEnd, StuckSide
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.errors import Code
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.sockets.context import Shared


class HalfClosedTests(SynchronousTestCase):
    """One connection with a channel, and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        shared = Shared(self.clock)
        shared.half_closed_limit = 100.0
        self.end = OneEnd(LstpMux(True, MuxConfig(), 0.0, budget=shared.budget), "peer", shared)
        self.peer = LstpMux(False, MuxConfig(), 0.0)
        self.side = StuckSide()
        self.end.connection.start()
        self.exchange()
        self.end.connection.open("tcp:a:1", self.side).addErrback(lambda _: None)
        self.exchange()
        self.peer.opened(self.channel().id, "")
        self.exchange()

    def exchange(self) -> None:
        """What each has for the other arrives."""
        now = self.clock.seconds()
        for _ in range(3):
            self.end.connection.pump()
            sent, self.end.wire.sent[:] = bytes(self.end.wire.sent), b""
            list(self.peer.receive(memoryview(sent), now))
            due = self.peer.next_deadline()
            if due is not None and due <= now:
                self.peer.deadline_passed(now)
            self.end.wire.arrives(self.peer.data_to_send())

    def channel(self) -> Channel:
        assert self.side.channel is not None
        return self.side.channel

    def finished(self) -> None:
        """The far application has sent its last byte."""
        self.peer.finish(self.channel().id, self.clock.seconds())
        self.exchange()
        assert self.side.finished

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.exchange()

    def test_it_is_reset_when_nothing_moves(self) -> None:
        self.finished()
        self.pass_time(99)
        assert self.side.ended == []
        self.pass_time(26)
        assert self.side.ended == [Code.RESET]

    def test_it_stays_while_something_moves(self) -> None:
        self.finished()
        for _ in range(6):
            self.pass_time(50)
            self.channel().bytes_sent += 1
        assert self.side.ended == []

    def test_one_that_is_open_both_ways_has_no_limit(self) -> None:
        self.pass_time(300)
        assert self.side.ended == []
