"""What an application has taken is reported in time, though nothing else happens."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.net.channels.joined import OneEnd, StuckSide
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux.flow_control import BULK_REPORT, BULK_REPORT_DELAY, REPORT_DELAY
from tunnelkit.net.sockets.context import Shared

STEP = 0.001


class ReportTests(SynchronousTestCase):
    """One connection with a channel whose application takes everything."""

    def setUp(self) -> None:
        self.clock = Clock()
        shared = Shared(self.clock)
        self.end = OneEnd(LstpMux(True, MuxConfig(), 0.0, budget=shared.budget), "peer", shared)
        self.peer = LstpMux(False, MuxConfig(), 0.0)
        self.side = StuckSide()
        self.end.connection.start()
        self.exchange()
        self.end.connection.open("tcp:a:1", self.side).addErrback(lambda _: None)
        self.exchange()
        assert self.side.channel is not None
        self.number = self.side.channel.id
        self.peer.opened(self.number, "")
        self.exchange()
        self.side.take()

    def exchange(self) -> None:
        """What each has for the other arrives."""
        self.clock.advance(STEP)
        sent, self.end.wire.sent[:] = bytes(self.end.wire.sent), b""
        if sent:
            self.peer.receive(memoryview(sent), self.clock.seconds())
        if said := self.peer.data_to_send():
            self.end.wire.arrives(said)
        self.clock.advance(STEP)

    def pass_time(self, seconds: int) -> None:
        """Nothing is to be sent but signs of life."""
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.peer.deadline_passed(self.clock.seconds())
            self.exchange()

    def reported_after(self, size: int) -> float:
        """The peer sends so many bytes; seconds until it knows that they have been taken."""
        self.peer.send(self.number, bytes(size), self.clock.seconds())
        began = self.clock.seconds()
        while self.peer.path.in_flight:
            assert self.clock.seconds() < began + 1
            self.exchange()
        return self.clock.seconds() - began

    def test_a_few_bytes_are_reported_after_a_while_each_time(self) -> None:
        for silence in (0.0, 0.003, 5.0):
            self.clock.advance(silence)
            taken = self.reported_after(10)
            assert REPORT_DELAY <= taken <= REPORT_DELAY + 5 * STEP

    def test_buffers_are_given_back_once_when_nothing_has_moved_for_a_while(self) -> None:
        session = self.end.wire.engine
        for _ in range(2):
            for _ in range(4):
                self.reported_after(10)
                self.pass_time(3)
            assert session.trimmed == 0
            self.pass_time(60)
            assert session.trimmed == 1
            session.trimmed = 0

    def test_bulk_is_reported_at_once_though_a_report_was_due_later(self) -> None:
        self.peer.send(self.number, bytes(10), self.clock.seconds())
        self.exchange()
        assert self.reported_after(BULK_REPORT) <= BULK_REPORT_DELAY + 5 * STEP
