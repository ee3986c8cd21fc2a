"""What a tunnel has done over all its connections."""

from __future__ import annotations

import attrs

from tunnelkit.core.mux.path import Path
from tunnelkit.errors import Code, PeerNotTrusted, Revoked
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord
from tunnelkit.net.channels.totals import MOST_PEERS, OTHERS, Totals


@attrs.define(eq=False)
class Counted:
    bytes_sent: int
    bytes_received: int
    peer: str = "far"
    channel_count: int = 0
    queued: int = 0
    path: Path = attrs.field(factory=Path)


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


def opening(peer: str) -> ChannelOpening:
    return ChannelOpening(1, peer, "tcp:there:1", False, "", "", 0.25)


def test_each_peer_has_its_own_counts_and_one_that_is_expected_is_shown_before_it_comes() -> None:
    totals = Totals()
    totals.expect({"ann", "bob"})
    first, second = Counted(10, 1, "bob", 2, 7), Counted(20, 2, "bob", 3, 8)
    first.path.round_trip_seen(0.5)
    first.path.sent(100, 0.0)
    totals.connection_began(first)
    totals.connection_began(second)
    totals.channel(opening("bob"))
    ann, bob = totals.by_peer([second])
    assert (ann.peer, ann.up, ann.bytes_sent, ann.round_trip) == ("ann", False, 0, None)
    # The first one drains: it takes no channels, and carries those that it has.
    assert (bob.up, bob.channels, bob.channels_opened) == (True, 3, 1)
    assert (bob.bytes_sent, bob.bytes_received, bob.queued) == (30, 3, 15)
    assert (bob.round_trip, bob.in_flight) == (0.5, 100)
    for connection in (first, second):
        totals.connection_ended(connection)
    _, bob = totals.by_peer([])
    assert (bob.up, bob.bytes_sent, bob.bytes_received, bob.queued) == (False, 30, 3, 0)
    assert totals.open_times.snapshot().seconds == 0.25


def test_peers_beyond_the_first_thousand_count_together() -> None:
    totals = Totals()
    for number in range(MOST_PEERS + 5):
        totals.channel(opening(f"peer-{number}"))
    found = totals.by_peer([])
    assert len(found) == MOST_PEERS + 1
    assert (found[-1].peer, found[-1].channels_opened) == (OTHERS, 5)
    assert totals.opened == MOST_PEERS + 5


def test_handshakes_that_come_to_nothing_are_counted_by_reason() -> None:
    totals = Totals()
    for error in (Revoked(), PeerNotTrusted(), PeerNotTrusted()):
        totals.not_proved(error)
    assert +totals.rejected == {"revoked": 1, "not-trusted": 2}
    # Prometheus sees a first one only if there was a 0 before.
    assert totals.rejected["protocol"] == 0
    assert "protocol" in totals.rejected
