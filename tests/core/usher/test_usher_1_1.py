"""What `usher/1.1` adds to the mux: settings, pings, offsets, early data, listening, datagrams."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.usher.talk import FAR, Got, Talk
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import MAX_WINDOW
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.core.usher.texts import NotInUsher1
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.wire.checkpoint import Checkpoint
from tunnelkit.wire.usher import (
    Address,
    AddressType,
    Direction,
    Record,
    UsherCheckpoint,
    UsherClose,
    UsherCredit,
    UsherEnd,
    UsherOpen,
    UsherOpenReply,
    UsherPing,
    UsherRst,
    UsherSend,
    UsherSendUdp,
    UsherSendUdpAny,
    UsherService,
    UsherSettings,
    UsherShutdown,
    Version,
    encode,
)

V1_1 = Version.V1_1
READ = UsherClose(Direction.READ)
WEB = UsherOpen(AddressType.NAME, "web", 80)


def fresh(config: UsherConfig | None = None) -> Talk:
    """A mux that has not heard anything yet."""
    talk = Talk(V1_1)
    talk.mux = UsherMux(V1_1, config or UsherConfig(), 0.0)
    return talk


# -- settings ---------------------------------------------------------------


def test_both_begin_with_their_settings_and_then_the_tunnel_is_up() -> None:
    talk = fresh(UsherConfig(window=1000, max_sessions=5, keepalive=7, software="here"))
    assert talk.said() == [(UsherSettings(1000, 5, 7, "here"), 0)]
    with pytest.raises(t.LimitReached, match="takes no new sessions now"):
        talk.mux.open("tcp:web:80", 0.0)
    assert talk.hears((UsherSettings(software="there"), 0)) == [t.TunnelUp("there")]
    assert talk.hears((UsherSettings(), 0)) == []
    assert talk.mux.open("tcp:web:80", 0.0) == 1


@pytest.mark.parametrize("record", [WEB, UsherSend(b"x"), UsherPing(1), UsherEnd("")])
def test_anything_before_the_settings_ends_the_tunnel(record: Record) -> None:
    (event,) = fresh().hears((record, 1 if record is WEB else 0))
    assert isinstance(event, t.TunnelEnded)
    assert event.code is Code.PROTOCOL


def test_the_far_sides_window_and_limit_are_kept() -> None:
    talk = fresh()
    talk.hears((UsherSettings(window=10, max_sessions=1), 0))
    number = talk.mux.open("tcp:web:80", 0.0)
    assert talk.mux.sendable(number) == 10
    with pytest.raises(t.LimitReached, match="allows 1 sessions") as caught:
        talk.mux.open("tcp:web:80", 0.0)
    assert caught.value.code is Code.LIMIT
    talk.hears((UsherSettings(window=99, max_sessions=2), 0))
    second = talk.mux.open("tcp:web:80", 0.0)
    assert talk.mux.sendable(second) == 10


# -- life -------------------------------------------------------------------


def test_a_quiet_tunnel_is_kept_alive_by_pings() -> None:
    talk = Talk(V1_1)
    assert talk.mux.next_deadline() == 10.0
    assert not talk.mux.deadline_passed(10.0)
    assert talk.said() == [(UsherPing(2), 0)]
    assert talk.mux.next_deadline() == 20.0


def test_a_ping_is_answered_and_only_the_latest_of_many() -> None:
    talk = Talk(V1_1)
    talk.hears(*[(UsherPing(token), 0) for token in range(1000)])
    assert talk.said() == [(UsherPing(999, answer=True), 0)]


def test_the_answer_to_a_ping_tells_the_round_trip() -> None:
    talk = fresh()
    talk.hears((UsherSettings(), 0))
    talk.now = 0.25
    talk.hears((UsherPing(77, answer=True), 0), (UsherPing(1, answer=True), 0))
    assert talk.mux.path.min_rtt == 0.25


def test_after_a_long_sleep_of_its_own_it_asks_before_it_takes_the_far_side_for_dead() -> None:
    talk = fresh(UsherConfig(keepalive=10))
    talk.hears((UsherSettings(keepalive=10), 0))
    talk.said()
    assert list(talk.mux.deadline_passed(3600.0)) == []
    assert talk.mux.data_to_send()
    due = talk.mux.next_deadline()
    assert due is not None
    assert due <= 3615.0
    (event,) = talk.mux.deadline_passed(3615.0)
    assert event == t.TunnelEnded(Code.TIMED_OUT, "nothing was heard of the far side")


def test_a_far_side_that_says_nothing_for_three_times_its_keepalive_is_dead() -> None:
    talk = fresh(UsherConfig(keepalive=1000))
    talk.hears((UsherSettings(keepalive=5), 0))
    talk.said()
    assert talk.mux.next_deadline() == 15.0
    (event,) = talk.mux.deadline_passed(15.0)
    assert event == t.TunnelEnded(Code.TIMED_OUT, "nothing was heard of the far side")


def test_a_shutdown_is_announced_and_both_drain() -> None:
    near, far = Talk(V1_1), Talk(V1_1)
    number = near.mux.open("tcp:web:80", 0.0)
    far.hears(*near.said())
    assert not far.mux.shutdown(2.5, "restart", 0.0)
    said = far.said()
    assert said == [(UsherShutdown(3, "restart"), 0)]
    assert near.hears(*said) == [t.Draining(3, "restart")]
    with pytest.raises(t.LimitReached):
        near.mux.open("tcp:web:80", 0.0)
    far.mux.refuse(1, Code.REFUSED, "")
    assert near.hears(*far.said()) == [
        t.ChannelEnded(number, Code.REFUSED, "", refused=True),
        t.TunnelEnded(),
    ]


# -- sessions ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "record"),
    [
        ("tcp:[2001:db8::1]:80", UsherOpen(AddressType.IPV6, "2001:db8::1", 80)),
        ("unix:/run/x.sock", UsherOpen(AddressType.TEXT, "unix:/run/x.sock")),
        ("service:@dns", UsherOpen(AddressType.TEXT, "service:@dns")),
        ("x11::0", UsherOpen(AddressType.TEXT, "x11::0")),
    ],
)
def test_more_can_be_opened_than_in_usher_1(destination: str, record: UsherOpen) -> None:
    near, far = Talk(V1_1), Talk(V1_1)
    near.mux.open(destination, 0.0)
    said = near.said()
    assert said == [(record, 1)]
    assert far.hears(*said) == [t.ChannelRequested(1, destination)]


def test_udp_is_not_opened_as_a_session() -> None:
    talk = Talk(V1_1)
    talk.hears((UsherOpen(AddressType.TEXT, "udp:*"), FAR))
    assert talk.said() == [(UsherOpenReply(-1, "refused: UDP has records of its own"), FAR)]
    with pytest.raises(LocalProtocolError, match="DatagramMux"):
        talk.mux.open("udp:*", 0.0)


def test_the_reply_says_what_the_far_socket_is_bound_to() -> None:
    near, far = Talk(V1_1), Talk(V1_1)
    number = near.mux.open("tcp:web:80", 0.0)
    far.hears(*near.said())
    far.mux.opened(1, "tcp:10.0.0.5:51000")
    assert near.hears(*far.said()) == [t.ChannelOpened(number, "tcp:10.0.0.5:51000")]


def test_the_first_bytes_travel_with_the_open() -> None:
    near, far = Talk(V1_1), Talk(V1_1)
    number = near.mux.open("tcp:web:80", 0.0)
    near.mux.send(number, b"GET", 0.0)
    near.mux.finish(number, 0.0)
    said = near.said()
    assert said == [(WEB, number), (UsherSend(b"GET"), -number), (READ, -number)]
    assert far.hears(*said) == [
        t.ChannelRequested(1, "tcp:web:80"),
        Got(1, b"GET"),
        t.Finished(1),
    ]
    assert far.mux.opened(1, "") == [t.Writable(1)]
    assert not far.mux.consumed(1, 3, 0.0)
    assert near.hears(*far.said()) == [t.ChannelOpened(number)]


def test_early_data_that_crosses_the_reply_belongs_to_the_session() -> None:
    talk = Talk(V1_1)
    talk.hears((WEB, FAR))
    talk.mux.opened(1, "")
    assert talk.hears((UsherSend(b"ab"), -FAR), (UsherSend(b"cd"), 1)) == [
        Got(1, b"ab"),
        Got(1, b"cd"),
    ]


def test_early_data_for_what_was_refused_is_ignored() -> None:
    talk = Talk(V1_1)
    talk.hears((WEB, FAR))
    talk.mux.refuse(1, Code.REFUSED, "")
    assert talk.hears((UsherSend(b"ab"), -FAR), (READ, -FAR), (UsherRst(""), -FAR)) == []
    assert talk.mux.budget.queued == 0


def test_early_data_beyond_the_window_is_refused() -> None:
    talk = fresh(UsherConfig(window=3))
    talk.hears((UsherSettings(), 0))
    talk.said()
    events = talk.hears((WEB, FAR), (UsherSend(b"abcd"), -FAR))
    assert events[-1] == t.ChannelEnded(
        1, Code.LIMIT, "more than 3 bytes before the session is connected", refused=True
    )
    assert talk.said() == [
        (UsherOpenReply(-1, "limit: more than 3 bytes before the session is connected"), FAR)
    ]


def test_an_opener_that_gives_up_says_so_at_once() -> None:
    near, far = Talk(V1_1), Talk(V1_1)
    number = near.mux.open("tcp:web:80", 0.0)
    near.mux.abort(number, Code.RESET, "gone", 0.0)
    assert far.hears(*near.said()) == [
        t.ChannelRequested(1, "tcp:web:80"),
        t.ChannelEnded(1, Code.RESET, "gone"),
    ]
    assert near.hears((UsherOpenReply(FAR, ""), number)) == []


def test_what_was_taken_is_reported_as_offsets_and_the_window_grows() -> None:
    talk = fresh(UsherConfig(window=1000))
    talk.hears((UsherSettings(), 0), (WEB, FAR))
    talk.mux.opened(1, "")
    talk.said()
    talk.hears((UsherSend(bytes(1000)), 1))
    talk.mux.consumed(1, 1000, 0.0)
    assert talk.said() == [(UsherCredit(1000, 3000), FAR)]


def test_credit_lets_the_sender_go_on() -> None:
    talk = fresh()
    talk.hears((UsherSettings(window=10), 0))
    number = talk.mux.open("tcp:web:80", 0.0)
    talk.mux.send(number, bytes(10), 0.0)
    talk.hears((UsherOpenReply(FAR, ""), number))
    assert (talk.mux.sendable(number), talk.mux.waits_for_path(number)) == (0, False)
    assert talk.hears((UsherCredit(4, 30), number)) == [t.Writable(number)]
    assert talk.mux.sendable(number) == 20


@pytest.mark.parametrize(
    "credit",
    [
        UsherCredit(11, 262144),
        UsherCredit(0, 100),
        UsherCredit(0, MAX_WINDOW + 1),
        UsherCredit(2**64 - 1, 2**64 - 1),
    ],
)
def test_credit_that_cannot_be_ends_the_tunnel(credit: UsherCredit) -> None:
    talk = Talk(V1_1)
    number = talk.mux.open("tcp:web:80", 0.0)
    talk.mux.send(number, bytes(10), 0.0)
    talk.hears((UsherOpenReply(FAR, ""), number))
    assert isinstance(talk.hears((credit, number))[-1], t.TunnelEnded)


def test_the_peers_own_id_for_what_was_opened_here_is_an_unknown_one() -> None:
    talk = Talk(V1_1)
    number = talk.mux.open("tcp:web:80", 0.0)
    talk.hears((UsherOpenReply(FAR, ""), number))
    assert talk.hears((UsherSend(b"x"), -FAR), (UsherSend(b"y"), -32768)) == []


# -- listening --------------------------------------------------------------


def test_connections_accepted_over_there_come_back_naming_the_listener() -> None:
    near, far = Talk(V1_1), Talk(V1_1)
    far.mux.open("tcp:other:1", 0.0)
    listener = near.mux.open("listen:tcp:0.0.0.0:8080", 0.0)
    (request,) = far.hears(*near.said())
    assert request == t.ChannelRequested(2, "listen:tcp:0.0.0.0:8080")
    far.said()
    far.mux.opened(2, "tcp:0.0.0.0:8080")
    near.hears(*far.said())
    far.mux.open_accepted(2, "tcp:192.0.2.9:40000", 0.0)
    said = far.said()
    assert said == [(UsherOpen(AddressType.ACCEPTED, "tcp:192.0.2.9:40000", listener=listener), 3)]
    (event,) = near.hears(*said)
    assert event == t.ChannelRequested(2, "", listener=listener, origin="tcp:192.0.2.9:40000")


def test_a_connection_of_a_listener_that_is_gone_is_refused() -> None:
    talk = Talk(V1_1)
    talk.hears((UsherOpen(AddressType.ACCEPTED, "tcp:192.0.2.9:40000", listener=4), FAR))
    assert talk.said() == [(UsherOpenReply(-1, "no-such-service: nobody listens any more"), FAR)]


def test_only_a_listener_of_the_far_side_hands_over_connections() -> None:
    talk = Talk(V1_1)
    number = talk.mux.open("listen:tcp:0.0.0.0:8080", 0.0)
    for listener in (number, 99):
        with pytest.raises(LocalProtocolError, match="no listener"):
            talk.mux.open_accepted(listener, "tcp:192.0.2.9:1", 0.0)


# -- datagrams, and what is to come -----------------------------------------


@pytest.mark.parametrize(
    ("near", "far", "record"),
    [
        (("10.0.0.1", 1), ("10.0.0.2", 2), UsherSendUdp),
        (("::1", 1), ("2001:db8::1", 2), UsherSendUdpAny),
        (("10.0.0.1", 1), ("ns.example", 53), UsherSendUdpAny),
    ],
)
def test_datagrams_go_between_any_addresses(
    near: tuple[str, int],
    far: tuple[str, int],
    record: Callable[[Address, Address, bytes], Record],
) -> None:
    talk, other = Talk(V1_1), Talk(V1_1)
    assert talk.mux.send_datagram(0, near, far, b"query", 0.0)
    said = talk.said()
    assert said == [(record(Address(*near), Address(*far), b"query"), 0)]
    assert other.hears(*said) == [t.Datagram(0, near, far, memoryview(b"query"))]


def test_records_reserved_for_services_are_ignored() -> None:
    assert Talk(V1_1).hears((UsherService(b"anything"), 0)) == []


def test_what_goes_from_gate_to_gate_says_which_gates_it_has_come_by() -> None:
    talk, there = Talk(V1_1), Talk(V1_1)
    talk.mux.open_onward("tcp:web:80", ("gate-a", "gate-b"), 0.0)
    (said,) = talk.said()
    assert said == (UsherOpen(AddressType.ONWARD, "tcp:web:80", via=("gate-a", "gate-b")), 1)
    (event,) = there.hears(said)
    assert isinstance(event, t.ChannelRequested)
    assert (event.destination, event.via) == ("tcp:web:80", ("gate-a", "gate-b"))


def test_what_has_come_by_this_end_already_is_a_ring() -> None:
    talk = fresh(UsherConfig(name="gate-b"))
    talk.hears((UsherSettings(), 0))
    talk.said()
    for number, via in ((1, ("gate-b",)), (2, ("gate-a", "gate-b", "gate-c"))):
        record = UsherOpen(AddressType.ONWARD, "tcp:web:80", via=via)
        assert talk.hears((record, number)) == []
        assert talk.said() == [(UsherOpenReply(-1, "refused: ring"), number)]


@pytest.mark.parametrize("via", [("g",) * 9, ("g" * 250,) * 5])
def test_more_gates_than_fit_are_refused_before_anything_is_sent(via: tuple[str, ...]) -> None:
    talk = Talk(V1_1)
    with pytest.raises(t.LimitReached) as caught:
        talk.mux.open_onward("tcp:web:80", via, 0.0)
    assert caught.value.code is Code.LIMIT
    assert talk.said() == []
    assert not list(talk.mux.channels())


def test_over_usher_1_only_what_has_come_by_no_gate_goes_onward() -> None:
    talk = Talk(Version.V1)
    talk.mux.open_onward("tcp:web:80", ("gate-a",), 0.0)
    assert talk.said() == [(UsherOpen(AddressType.NAME, "web", 80), 1)]
    with pytest.raises(NotInUsher1) as caught:
        talk.mux.open_onward("tcp:web:80", ("gate-a", "gate-b"), 0.0)
    assert caught.value.code is Code.UNREACHABLE
    assert talk.said() == []


def test_a_checkpoint_of_an_audit_file_is_told_and_heard() -> None:
    told = Checkpoint("0" * 32, 7, "f" * 64)
    talk, silent = fresh(), Talk(Version.V1)
    talk.said()
    talk.mux.say_checkpoint(told, 0.0)
    assert talk.said() == []  # nobody is there yet
    talk.hears((UsherSettings(), 0))
    talk.said()
    for mux in (talk.mux, silent.mux):
        mux.say_checkpoint(told, 0.0)
    assert talk.said() == [(UsherCheckpoint(told), 0)]
    assert silent.said() == []
    assert talk.hears((UsherCheckpoint(told), 0)) == [t.CheckpointCame(told)]


def test_an_acknowledgement_of_usher_1_ends_the_tunnel() -> None:
    talk = Talk(V1_1)
    (event,) = talk.hears_bytes(bytes.fromhex("00000002 0005 0001 0001"))
    assert event == t.TunnelEnded(Code.PROTOCOL, "unknown record type 5")
    assert talk.said() == [(UsherEnd("protocol: unknown record type 5"), 0)]


def test_settings_are_the_same_however_they_are_cut() -> None:
    raw = encode(UsherSettings(software="there"), 0, V1_1)
    talk = fresh()
    events = [event for byte in raw for event in talk.hears_bytes(bytes([byte]))]
    assert events == [t.TunnelUp("there")]
