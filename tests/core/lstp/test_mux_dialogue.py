"""Two LSTP muxes talk: opening, ending, draining and losing (rows L3, L5)."""

from __future__ import annotations

import pytest

from tests.core.lstp.ends import End, Talk, messages
from tunnelkit.core.lstp.events import ConnectionRequested
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.wire import lstp
from tunnelkit.wire.checkpoint import Checkpoint
from tunnelkit.wire.lstp import MessageType as M

COMMON = "A" * 43


def kinds(data: bytes) -> list[M]:
    return [message.type for _, message in messages(data)]


# -- coming up ------------------------------------------------------------


def test_both_ends_are_up_once_the_properties_of_the_other_have_come() -> None:
    talk = Talk(MuxConfig(software="one"), MuxConfig(software="two"), up=False)
    with pytest.raises(t.LimitReached):
        talk.near.mux.open("tcp:a:1", talk.near.now)
    with pytest.raises(t.LimitReached):
        talk.near.mux.further.request(COMMON, talk.near.now)
    talk.settle()
    assert talk.near.events == [t.TunnelUp("two")]
    assert talk.far.events == [t.TunnelUp("one")]
    assert talk.near.mux.open("tcp:a:1", talk.near.now) == 1


def test_properties_that_come_again_are_no_second_start() -> None:
    talk = Talk()
    talk.near.hears(lstp.PropertyExchange(max_channels=0))
    assert talk.near.events == []
    with pytest.raises(t.LimitReached) as caught:
        talk.near.mux.open("tcp:a:1", talk.near.now)
    assert caught.value.code is Code.LIMIT


@pytest.mark.parametrize(("announced", "granted"), [(None, 262144), (1000, 1000), (0, 0)])
def test_only_the_first_properties_say_the_window(announced: int | None, granted: int) -> None:
    end = End(True)
    end.hears(lstp.PropertyExchange(window=announced))
    end.hears(lstp.PropertyExchange(window=5_000_000))
    channel = end.mux.open("tcp:a:1", end.now)
    end.hears(lstp.ConnectionAck(), channel)
    end.hears(lstp.ServiceBeginAck(), channel)
    sent = 0
    while size := min(end.mux.sendable(channel), 4096):
        end.mux.send(channel, bytes(size), end.now)
        sent += size
        # Told at once that it was taken, so that only credit counts.
        end.hears(lstp.ServiceDataResume(sent, max(granted, sent)), channel)
    assert sent == granted


def test_unknown_fields_flags_and_codes_are_no_obstacle() -> None:
    end = End(True)
    later = b'{"window":1000,"colour":"blue","services":[]}'
    end.note(end.mux.receive(memoryview(lstp.encode_body(M.PROPERTY_EXCHANGE, later)), end.now))
    channel = end.mux.open("tcp:a:1", end.now)
    for kind, body in (
        (M.CONNECTION_ACK, b'{"why":[1,2]}'),
        (M.SERVICE_BEGIN_ACK, b'{"bound":"tcp:b:2","route":{"a":"b"}}'),
        (M.SERVICE_FREE_REQUEST, b'{"code":"bored","reason":"x","since":1}'),
    ):
        frame = lstp.encode_body(kind, body, channel, flags=0xF0)
        end.note(end.mux.receive(memoryview(frame), end.now))
    assert end.events == [
        t.TunnelUp(""),
        t.ChannelOpened(channel, "tcp:b:2"),
        t.ChannelEnded(channel, Code.INTERNAL, "x"),
    ]


# -- opening --------------------------------------------------------------


def test_opening_with_early_data_costs_one_round_trip() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = near.mux.open("tcp:a:1", near.now)
    near.mux.send(channel, b"GET /", near.now)
    assert kinds(talk.carry(near)) == [
        M.CONNECTION_REQUEST,
        M.SERVICE_BEGIN_REQUEST,
        M.SERVICE_DATA,
    ]
    assert far.events == [t.ChannelRequested(channel, "tcp:a:1")]
    assert far.got[channel] == b"GET /"
    assert far.mux.sendable(channel) == 0
    assert not far.mux.waits_for_path(channel)
    far.note(far.mux.opened(channel, "tcp:b:2"))
    assert far.events[1:] == [t.Writable(channel)]
    far.mux.send(channel, b"200", far.now)
    talk.carry(far)
    assert near.events == [t.ChannelOpened(channel, "tcp:b:2")]
    assert near.got[channel] == b"200"


def test_a_service_is_asked_for_by_name() -> None:
    talk = Talk()
    talk.near.hears(lstp.PropertyExchange(services=(lstp.Service("wiki"),)))
    channel = talk.near.mux.open("service:wiki", talk.near.now)
    data = talk.carry(talk.near)
    assert messages(data)[0] == (channel, lstp.ConnectionRequest(service="wiki"))
    assert talk.far.events == [t.ChannelRequested(channel, "service:wiki")]


def test_a_connection_for_a_listener_that_nobody_opened_is_refused() -> None:
    end = Talk().far
    end.hears(lstp.ConnectionRequest(listener=7, origin="tcp:192.0.2.9:4"), 3)
    assert end.says() == [
        (3, lstp.ConnectionNack(Code.NO_SUCH_SERVICE, "there is no such listener"))
    ]
    assert end.events == []


def test_a_destination_that_cannot_be_said_leaves_no_channel_behind() -> None:
    talk = Talk()
    with pytest.raises(LocalProtocolError):
        talk.near.mux.open("tcp:" + "a" * 20_000 + ":1", talk.near.now)
    assert talk.near.mux.channels() == []
    assert talk.near.says() == []


def test_a_refusal_is_passed_on_and_frees_the_channel() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = near.mux.open("tcp:a:1", near.now)
    near.mux.send(channel, b"early", near.now)
    talk.carry(near)
    far.note(far.mux.refuse(channel, Code.REFUSED, "closed"))
    near.mux.send(channel, b"in vain", near.now)
    talk.settle()
    ended = t.ChannelEnded(channel, Code.REFUSED, "closed", refused=True)
    assert near.events == [ended]
    assert far.events == [t.ChannelRequested(channel, "tcp:a:1"), ended]
    nothing_left(talk)


def nothing_left(talk: Talk) -> None:
    for end in (talk.near, talk.far):
        assert end.mux.channels() == []
        assert end.budget.queued == 0
        assert end.mux.path.in_flight == 0


def test_the_one_who_asks_keeps_to_the_limit_of_the_other() -> None:
    talk = Talk(far=MuxConfig(max_channels=2))
    near = talk.near
    first, _ = (near.mux.open("tcp:a:1", near.now) for _ in range(2))
    with pytest.raises(t.LimitReached) as caught:
        near.mux.open("tcp:a:1", near.now)
    assert caught.value.code is Code.LIMIT
    talk.settle()
    near.note(near.mux.abort(first, Code.RESET, "", near.now))
    talk.settle()
    near.mux.open("tcp:a:1", near.now)


def test_requests_over_the_limit_are_refused_and_what_follows_them_is_ignored() -> None:
    end = End(False, MuxConfig(max_channels=1))
    end.hears(lstp.PropertyExchange())
    end.says()
    for number in (1, 3):
        end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), number)
        end.hears(lstp.ServiceBeginRequest(), number)
        end.hears(lstp.ServiceData(b"early", last=True), number)
    assert end.all_of(t.ChannelRequested) == [t.ChannelRequested(1, "tcp:a:1")]
    assert end.got == {1: b"early"}
    (_, first), (number, second) = end.says()
    assert first == lstp.ConnectionAck()
    assert isinstance(second, lstp.ConnectionNack)
    assert (number, second.code) == (3, Code.LIMIT)


def test_a_channel_that_has_ended_makes_room_for_another() -> None:
    end = End(False, MuxConfig(max_channels=1))
    end.hears(lstp.PropertyExchange())
    end.says()
    for number in (1, 3, 5):
        end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), number)
        assert end.says() == [(number, lstp.ConnectionAck())]
        end.hears(lstp.ServiceFreeRequest(Code.RESET), number)
        assert end.says() == [(number, lstp.ServiceFreeAck())]


def test_an_end_that_holds_too_much_data_refuses_channels() -> None:
    budget = Budget(limit=4000)
    end = End(False, budget=budget)
    end.hears(lstp.PropertyExchange())
    end.says()
    budget.queued = 3000
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    assert [type(message) for _, message in end.says()] == [lstp.ConnectionNack]
    budget.queued = 2999
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 3)
    assert [type(message) for _, message in end.says()] == [lstp.ConnectionAck]


def test_a_request_that_is_never_begun_is_the_layers_above_no_matter() -> None:
    end = End(False)
    end.hears(lstp.PropertyExchange())
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    end.events.clear()
    end.note(end.mux.connection_lost(False, end.now))
    assert [type(event) for event in end.events] == [t.TunnelEnded]


# -- ending ---------------------------------------------------------------


@pytest.mark.parametrize("first", ["near", "far"])
def test_half_close_in_either_order(first: str) -> None:
    talk = Talk()
    channel = talk.open()
    one, other = (talk.near, talk.far) if first == "near" else (talk.far, talk.near)
    one.mux.send(channel, b"the question", one.now)
    one.note(one.mux.finish(channel, one.now))
    talk.settle()
    assert other.events == [t.Finished(channel)]
    assert one.mux.sendable(channel) == 0
    other.mux.send(channel, b"the answer", other.now)
    talk.settle()
    assert one.got[channel] == b"the answer"
    other.note(other.mux.finish(channel, other.now))
    talk.settle()
    assert one.events == [t.Finished(channel), t.ChannelEnded(channel)]
    assert other.events == [t.Finished(channel), t.ChannelEnded(channel)]
    nothing_left(talk)


def test_what_the_opener_sends_and_ends_before_it_is_connected_arrives() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = near.mux.open("tcp:a:1", near.now)
    near.mux.send(channel, b"all of it", near.now)
    near.note(near.mux.finish(channel, near.now))
    talk.settle()
    assert far.events[-1] == t.Finished(channel)
    with pytest.raises(LocalProtocolError):
        far.mux.finish(channel, far.now)
    far.note(far.mux.opened(channel, ""))
    far.note(far.mux.finish(channel, far.now))
    talk.settle()
    assert far.got[channel] == b"all of it"
    for end in (near, far):
        assert end.events[-1] == t.ChannelEnded(channel)
    nothing_left(talk)


def test_the_last_ack_waits_until_the_application_has_taken_everything() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = talk.open()
    far.eager = False
    near.mux.send(channel, b"take your time", near.now)
    near.note(near.mux.finish(channel, near.now))
    far.note(far.mux.finish(channel, far.now))
    talk.settle()
    assert near.all_of(t.ChannelEnded) == far.all_of(t.ChannelEnded) == []
    far.note(far.mux.consumed(channel, 10, far.now))
    talk.settle()
    assert near.all_of(t.ChannelEnded) == []
    far.note(far.mux.consumed(channel, 4, far.now))
    talk.settle()
    assert near.all_of(t.ChannelEnded) == far.all_of(t.ChannelEnded) == [t.ChannelEnded(channel)]
    nothing_left(talk)


def test_the_opener_frees_the_channel_only_when_its_own_application_has_taken_everything() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = talk.open()
    near.eager = False
    far.mux.send(channel, b"slowly", far.now)
    far.note(far.mux.finish(channel, far.now))
    near.note(near.mux.finish(channel, near.now))
    talk.settle()
    assert near.all_of(t.ChannelEnded) == far.all_of(t.ChannelEnded) == []
    near.note(near.mux.consumed(channel, 6, near.now))
    talk.settle()
    assert near.all_of(t.ChannelEnded) == far.all_of(t.ChannelEnded) == [t.ChannelEnded(channel)]
    nothing_left(talk)


@pytest.mark.parametrize("who", ["near", "far"])
def test_an_abort_ends_the_channel_on_both_sides(who: str) -> None:
    talk = Talk()
    channel, other = talk.open(), talk.open()
    talk.far.eager = talk.near.eager = False
    talk.near.mux.send(channel, b"lost", talk.near.now)
    talk.far.mux.send(channel, b"lost too", talk.far.now)
    talk.settle()
    end = talk.near if who == "near" else talk.far
    end.note(end.mux.abort(channel, Code.RESET, "enough", end.now))
    assert end.mux.sendable(channel) == 0
    assert end.mux.abort(channel, Code.RESET, "again", end.now) == ()
    talk.settle()
    for each in (talk.near, talk.far):
        assert each.all_of(t.ChannelEnded) == [t.ChannelEnded(channel, Code.RESET, "enough")]
        assert each.mux.channels() == [other]
        assert each.budget.queued == each.mux.path.in_flight == 0
        assert each.mux.consumed(channel, 4, each.now) == ()
        assert each.budget.queued == 0
        assert each.mux.abort(channel, Code.RESET, "too late", each.now) == ()
    assert talk.near.says() == talk.far.says() == []


def test_aborts_that_cross_are_each_acknowledged() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = talk.open()
    near.note(near.mux.abort(channel, Code.RESET, "near", near.now))
    far.note(far.mux.abort(channel, Code.TIMED_OUT, "far", far.now))
    one, other = near.mux.data_to_send(), far.mux.data_to_send()
    near.note(near.mux.receive(memoryview(other), near.now))
    far.note(far.mux.receive(memoryview(one), far.now))
    assert kinds(one) == kinds(other) == [M.SERVICE_FREE_REQUEST]
    assert kinds(talk.carry(near)) == kinds(talk.carry(far)) == [M.SERVICE_FREE_ACK]
    assert near.events == [t.ChannelEnded(channel, Code.RESET, "near")]
    assert far.events == [t.ChannelEnded(channel, Code.TIMED_OUT, "far")]
    nothing_left(talk)


@pytest.mark.parametrize("known", [False, True])
def test_an_abort_instead_of_the_last_ack_is_no_clean_end(known: bool) -> None:
    """Whether or not the far side had the orderly request before its application gave up."""
    talk = Talk()
    near, far = talk.near, talk.far
    channel = talk.open()
    far.eager = False
    near.mux.send(channel, b"never taken", near.now)
    near.note(near.mux.finish(channel, near.now))
    far.note(far.mux.finish(channel, far.now))
    talk.carry(near)
    talk.carry(far)
    if known:
        talk.carry(near)
    far.note(far.mux.abort(channel, Code.RESET, "gave up", far.now))
    talk.settle()
    assert near.all_of(t.ChannelEnded) == [t.ChannelEnded(channel, Code.RESET, "gave up")]
    assert far.all_of(t.ChannelEnded) == [t.ChannelEnded(channel, Code.RESET, "gave up")]
    nothing_left(talk)


def test_the_opener_may_abort_after_its_orderly_request() -> None:
    for waits in (True, False):
        talk = Talk()
        near, far = talk.near, talk.far
        channel = talk.open()
        far.eager = not waits
        near.mux.send(channel, b"perhaps taken", near.now)
        near.note(near.mux.finish(channel, near.now))
        far.note(far.mux.finish(channel, far.now))
        talk.carry(near)
        talk.carry(far)
        talk.carry(near)
        near.note(near.mux.abort(channel, Code.RESET, "too long", near.now))
        assert kinds(talk.carry(near)) == [M.SERVICE_FREE_REQUEST]
        assert kinds(talk.carry(far)) == [M.SERVICE_FREE_ACK]
        assert near.all_of(t.ChannelEnded) == [t.ChannelEnded(channel, Code.RESET, "too long")]
        nothing_left(talk)


def test_an_abort_crosses_a_refusal() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = near.mux.open("tcp:a:1", near.now)
    talk.settle()
    far.note(far.mux.abort(channel, Code.LIMIT, "busy", far.now))
    near.note(near.mux.abort(channel, Code.RESET, "tired", near.now))
    assert kinds(talk.carry(near)) == [M.SERVICE_FREE_REQUEST]
    assert kinds(talk.carry(far)) == [M.SERVICE_BEGIN_NACK, M.SERVICE_FREE_ACK]
    assert near.events == [t.ChannelEnded(channel, Code.RESET, "tired")]
    assert far.events[-1] == t.ChannelEnded(channel, Code.LIMIT, "busy", refused=True)
    nothing_left(talk)


def test_an_abort_crosses_the_nack() -> None:
    talk = Talk(far=MuxConfig(max_channels=0))
    talk.near.hears(lstp.PropertyExchange(max_channels=5))
    near = talk.near
    channel = near.mux.open("tcp:a:1", near.now)
    near.note(near.mux.abort(channel, Code.RESET, "tired", near.now))
    talk.settle()
    assert near.events == [t.ChannelEnded(channel, Code.RESET, "tired")]
    assert talk.far.events == []
    nothing_left(talk)


def test_data_for_a_channel_that_ends_halfway_through_it_is_dropped() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel, other = talk.open(), talk.open()
    near.mux.send(channel, b"0123456789", near.now)
    near.mux.send(other, b"whole", near.now)
    near.note(near.mux.finish(channel, near.now))
    data = near.mux.data_to_send()
    far.note(far.mux.receive(memoryview(data)[:15], far.now))
    far.note(far.mux.abort(channel, Code.RESET, "", far.now))
    far.note(far.mux.receive(memoryview(data)[15:], far.now))
    assert far.got == {channel: b"012", other: b"whole"}
    assert far.all_of(t.Finished) == []
    assert far.budget.queued == 0


def test_misuse_is_told() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = near.mux.open("tcp:a:1", near.now)
    talk.settle()
    with pytest.raises(LocalProtocolError):
        near.mux.opened(channel, "")
    far.note(far.mux.opened(channel, ""))
    with pytest.raises(LocalProtocolError):
        far.mux.refuse(channel, Code.REFUSED, "")
    with pytest.raises(LocalProtocolError):
        near.mux.send(channel, bytes(near.mux.max_frame + 1), near.now)
    near.note(near.mux.finish(channel, near.now))
    for number in (channel, 99):
        with pytest.raises(LocalProtocolError):
            near.mux.finish(number, near.now)


# -- ids ------------------------------------------------------------------


@pytest.mark.parametrize("master", [True, False])
def test_ids_are_of_the_own_parity_and_are_not_used_while_they_live(master: bool) -> None:
    end = End(master)
    end.hears(lstp.PropertyExchange(max_channels=10))
    first = 1 if master else 2
    live = [end.mux.open("tcp:a:1", end.now) for _ in range(2)]
    live.append(end.mux.further.request(COMMON, end.now))
    assert live == [first, first + 2, first + 4]
    last = 0xFFFFFFFF if master else 0xFFFFFFFE
    end.mux.live.ids.next = last
    end.hears(lstp.ConnectionNack(Code.LIMIT), first + 2)
    assert [end.mux.open("tcp:a:1", end.now) for _ in range(3)] == [last, first + 2, first + 6]


def test_an_id_is_used_again_after_each_kind_of_ending() -> None:
    end = End(False)
    end.hears(lstp.PropertyExchange())
    endings: list[list[lstp.Message]] = [
        [lstp.ServiceFreeRequest(Code.RESET)],
        [lstp.Error(Code.RESET)],
        [lstp.ConnectionAck()],
        [lstp.ServiceBeginRequest(), lstp.ServiceFreeRequest(Code.RESET)],
    ]
    for ending in endings:
        end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
        for message in ending:
            end.hears(message, 1)
        end.now += 0.001
    end.says()
    end.events.clear()
    end.hears(lstp.ConnectionRequest(destination="tcp:again:1"), 1)
    end.hears(lstp.ServiceBeginRequest(), 1)
    end.hears(lstp.ServiceData(b"new"), 1)
    assert end.says() == [(1, lstp.ConnectionAck())]
    assert end.events == [t.ChannelRequested(1, "tcp:again:1")]
    assert end.got == {1: b"new"}


def test_an_id_is_not_used_again_while_events_of_its_old_channel_are_on_their_way() -> None:
    """Or taking the old channel's data would be counted as the new one's, and give it credit."""
    end = End(False)
    end.hears(lstp.PropertyExchange())
    hello = lstp.encode(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    hello += lstp.encode(lstp.ServiceBeginRequest(), 1)
    burst = hello + lstp.encode(lstp.ServiceData(bytes(1000)), 1)
    burst += lstp.encode(lstp.Error(Code.RESET), 1) + hello
    end.says()
    end.note(end.mux.receive(memoryview(burst), end.now))
    assert [type(message) for _, message in end.says()] == [
        lstp.ConnectionAck,
        lstp.ConnectionNack,
    ]
    assert len(end.all_of(t.ChannelRequested)) == 1
    assert end.budget.queued == 0


def test_late_messages_for_more_than_a_thousand_ended_channels_do_no_harm() -> None:
    end = End(False, MuxConfig(max_channels=0))
    end.hears(lstp.PropertyExchange())
    for number in range(1, 4001, 2):
        end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), number)
    end.says()
    end.hears(lstp.ServiceData(b"late"), 3999)
    assert end.says() == []
    end.hears(lstp.ServiceData(b"very late"), 1)
    assert [type(message) for _, message in end.says()] == [lstp.Error]
    assert end.all_of(t.TunnelEnded) == []


# -- shutting down --------------------------------------------------------


def test_a_drained_tunnel_ends_with_its_last_channel() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = talk.open()
    near.note(near.mux.shutdown(60, "restart", near.now))
    talk.settle()
    assert far.events == [t.Draining(60, "restart")]
    for end in (near, far):
        with pytest.raises(t.LimitReached) as caught:
            end.mux.open("tcp:a:1", end.now)
        assert caught.value.code is Code.SHUTDOWN
    near.mux.send(channel, b"still", near.now)
    near.note(near.mux.finish(channel, near.now))
    far.note(far.mux.finish(channel, far.now))
    talk.settle()
    assert far.got[channel] == b"still"
    for end in (near, far):
        assert end.events[-2:] == [t.ChannelEnded(channel), t.TunnelEnded()]
        assert end.mux.next_deadline() is None
        # Nothing happens to it any more.
        assert end.mux.connection_lost(True, end.now) == ()
        assert end.mux.deadline_passed(end.now + 100) == ()
        assert end.mux.shutdown(0, "", end.now) == ()
        assert end.mux.fail(Code.INTERNAL, "") == ()


def test_an_idle_tunnel_shuts_down_at_once() -> None:
    talk = Talk()
    talk.near.note(talk.near.mux.shutdown(60, "bye", talk.near.now))
    assert talk.near.events == [t.TunnelEnded()]
    talk.settle()
    assert talk.far.events == [t.Draining(60, "bye"), t.TunnelEnded()]


def test_after_the_grace_period_what_is_left_is_reset() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = talk.open()
    far.note(far.mux.shutdown(5, "now", far.now))
    talk.settle()
    talk.wait(4.9)
    assert near.all_of(t.TunnelEnded) == far.all_of(t.TunnelEnded) == []
    talk.wait(0.2)
    for end in (near, far):
        assert end.all_of(t.ChannelEnded)[0].channel == channel
        assert end.all_of(t.ChannelEnded)[0].code is Code.SHUTDOWN
        assert end.all_of(t.TunnelEnded)[0].code is Code.SHUTDOWN
    nothing_left(talk)


def test_shutting_down_again_can_only_shorten_the_time() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    talk.open()
    start = near.now
    far.note(far.mux.shutdown(100, "", far.now))
    talk.settle()
    near.note(near.mux.shutdown(50, "", near.now))
    talk.settle()
    near.note(near.mux.shutdown(70, "", near.now))
    assert near.says() == []
    far.hears(lstp.Shutdown(500))
    talk.wait(49.9)
    assert near.all_of(t.TunnelEnded) == far.all_of(t.TunnelEnded) == []
    talk.wait(0.2)
    assert near.now < start + 51
    assert len(near.all_of(t.TunnelEnded)) == len(far.all_of(t.TunnelEnded)) == 1


def test_a_draining_end_refuses_requests_on_their_way() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    talk.open()
    channel = near.mux.open("tcp:a:1", near.now)
    further = near.mux.further.request(COMMON, near.now)
    far.note(far.mux.shutdown(60, "", far.now))
    talk.carry(near)
    talk.carry(far)
    assert [(e.channel, e.code, e.refused) for e in near.all_of(t.ChannelEnded)] == [
        (channel, Code.SHUTDOWN, True),
        (further, Code.SHUTDOWN, True),
    ]


def test_nothing_is_said_after_the_end_of_a_drained_tunnel() -> None:
    end = End(False)
    end.hears(lstp.PropertyExchange())
    end.events.clear()
    data = lstp.encode(lstp.Shutdown(5)) + lstp.encode(lstp.Shutdown(4)) + b"garbage" * 10
    end.note(end.mux.receive(memoryview(data), end.now))
    assert end.events == [t.Draining(5), t.TunnelEnded()]


# -- losing the connection ------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("draining", [True, False])
def test_a_lost_connection_resets_every_channel(clean: bool, draining: bool) -> None:
    talk = Talk()
    channel = talk.open()
    waiting = talk.near.mux.open("tcp:a:1", talk.near.now)
    if draining:
        talk.near.note(talk.near.mux.shutdown(60, "", talk.near.now))
    talk.near.eager = False
    talk.far.mux.send(channel, b"never taken", talk.far.now)
    talk.near.mux.send(channel, b"never arrives", talk.near.now)
    talk.carry(talk.far)
    talk.near.events.clear()
    talk.near.note(talk.near.mux.connection_lost(clean, talk.near.now))
    assert [type(event) for event in talk.near.events] == [
        t.ChannelEnded,
        t.ChannelEnded,
        t.TunnelEnded,
    ]
    assert [event.channel for event in talk.near.all_of(t.ChannelEnded)] == [channel, waiting]
    code = Code.SHUTDOWN if clean and draining else Code.RESET
    assert {event.code for event in talk.near.all_of(t.ChannelEnded)} == {code}
    assert talk.near.all_of(t.TunnelEnded)[0].code is code
    assert talk.near.budget.queued == talk.near.mux.path.in_flight == 0
    assert talk.near.mux.receive(memoryview(b"anything"), talk.near.now) == ()


def test_a_fatal_error_ends_the_tunnel_and_says_why() -> None:
    talk = Talk()
    channel = talk.open()
    talk.near.note(talk.near.mux.fail(Code.INTERNAL, "a bug"))
    talk.settle()
    for end in (talk.near, talk.far):
        assert end.events == [
            t.ChannelEnded(channel, Code.INTERNAL, "a bug"),
            t.TunnelEnded(Code.INTERNAL, "a bug"),
        ]
    assert talk.far.says() == []


# -- audit files ----------------------------------------------------------


def test_a_checkpoint_reaches_the_far_side_and_changes_nothing_else() -> None:
    talk = Talk()
    checkpoint = Checkpoint("a" * 32, 7, "b" * 64)
    talk.near.mux.say_checkpoint(checkpoint, talk.near.now)
    talk.settle()
    came = t.CheckpointCame(checkpoint)
    assert talk.far.events == [came]
    assert talk.far.mux.decline(came) == t.NO_EVENTS
    talk.open()


# -- keepalive ------------------------------------------------------------


def test_idle_ends_keep_each_other_alive() -> None:
    talk = Talk(MuxConfig(keepalive=10), MuxConfig(keepalive=4))
    start = talk.near.now
    for end in (talk.near, talk.far):
        assert end.mux.next_deadline() == start + end.mux.config.keepalive
    talk.wait(1000)
    assert talk.near.events == talk.far.events == []
    talk.open()


def test_whoever_hears_nothing_for_three_times_the_announced_time_gives_up() -> None:
    end = End(True, MuxConfig(keepalive=1000))
    end.hears(lstp.PropertyExchange(keepalive=7))
    end.says()
    assert end.mux.next_deadline() == end.now + 21
    start, end.now = end.now, end.now + 5
    end.hears(lstp.PropertyExchange(keepalive=20))
    assert end.mux.next_deadline() == start + 65
    assert end.mux.deadline_passed(start + 64.9) == ()
    end.note(end.mux.deadline_passed(start + 65))
    assert end.all_of(t.TunnelEnded)[0].code is Code.TIMED_OUT
    ((number, message),) = end.says()
    assert isinstance(message, lstp.Error)
    assert (number, message.code, message.fatal) == (0, Code.TIMED_OUT, True)


def test_after_a_long_sleep_of_its_own_an_end_waits_for_a_word_before_it_gives_up() -> None:
    end = End(True, MuxConfig(keepalive=10))
    end.hears(lstp.PropertyExchange(keepalive=10))
    end.says()
    end.now += 3600
    end.note(end.mux.deadline_passed(end.now))
    assert end.events == [t.TunnelUp()]
    assert end.says() == [(0, lstp.PropertyExchange())]
    end.hears(lstp.PropertyExchange())
    assert end.events == [t.TunnelUp()]
    end.now += 3600
    end.note(end.mux.deadline_passed(end.now))
    end.note(end.mux.deadline_passed(end.now + 15))
    assert end.all_of(t.TunnelEnded)[0].code is Code.TIMED_OUT


def test_a_peer_that_announces_a_tiny_keepalive_is_not_taken_at_its_word() -> None:
    end = End(True)
    end.hears(lstp.PropertyExchange(keepalive=1e-9))
    end.says()
    assert end.mux.next_deadline() == end.now + 3
    end.note(end.mux.deadline_passed(end.now + 2.9))
    assert end.all_of(t.TunnelEnded) == []
    end.note(end.mux.deadline_passed(end.now + 3))
    assert end.all_of(t.TunnelEnded)[0].code is Code.TIMED_OUT


def test_a_connection_that_takes_nothing_does_not_make_keepalives_pile_up() -> None:
    end = End(True)
    end.hears(lstp.PropertyExchange(keepalive=86400))
    end.says()
    turns = 0
    start = end.now
    while (due := end.mux.next_deadline()) is not None and due < start + 1000:
        assert due > end.now
        end.now = due
        end.note(end.mux.deadline_passed(due))
        turns += 1
    assert turns < 110
    assert end.says() == [(0, lstp.PropertyExchange())]


def test_a_peer_that_asks_and_does_not_read_the_answers_is_dropped() -> None:
    end = End(False, MuxConfig(max_channels=0))
    end.hears(lstp.PropertyExchange())
    request = lstp.encode(lstp.ConnectionRequest(destination="a"), 1)
    for _ in range(20):
        end.note(end.mux.receive(memoryview(request * 4000), end.now))
    assert end.all_of(t.TunnelEnded)[0].code is Code.LIMIT
    assert len(end.says()) == 1


# -- further connections --------------------------------------------------


def test_a_further_connection_is_asked_for_and_accepted() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    number = near.mux.further.request(COMMON, near.now)
    talk.carry(near)
    assert far.events == [ConnectionRequested(number, COMMON)]
    far.mux.further.accept(number)
    talk.settle()
    assert near.events == [t.ChannelOpened(number)]
    nothing_left(talk)


def test_a_further_connection_is_refused() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    number = near.mux.further.request(COMMON, near.now)
    talk.carry(near)
    far.mux.further.refuse(number, Code.LIMIT, "enough")
    talk.settle()
    assert near.events == [t.ChannelEnded(number, Code.LIMIT, "enough", refused=True)]


def test_a_further_connection_takes_its_limits_from_the_first() -> None:
    first = End(True)
    first.hears(lstp.PropertyExchange(window=1000, max_channels=1))
    further = End(False, parent=first.mux)
    assert further.says() == [(0, lstp.PropertyExchange())]
    with pytest.raises(t.LimitReached):
        further.mux.open("tcp:a:1", further.now)
    further.hears(lstp.PropertyExchange(window=9000))
    channel = further.mux.open("tcp:a:1", further.now)
    assert (channel, further.mux.sendable(channel)) == (2, 1000)
    with pytest.raises(t.LimitReached):
        further.mux.open("tcp:a:1", further.now)


def test_the_protocol_makes_its_muxes() -> None:
    protocol = LstpProtocol(MuxConfig(window=77), Budget(limit=88))
    mux = protocol.make_mux(True, lstp.ALPN, 0.0)
    assert isinstance(mux, LstpMux)
    assert mux.budget.limit == 88
    ((_, message),) = messages(mux.data_to_send())
    assert isinstance(message, lstp.PropertyExchange)
    assert message.window == 77


def test_a_further_connection_has_none_of_its_own() -> None:
    """Finding D-10: nobody there knows what to do about one."""
    first = End(True)
    first.hears(lstp.PropertyExchange())
    further = End(False, parent=first.mux)
    further.hears(lstp.PropertyExchange())
    further.says()
    further.events.clear()
    further.hears(lstp.ConnectionRequest("connection", join=COMMON), 1)
    ((number, answer),) = further.says()
    assert isinstance(answer, lstp.ConnectionNack)
    assert (number, answer.code) == (1, Code.NOT_ALLOWED)
    assert further.events == []
    further.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    assert [type(message) for _, message in further.says()] == [lstp.ConnectionAck]
