"""What comes with requests that nobody has answered is counted, capped and handed over (X25)."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.net.channels.joined import OneEnd, StuckSide, later
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux.contract import EARLY_DATA
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.errors import Code
from tunnelkit.net.sockets.context import Shared
from tunnelkit.wire import lstp, usher
from tunnelkit.wire.usher import AddressType, UsherOpen, UsherSend, UsherSettings, Version

MIB = 1 << 20


class EarlyDataTests(TestCase):
    """A connection whose peer is played by the test."""

    timeout = 60

    def setUp(self) -> None:
        self.shared = Shared(reactor)
        self.ends: list[OneEnd] = []

    def tearDown(self) -> Any:
        for end in self.ends:
            end.end()
        assert self.shared.budget.queued == 0
        assert self.shared.early_data.total == 0
        return later()

    def tunnel(self, peer: str) -> OneEnd:
        mux = LstpMux(False, MuxConfig(), 0.0, budget=self.shared.budget)
        end = OneEnd(mux, peer, self.shared)
        self.ends.append(end)
        end.connection.start()
        end.wire.arrives(lstp.encode(lstp.PropertyExchange()))
        return end

    def ask(self, end: OneEnd, numbers: range, data: bytes, piece: int = EARLY_DATA) -> None:
        for number in numbers:
            said = lstp.encode(lstp.ConnectionRequest(destination="tcp:a:1"), number)
            said += lstp.encode(lstp.ServiceBeginRequest(), number)
            for start in range(0, len(data), piece):
                message = lstp.ServiceData(data[start : start + piece])
                said += lstp.encode(message, number)
            end.wire.arrives(said)

    def test_it_is_counted_and_the_application_gets_it(self) -> None:
        end = self.tunnel("peer")
        self.ask(end, range(1, 10, 2), bytes(10_000), 1000)
        assert end.connection.bytes_received == 50_000
        assert self.shared.early_data.total == 50_000
        side = StuckSide()
        end.owner.requests[0].attach(side, "")
        assert side.channel is not None
        assert side.channel.queued == side.channel.bytes_received == 10_000
        end.owner.requests[1].refuse(Code.REFUSED, "no")
        assert self.shared.early_data.total == 30_000
        assert end.connection.bytes_received == 50_000

    def test_it_is_counted_over_usher_too(self) -> None:
        mux = UsherMux(Version.V1_1, UsherConfig(), 0.0, budget=self.shared.budget)
        end = OneEnd(mux, "peer", self.shared)
        self.ends.append(end)
        end.connection.start()
        records: list[tuple[usher.Record, int]] = [
            (UsherSettings(), 0),
            (UsherOpen(AddressType.NAME, "web", 80), 7),
            (UsherSend(bytes(10_000)), -7),
        ]
        for record, session in records:
            end.wire.arrives(usher.encode(record, session, Version.V1_1))
        assert end.connection.bytes_received == self.shared.early_data.total == 10_000

    def test_datagrams_are_counted_too(self) -> None:
        end = self.tunnel("peer")
        said = lstp.encode(lstp.ConnectionRequest(destination="udp:192.0.2.1:53"), 1)
        said += lstp.encode(lstp.ServiceBeginRequest(), 1)
        said += lstp.encode(lstp.ServiceData(bytes(4000)), 1) * 4
        end.wire.arrives(said)
        assert end.connection.bytes_received == self.shared.early_data.total == 16_000

    def test_three_tunnels_full_of_unanswered_channels_cost_nobody_a_channel(self) -> None:
        """Finding D-3, with the default budget."""
        honest = self.tunnel("honest")
        self.ask(honest, range(1, 2, 2), b"hello")
        side = StuckSide()
        honest.owner.requests[0].attach(side, "")
        for _ in range(3):
            self.ask(self.tunnel("hoarder"), range(1, 2049, 2), bytes(EARLY_DATA))
        assert self.shared.early_data.total == self.shared.budget.queued - 5 == 48 * MIB
        assert self.shared.budget.accepts_channels
        assert side.ended == []
        assert honest.owner.records == []

    def test_who_holds_most_gives_way_when_it_is_too_much_in_all(self) -> None:
        self.shared.budget.limit = 4 * MIB
        honest, hoarder = self.tunnel("honest"), self.tunnel("hoarder")
        self.ask(honest, range(1, 5, 2), bytes(EARLY_DATA))
        gone: list[int] = []
        self.ask(hoarder, range(1, 125, 2), bytes(EARLY_DATA))
        for request in hoarder.owner.requests:
            request.on_gone = partial(gone.append, request.channel)
        assert self.shared.early_data.total == MIB
        self.ask(hoarder, range(125, 135, 2), bytes(EARLY_DATA))
        self.ask(self.tunnel("hoarder"), range(1, 11, 2), bytes(EARLY_DATA))
        assert self.shared.early_data.total == MIB
        refused = [r for end in self.ends for r in end.owner.records]
        assert [(r.peer, r.code, r.refused) for r in refused] == [
            ("hoarder", Code.LIMIT, True)
        ] * 10
        assert not any(request.gone for request in honest.owner.requests)
        # The newest went, so dials in flight were left alone.
        assert gone == []
        for _ in range(70):
            self.ask(self.tunnel("third"), range(1, 2, 2), bytes(EARLY_DATA))
        assert self.shared.early_data.total == MIB
        assert gone
        assert not any(request.gone for request in honest.owner.requests)

    def test_a_peer_that_sends_byte_by_byte_gets_no_more_memory_for_it(self) -> None:
        end = self.tunnel("peer")
        self.ask(end, range(1, 2, 2), bytes(2000), 1)
        request = end.owner.requests[0]
        assert len(request.early) == 2000
        side = StuckSide()
        request.attach(side, "")
        for _ in range(20_000):
            end.wire.arrives(lstp.encode(lstp.ServiceData(b"x"), 1))
        assert side.channel is not None
        assert side.channel.queued == 22_000
        assert len(side.channel.queue) < 10
