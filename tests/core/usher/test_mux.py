"""`UsherMux` under `usher/1`, as a dialogue with a peer (rows U3, U5, U6, X8, X9)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.usher.talk import FAR, Got, Talk
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.usher.ids import REST
from tunnelkit.core.usher.mux import MAX_DATAGRAMS, UsherMux
from tunnelkit.core.usher.receiver import MAX_CONTROL, UsherConfig
from tunnelkit.core.usher.texts import NotInUsher1
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.wire.usher import (
    MAX_DATA,
    WINDOW,
    Address,
    AddressType,
    Direction,
    Record,
    UsherAck,
    UsherClose,
    UsherEnd,
    UsherOpen,
    UsherOpenReply,
    UsherRst,
    UsherSend,
    UsherSendUdp,
    Version,
    encode,
)

READ = UsherClose(Direction.READ)
WEB = UsherOpen(AddressType.NAME, "web", 80)


def opened(talk: Talk) -> int:
    """A session that the mux has opened; its number."""
    number = talk.mux.open("tcp:web:80", talk.now)
    talk.hears((UsherOpenReply(FAR), number))
    talk.said()
    return number


def accepted(talk: Talk) -> int:
    """A session that the peer has opened."""
    (request,) = talk.hears((WEB, FAR))
    assert isinstance(request, t.ChannelRequested)
    talk.mux.opened(request.channel, "")
    talk.said()
    return request.channel


# -- opening ----------------------------------------------------------------


@pytest.mark.parametrize("version", Version)
def test_a_tunnel_that_drains_does_not_wait_for_sessions_of_datagrams(version: Version) -> None:
    talk = Talk(version)
    asked = UsherOpen(AddressType.NAME, "ns", 53, protocol=17)
    talk.hears((asked, FAR))
    web = UsherOpen(AddressType.NAME, "web", 80)
    (request,) = talk.hears((web, FAR + 1))
    assert isinstance(request, t.ChannelRequested)
    assert not talk.mux.shutdown(30.0, "", 0.0)
    assert talk.mux.refuse(request.channel, Code.REFUSED, "")[-1] == t.TunnelEnded(None, "")


@pytest.mark.parametrize("version", Version)
def test_sessions_of_datagrams_count_and_an_id_in_use_is_not_given_twice(version: Version) -> None:
    talk = Talk(version, UsherConfig(max_sessions=2))
    asked = UsherOpen(AddressType.NAME, "ns", 53, protocol=17)
    talk.hears((asked, FAR), (asked, FAR + 1), (asked, FAR + 2))
    assert [record.rc for record, _ in talk.said() if isinstance(record, UsherOpenReply)] == [
        1,
        2,
        -1,
    ]
    talk.hears((UsherClose(Direction.WRITE), 1), (asked, FAR))
    assert [record for record, _ in talk.said()] == [
        UsherOpenReply(3, None if version is Version.V1 else "")
    ]
    (event,) = talk.hears((asked, FAR))
    assert isinstance(event, t.TunnelEnded)
    assert event.code is Code.PROTOCOL


@pytest.mark.parametrize(
    ("destination", "record"),
    [
        ("tcp:192.0.2.1:80", UsherOpen(AddressType.IPV4, "192.0.2.1", 80)),
        ("tcp:intra.example:65535", UsherOpen(AddressType.NAME, "intra.example", 65535)),
    ],
)
def test_the_opener_waits_for_the_reply_before_it_sends(
    destination: str, record: UsherOpen
) -> None:
    talk = Talk()
    number = talk.mux.open(destination, 0.0)
    assert (talk.mux.sendable(number), talk.mux.waits_for_path(number)) == (0, False)
    assert talk.said() == [(record, number)]
    assert talk.hears((UsherOpenReply(FAR), number)) == [
        t.ChannelOpened(number),
        t.Writable(number),
    ]
    assert talk.mux.sendable(number) > 0
    talk.mux.send(number, b"hi", 0.0)
    assert talk.said() == [(UsherSend(b"hi"), FAR)]


def test_an_open_is_asked_about_and_answered_with_the_own_id() -> None:
    talk = Talk()
    assert talk.hears((WEB, FAR), (UsherOpen(AddressType.IPV4, "10.0.0.1", 22), 5)) == [
        t.ChannelRequested(1, "tcp:web:80"),
        t.ChannelRequested(2, "tcp:10.0.0.1:22"),
    ]
    assert talk.mux.sendable(1) == 0
    assert talk.mux.opened(1, "tcp:10.9.9.9:5") == [t.Writable(1)]
    assert talk.mux.refuse(2, Code.NOT_ALLOWED, "no rule") == [
        t.ChannelEnded(2, Code.NOT_ALLOWED, "no rule", refused=True)
    ]
    assert talk.said() == [
        (UsherOpenReply(1), FAR),
        (UsherOpenReply(-1, "not-allowed: no rule"), 5),
    ]
    assert list(talk.mux.channels()) == [1]


@pytest.mark.parametrize("code", Code)
def test_the_code_of_a_refusal_reaches_the_other_end(code: Code) -> None:
    near, far = Talk(), Talk()
    number = near.mux.open("tcp:web:80", 0.0)
    far.hears(*near.said())
    far.mux.refuse(1, code, "so it is")
    assert near.hears(*far.said()) == [t.ChannelEnded(number, code, "so it is", refused=True)]


def test_a_reason_without_a_code_is_kept_as_it_is() -> None:
    talk = Talk()
    number = talk.mux.open("tcp:web:80", 0.0)
    assert talk.hears((UsherOpenReply(-1, "Connection refused"), number)) == [
        t.ChannelEnded(number, Code.REFUSED, "Connection refused", refused=True)
    ]


def test_a_reason_that_is_too_long_is_shortened_and_holds_no_nul() -> None:
    talk = Talk()
    talk.hears((WEB, FAR))
    talk.mux.refuse(1, Code.REFUSED, "a\0b" + "é" * 2000)
    ((record, _),) = talk.said()
    assert isinstance(record, UsherOpenReply)
    assert (record.text or "").startswith("refused: a bé")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (UsherOpen(AddressType.IPV4, "10.0.0.53", 53, protocol=1), "refused: sessions are for"),
        (UsherOpen(AddressType.NAME, "web:22", 80), "no-such-host: "),
        (UsherOpen(AddressType.NAME, "[::1]", 80), "no-such-host: "),
        (UsherOpen(AddressType.NAME, "a\nb", 80), "no-such-host: "),
    ],
)
def test_an_open_that_cannot_be_is_answered_by_rc_minus_1(record: UsherOpen, reason: str) -> None:
    talk = Talk()
    assert talk.hears((record, FAR)) == []
    ((reply, session),) = talk.said()
    assert isinstance(reply, UsherOpenReply)
    assert (reply.rc, session) == (-1, FAR)
    assert (reply.text or "").startswith(reason)


def test_the_quota_is_answered_by_rc_minus_1() -> None:
    talk = Talk(config=UsherConfig(max_sessions=1))
    accepted(talk)
    assert talk.hears((WEB, 5)) == []
    assert talk.said() == [(UsherOpenReply(-1, "limit: 1 sessions are open"), 5)]


def test_no_session_is_opened_while_too_much_data_waits() -> None:
    talk = Talk()
    budget = Budget(limit=100)
    budget.queued = 80
    talk.mux = UsherMux(Version.V1, UsherConfig(), 0.0, budget=budget)
    assert talk.hears((WEB, 5)) == [t.TunnelUp()]
    ((reply, _),) = talk.said()
    assert isinstance(reply, UsherOpenReply)
    assert (reply.text or "").startswith("limit: ")


@pytest.mark.parametrize(
    "destination", ["tcp:[2001:db8::1]:80", "unix:/run/x.sock", "service:@dns", "listen:tcp::1"]
)
def test_what_usher_1_lacks_is_said_clearly(destination: str) -> None:
    talk = Talk()
    assert "offer usher/1.1" in talk.mux.lacks(destination)
    assert Talk(Version.V1_1).mux.lacks(destination) == ""
    with pytest.raises(NotInUsher1, match=r"offer usher/1\.1"):
        talk.mux.open(destination, 0.0)
    with pytest.raises(NotInUsher1, match="listening at the far side"):
        talk.mux.open_accepted(1, "192.0.2.9:1", 0.0)
    assert talk.said() == []


@pytest.mark.parametrize(
    "destination",
    [
        "tcp:web",
        "tcp::80",
        "tcp:web:x",
        "tcp:web:99999",
        "udp:ns:53",
        "tcp:" + "a" * 254 + ":1",
        "tcp:a\0:1",
    ],
)
def test_what_is_no_destination_of_a_session_is_misuse(destination: str) -> None:
    with pytest.raises(LocalProtocolError):
        Talk().mux.open(destination, 0.0)


def test_an_opener_that_gives_up_resets_what_was_opened_for_it() -> None:
    talk = Talk()
    first, second = (talk.mux.open("tcp:web:80", 0.0) for _ in range(2))
    talk.said()
    assert talk.mux.abort(first, Code.RESET, "gone", 0.0) == [
        t.ChannelEnded(first, Code.RESET, "gone")
    ]
    talk.mux.abort(second, Code.RESET, "gone", 0.0)
    assert not talk.mux.abort(second, Code.RESET, "twice", 0.0)
    assert list(talk.mux.channels()) == []
    assert talk.said() == []
    assert talk.hears((UsherOpenReply(FAR), first), (UsherOpenReply(-1, "no"), second)) == []
    assert talk.said() == [(UsherRst("reset: the opener gave up"), FAR)]


def test_data_ended_before_the_reply_is_said_to_be_behind_it() -> None:
    talk = Talk()
    number = talk.mux.open("tcp:web:80", 0.0)
    talk.said()
    assert not talk.mux.finish(number, 0.0)
    assert talk.said() == []
    assert talk.hears((UsherOpenReply(FAR), number)) == [t.ChannelOpened(number)]
    assert talk.said() == [(READ, FAR)]
    assert talk.mux.sendable(number) == 0


# -- data and flow control --------------------------------------------------


def test_data_comes_in_the_pieces_in_which_it_arrives() -> None:
    talk = Talk()
    number = accepted(talk)
    raw = encode(UsherSend(b"abcdef"), number, Version.V1)
    assert talk.hears_bytes(raw[:10]) == [Got(number, b"ab")]
    assert talk.hears_bytes(raw[10:]) == [Got(number, b"cdef")]


def test_a_frame_is_a_header_in_front_of_payload_already_in_place() -> None:
    talk = Talk()
    number = opened(talk)
    buffer = bytearray(b"....????????payload")
    talk.mux.frame_into(buffer, 4, number, 7, 0.0)
    assert buffer == b"...." + encode(UsherSend(b"payload"), FAR, Version.V1)


def test_bytes_are_acknowledged_when_the_application_took_them() -> None:
    talk = Talk()
    number = accepted(talk)
    talk.hears((UsherSend(bytes(100_000)), number))
    assert talk.said() == []
    talk.mux.consumed(number, 60_000, 1.0)
    due = talk.mux.next_deadline()
    assert due is not None
    assert 1.0 < due <= 1.02
    talk.mux.deadline_passed(due)
    assert talk.said() == [(UsherAck(60_000), FAR)]
    talk.mux.consumed(number, 40_000, 2.0)
    talk.mux.deadline_passed(2.02)
    assert talk.said() == [(UsherAck(40_000), FAR)]
    assert talk.mux.next_deadline() is None


def test_as_much_as_one_acknowledgement_holds_is_acknowledged_at_once() -> None:
    talk = Talk()
    number = accepted(talk)
    talk.hears((UsherSend(bytes(MAX_DATA)), number))
    talk.mux.consumed(number, MAX_DATA, 1.0)
    sizes = [record.size for record, _ in talk.said() if isinstance(record, UsherAck)]
    assert sizes == [65535, 65535, 65535, 65535, 4]


def test_a_sender_keeps_at_most_one_window_unacknowledged() -> None:
    talk = Talk()
    number = opened(talk)
    sent = 0
    while size := min(talk.mux.sendable(number), MAX_DATA):
        talk.mux.send(number, bytes(size), 0.0)
        sent += size
        if talk.mux.waits_for_path(number) and not talk.mux.sendable(number):
            talk.mux.path.inflight_target += WINDOW
    assert sent == WINDOW
    assert not talk.mux.waits_for_path(number)
    assert talk.hears((UsherAck(10), number)) == [t.Writable(number)]
    talk.mux.path.inflight_target += WINDOW
    assert talk.mux.sendable(number) == 10
    assert talk.hears((UsherAck(5), number)) == []
    assert talk.mux.sendable(number) == 15
    with pytest.raises(LocalProtocolError, match="16 bytes"):
        talk.mux.send(number, bytes(16), 0.0)


def test_a_session_that_exceeds_the_window_is_reset_and_no_other() -> None:
    talk = Talk()
    number = accepted(talk)
    full = [(UsherSend(bytes(MAX_DATA)), number)] * (WINDOW // MAX_DATA)
    talk.hears(*full)
    assert talk.hears((UsherSend(b"x"), number), (WEB, 5)) == [
        t.ChannelEnded(number, Code.PROTOCOL, "1 bytes more than the credit given"),
        t.ChannelRequested(2, "tcp:web:80"),
    ]
    assert talk.said() == [(UsherRst("protocol: 1 bytes more than the credit given"), FAR)]


def test_the_window_does_not_grow_with_what_is_taken() -> None:
    talk = Talk()
    number = accepted(talk)
    for _ in range(3 * WINDOW // MAX_DATA):
        talk.hears((UsherSend(bytes(MAX_DATA)), number))
        talk.mux.consumed(number, MAX_DATA, talk.now)
    talk.said()
    talk.hears(*[(UsherSend(bytes(MAX_DATA)), number)] * (WINDOW // MAX_DATA))
    assert isinstance(talk.hears((UsherSend(b"x"), number))[0], t.ChannelEnded)


def test_more_acknowledged_than_outstanding_ends_the_tunnel() -> None:
    talk = Talk()
    number = opened(talk)
    talk.mux.send(number, b"abc", 0.0)
    talk.said()
    events = talk.hears((UsherAck(4), number))
    assert [type(event) for event in events] == [t.ChannelEnded, t.TunnelEnded]
    ((record, session),) = talk.said()
    assert isinstance(record, UsherEnd)
    assert record.reason.startswith("protocol: taken is 4, but only 3 bytes")
    assert session == 0


# -- closing ----------------------------------------------------------------


def test_a_session_is_over_when_both_have_ended_and_all_is_acknowledged() -> None:
    talk = Talk()
    number = opened(talk)
    talk.mux.send(number, b"question", 0.0)
    assert not talk.mux.finish(number, 0.0)
    assert talk.said() == [(UsherSend(b"question"), FAR), (READ, FAR)]
    assert talk.mux.sendable(number) == 0
    assert talk.hears((UsherSend(b"answer"), number), (READ, number)) == [
        Got(number, b"answer"),
        t.Finished(number),
    ]
    assert not talk.mux.consumed(number, 6, 0.0)
    assert talk.said() == [(UsherAck(6), FAR)]
    assert talk.hears((UsherAck(3), number)) == []
    assert talk.hears((UsherAck(5), number)) == [t.ChannelEnded(number)]


def test_a_half_closed_session_goes_on_in_the_other_direction() -> None:
    talk = Talk()
    number = accepted(talk)
    assert talk.hears((READ, number)) == [t.Finished(number)]
    assert talk.mux.sendable(number) > 0
    talk.mux.send(number, b"still here", 0.0)
    assert not talk.mux.finish(number, 0.0)
    assert talk.said() == [(UsherSend(b"still here"), FAR), (READ, FAR)]
    assert talk.hears((UsherAck(10), number)) == [t.ChannelEnded(number)]


def test_close_write_is_answered_by_read_and_nothing_more_is_sent() -> None:
    talk = Talk()
    number = accepted(talk)
    assert talk.hears((UsherClose(Direction.WRITE), number)) == []
    assert talk.said() == [(READ, FAR)]
    assert (talk.mux.sendable(number), talk.mux.waits_for_path(number)) == (0, False)
    assert talk.hears((UsherClose(Direction.WRITE), number), (UsherSend(b"x"), number)) == [
        Got(number, b"x")
    ]
    assert talk.said() == []
    talk.mux.consumed(number, 1, 0.0)
    assert talk.hears((READ, number)) == [t.Finished(number), t.ChannelEnded(number)]


@pytest.mark.parametrize(
    ("record", "code", "reason"),
    [
        (UsherRst("timed-out: too slow"), Code.TIMED_OUT, "too slow"),
        (UsherRst("limit"), Code.LIMIT, ""),
        (UsherRst("broken pipe: oh"), Code.RESET, "broken pipe: oh"),
        (UsherEnd(""), Code.RESET, ""),
        (UsherClose(Direction.BOTH), Code.RESET, "the far side closed both directions at once"),
    ],
)
def test_a_session_that_the_far_side_ends_is_reset(record: Record, code: Code, reason: str) -> None:
    talk = Talk()
    number = accepted(talk)
    assert talk.hears((record, number), (UsherSend(b"late"), number)) == [
        t.ChannelEnded(number, code, reason)
    ]
    assert talk.said() == [(UsherRst("reset"), FAR)]


def test_an_abort_sends_rst_and_what_comes_then_is_ignored() -> None:
    talk = Talk()
    number = accepted(talk)
    assert talk.mux.abort(number, Code.RESET, "write error", 0.0) == [
        t.ChannelEnded(number, Code.RESET, "write error")
    ]
    assert talk.said() == [(UsherRst("reset: write error"), FAR)]
    late: list[tuple[Record, int]] = [
        (UsherSend(b"late"), number),
        (UsherAck(9), number),
        (READ, number),
    ]
    assert talk.hears(*late, (UsherRst(""), number)) == []
    assert not talk.mux.consumed(number, 4, 0.0)
    assert not talk.mux.abort(number, Code.RESET, "twice", 0.0)
    assert talk.said() == []


def test_data_in_the_middle_of_which_its_session_is_reset_is_dropped() -> None:
    talk = Talk()
    number = accepted(talk)
    raw = encode(UsherSend(b"abcdef"), number, Version.V1)
    talk.hears_bytes(raw[:10])
    talk.mux.abort(number, Code.RESET, "", 0.0)
    assert talk.hears_bytes(raw[10:]) == []
    assert talk.mux.budget.queued == 0


# -- ids --------------------------------------------------------------------


def test_an_id_is_not_used_again_within_30_s_of_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnelkit.core.usher.ids.MAX_ID", 1)
    talk = Talk()
    number = accepted(talk)
    talk.mux.abort(number, Code.RESET, "", 10.0)
    talk.said()
    with pytest.raises(t.LimitReached, match="no session id is left") as caught:
        talk.mux.open("tcp:web:80", 10.0 + REST - 0.001)
    assert caught.value.code is Code.LIMIT
    talk.now = 10.0 + REST - 0.001
    assert talk.hears((WEB, 5)) == []
    assert talk.said() == [(UsherOpenReply(-1, "limit: no session id is left"), 5)]
    assert talk.mux.open("tcp:web:80", 10.0 + REST) == number


def test_an_id_is_free_at_once_after_an_orderly_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnelkit.core.usher.ids.MAX_ID", 1)
    talk = Talk()
    number = accepted(talk)
    talk.mux.finish(number, 0.0)
    assert talk.hears((READ, number))[-1] == t.ChannelEnded(number)
    assert talk.mux.open("tcp:web:80", 0.0) == number


@pytest.mark.parametrize(
    "record", [UsherSend(b"x"), UsherAck(1), READ, UsherRst(""), UsherEnd(""), UsherOpenReply(3)]
)
@pytest.mark.parametrize("session", [1, 32767, -1, -32768])
def test_a_record_for_an_id_never_used_ends_the_tunnel(record: Record, session: int) -> None:
    talk = Talk()
    events = talk.hears((record, session), (WEB, 5))
    assert [(type(event), getattr(event, "code", None)) for event in events] == [
        (t.TunnelEnded, Code.PROTOCOL)
    ]
    assert talk.hears((WEB, 5)) == []


def test_an_id_not_told_yet_counts_as_never_used() -> None:
    talk = Talk()
    talk.hears((WEB, FAR))
    assert isinstance(talk.hears((UsherSend(b"early"), 1))[-1], t.TunnelEnded)


def test_what_is_late_for_an_id_in_use_again_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnelkit.core.usher.ids.MAX_ID", 1)
    talk = Talk()
    number = accepted(talk)
    talk.mux.finish(number, 0.0)
    talk.hears((READ, number), (WEB, FAR))
    assert talk.hears((UsherRst(""), number), (UsherClose(Direction.WRITE), number)) == []
    assert talk.mux.opened(number, "") == [t.Writable(number)]


def test_a_reset_before_the_reply_leaves_the_id_in_use_until_the_reply() -> None:
    talk = Talk()
    number = talk.mux.open("tcp:web:80", 0.0)
    talk.said()
    assert talk.hears((UsherRst("reset: old"), number), (UsherRst(""), number)) == [
        t.ChannelEnded(number, Code.RESET, "old")
    ]
    assert talk.hears((UsherOpenReply(FAR), number)) == []
    assert talk.said() == [(UsherRst("reset: the opener gave up"), FAR)]


@pytest.mark.parametrize("session", [FAR, 0, -1])
def test_an_open_for_a_live_or_impossible_id_ends_the_tunnel(session: int) -> None:
    talk = Talk()
    accepted(talk)
    assert isinstance(talk.hears((WEB, session))[-1], t.TunnelEnded)


def test_a_reply_with_an_id_in_use_ends_the_tunnel() -> None:
    talk = Talk()
    accepted(talk)
    number = talk.mux.open("tcp:web:80", 0.0)
    assert isinstance(talk.hears((UsherOpenReply(FAR), number))[-1], t.TunnelEnded)


def test_every_id_up_to_the_last_carries_a_session_of_its_own() -> None:
    near, far = Talk(), Talk(config=UsherConfig(max_sessions=32767))
    for expected in range(1, 32768):
        assert near.mux.open("tcp:web:80", 0.0) == expected
    with pytest.raises(t.LimitReached):
        near.mux.open("tcp:web:80", 0.0)
    for event in far.hears_bytes(near.mux.data_to_send()):
        assert isinstance(event, t.ChannelRequested)
        far.mux.opened(event.channel, "")
    near.hears_bytes(far.mux.data_to_send())
    for number in near.mux.channels():
        near.mux.send(number, b"%d" % number, 0.0)
        near.mux.path.in_flight = 0
    got = far.hears_bytes(near.mux.data_to_send())
    assert got == [Got(number, b"%d" % number) for number in range(1, 32768)]


# -- the tunnel -------------------------------------------------------------


def test_a_tunnel_that_drains_refuses_and_ends_with_its_last_session() -> None:
    talk = Talk()
    number = accepted(talk)
    assert not talk.mux.shutdown(5.0, "restart", 0.0)
    with pytest.raises(t.LimitReached):
        talk.mux.open("tcp:web:80", 0.0)
    talk.hears((WEB, 5))
    assert talk.said() == [(UsherOpenReply(-1, "shutdown: this end is shutting down"), 5)]
    talk.mux.finish(number, 0.0)
    assert talk.hears((READ, number)) == [
        t.Finished(number),
        t.ChannelEnded(number),
        t.TunnelEnded(),
    ]
    assert talk.said() == [(READ, FAR), (UsherEnd("shutdown: restart"), 0)]
    assert talk.mux.next_deadline() is None


def test_a_tunnel_that_does_not_drain_in_time_is_ended() -> None:
    talk = Talk()
    number = accepted(talk)
    talk.mux.shutdown(5.0, "restart", 0.0)
    assert not talk.mux.shutdown(1.0, "again", 0.0)
    assert talk.mux.next_deadline() == 5.0
    reason = "the time to drain is over"
    assert talk.mux.deadline_passed(5.0) == [
        t.ChannelEnded(number, Code.SHUTDOWN, reason),
        t.TunnelEnded(Code.SHUTDOWN, reason),
    ]
    assert talk.said() == [(UsherEnd(f"shutdown: {reason}"), 0)]


@pytest.mark.parametrize("reason", ["", "shutdown", "bye"])
def test_usher_end_is_a_clean_end_if_nothing_is_open(reason: str) -> None:
    assert Talk().hears((UsherEnd(reason), 0), (WEB, 5)) == [t.TunnelEnded()]


def test_usher_end_resets_what_is_open_and_says_why() -> None:
    talk = Talk()
    number = accepted(talk)
    assert talk.hears((UsherEnd("limit: enough"), 0)) == [
        t.ChannelEnded(number, Code.LIMIT, "enough"),
        t.TunnelEnded(Code.LIMIT, "enough"),
    ]
    assert talk.said() == []


@pytest.mark.parametrize("clean", [True, False])
def test_a_connection_that_ends_without_usher_end_resets_every_session(clean: bool) -> None:
    talk = Talk()
    number = accepted(talk)
    reason = "the tunnel connection was lost"
    assert talk.mux.connection_lost(clean, 0.0) == [
        t.ChannelEnded(number, Code.RESET, reason),
        t.TunnelEnded(Code.RESET, reason),
    ]
    assert not talk.mux.connection_lost(clean, 0.0)
    assert not talk.mux.deadline_passed(9.0)


@pytest.mark.parametrize(
    "raw", ["ffffffff 0003 0001", "00000401 0006 0000", "00040001 0003 0001", "00000000 0010 0000"]
)
def test_a_length_bomb_or_unknown_type_ends_the_tunnel_by_its_header(raw: str) -> None:
    talk = Talk()
    (event,) = talk.hears_bytes(bytes.fromhex(raw))
    assert isinstance(event, t.TunnelEnded)
    assert event.code is Code.PROTOCOL
    ((record, session),) = talk.said()
    assert isinstance(record, UsherEnd)
    assert session == 0


def test_a_far_side_that_sends_but_does_not_read_is_cut_off() -> None:
    talk = Talk(config=UsherConfig(max_sessions=0))
    raw = encode(WEB, FAR, Version.V1) * 10_000
    answers = 0
    while not (events := talk.hears_bytes(raw)):
        answers += 10_000
        assert answers * 36 < 2 * MAX_CONTROL
    assert events == [t.TunnelEnded(Code.LIMIT, "the far side sends but does not read")]


def test_verbs_for_sessions_that_are_not_open_are_misuse() -> None:
    talk = Talk()
    number = opened(talk)
    talk.mux.finish(number, 0.0)
    verbs: list[Callable[[], object]] = [
        lambda: talk.mux.finish(number, 0.0),
        lambda: talk.mux.finish(99, 0.0),
        lambda: talk.mux.opened(number, ""),
        lambda: talk.mux.refuse(number, Code.REFUSED, ""),
    ]
    for verb in verbs:
        with pytest.raises(LocalProtocolError):
            verb()


# -- datagrams --------------------------------------------------------------


def test_a_datagram_carries_both_addresses_and_needs_no_session() -> None:
    talk = Talk()
    near, far = ("10.0.0.1", 40000), ("192.0.2.53", 53)
    flow = talk.mux.open_datagrams(0.0)
    assert talk.mux.send_datagram(flow, near, far, memoryview(b"query"), 0.0)
    assert talk.said() == [(UsherSendUdp(Address(*near), Address(*far), b"query"), 0)]
    (event,) = talk.hears((UsherSendUdp(Address(*far), Address(*near), b"answer"), 123))
    assert event == t.Datagram(flow, far, near, memoryview(b"answer"))


def test_datagrams_are_dropped_while_the_tunnel_is_behind() -> None:
    talk = Talk()
    near, far = ("10.0.0.1", 40000), ("192.0.2.53", 53)
    sent = 0
    while talk.mux.send_datagram(0, near, far, bytes(60_000), 0.0):
        sent += 60_000
    assert 0 < sent <= MAX_DATAGRAMS
    talk.said()
    assert talk.mux.send_datagram(0, near, far, bytes(60_000), 0.0)


@pytest.mark.parametrize(
    ("destination", "version", "lacks"),
    [
        ("udp:192.0.2.53:53", Version.V1, False),
        ("udp:*", Version.V1, False),
        ("udp:[2001:db8::1]:53", Version.V1, True),
        ("udp:ns.example:53", Version.V1, True),
        ("udp:ns.example:53", Version.V1_1, False),
        ("tcp:www.example:80", Version.V1, False),
    ],
)
def test_what_can_be_asked_for_is_known_before(
    destination: str, version: Version, lacks: bool
) -> None:
    assert bool(Talk(version).mux.lacks(destination)) is lacks


def test_datagrams_that_cannot_be_carried_are_misuse() -> None:
    talk = Talk()
    for far in (("::1", 53), ("ns.example", 53)):
        with pytest.raises(NotInUsher1):
            talk.mux.send_datagram(0, ("10.0.0.1", 1), far, b"", 0.0)
    with pytest.raises(LocalProtocolError, match="65508 bytes"):
        talk.mux.send_datagram(0, ("10.0.0.1", 1), ("10.0.0.1", 1), bytes(65508), 0.0)


def test_a_channel_protocol_makes_muxes_of_its_version() -> None:
    protocol = UsherProtocol()
    # The empty one: a peer that agrees on nothing speaks usher/1.
    assert protocol.alpn == (b"usher/1.1", b"usher/1", b"")
    assert protocol.make_mux(True, b"", 0.0).data_to_send() == b""
    assert protocol.make_mux(True, b"usher/1", 0.0).data_to_send() == b""
    assert protocol.make_mux(False, b"usher/1.1", 0.0).data_to_send()[4:6] == b"\0\x10"
    assert UsherProtocol(versions=(Version.V1_1,)).alpn == (b"usher/1.1",)
