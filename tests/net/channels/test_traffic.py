"""What is open may change while somebody reads it (row O6)."""

from __future__ import annotations

from twisted.internet.task import Clock

from tests.net.channels.joined import OneEnd, StuckSide
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.net.sockets.context import Shared


def test_channels_that_come_and_go_meanwhile_do_not_end_the_reading() -> None:
    shared = Shared(Clock())
    end = OneEnd(LstpMux(True, MuxConfig(), 0.0, budget=shared.budget), "peer", shared)
    peer = LstpMux(False, MuxConfig(), 0.0)
    end.connection.start()
    end.connection.pump()
    list(peer.receive(memoryview(end.wire.sent), 0.0))
    end.wire.arrives(peer.data_to_send())
    for port in (1, 2, 3):
        end.connection.open(f"tcp:a:{port}", StuckSide()).addErrback(lambda _: None)
    rows = end.connection.traffic()
    first = next(rows)
    assert end.connection.end_channel(int(first.id))
    end.connection.open("tcp:a:4", StuckSide()).addErrback(lambda _: None)
    assert [row.what for row in rows] == ["tcp:a:2", "tcp:a:3"]
    assert [row.what for row in end.connection.traffic()] == ["tcp:a:2", "tcp:a:3", "tcp:a:4"]
    end.end()
