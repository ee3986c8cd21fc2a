"""What a tunnel has done over all its connections."""

from __future__ import annotations

import attrs

from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord
from tunnelkit.net.channels.totals import Totals


@attrs.define
class Counted:
    bytes_sent: int
    bytes_received: int


def record(code: Code | None, refused: bool) -> ChannelRecord:
    return ChannelRecord("far", "tcp:there:1", False, 0, 0, 1.0, code, "", refused)


def test_bytes_of_connections_that_are_over_stay_counted_and_those_that_drain_go_on() -> None:
    totals = Totals()
    first, second = Counted(10, 20), Counted(1, 2)
    totals.connection_began(first)
    totals.connection_began(second)
    first.bytes_sent += 5
    totals.connection_ended(first)
    totals.connection_ended(first)
    second.bytes_received += 100
    assert (totals.connects, totals.bytes_sent, totals.bytes_received) == (2, 16, 122)


def test_a_connection_that_never_came_up_counts_nothing() -> None:
    totals = Totals()
    totals.connection_ended(Counted(10, 20))
    assert (totals.connects, totals.bytes_sent, totals.bytes_received) == (0, 0, 0)


def test_channels_are_counted_by_how_they_began_and_ended() -> None:
    totals = Totals()
    for serial in range(3):
        totals.channel(ChannelOpening(serial, "far", "tcp:there:1", False, "", ""))
    totals.channel(record(None, refused=False))
    totals.channel(record(Code.RESET, refused=False))
    totals.channel(record(Code.NOT_ALLOWED, refused=True))
    assert (totals.opened, totals.refused, totals.broken) == (3, 1, 1)
