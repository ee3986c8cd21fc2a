"""Flow control: credit, its reports, the memory it bounds, and stalled channels (rows L5, X8)."""

from __future__ import annotations

import pytest

from tests.core.lstp.ends import End, Talk
from tunnelkit.core.lstp.mux import MuxConfig
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import MAX_WINDOW, Budget, Inbound, Outbound
from tunnelkit.core.mux.flow_control import (
    BULK_REPORT,
    BULK_REPORT_DELAY,
    FREE_PASS,
    NEVER,
    REPORT_DELAY,
    ChannelFlowControl,
    FlowControl,
)
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import Message

WINDOW = 100_000


def receiver(window: int = WINDOW, budget: Budget | None = None) -> End:
    """An end with the open channel 1, whose application takes nothing by itself."""
    end = End(False, MuxConfig(window=window), budget=budget)
    end.hears(lstp.PropertyExchange())
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    end.hears(lstp.ServiceBeginRequest(), 1)
    end.note(end.mux.opened(1, ""))
    end.says()
    end.events.clear()
    end.eager = False
    return end


def sender(window: int = WINDOW) -> End:
    """An end with the open channel 1, whose peer grants ``window`` bytes."""
    end = End(True)
    end.hears(lstp.PropertyExchange(window=window))
    assert end.mux.open("tcp:a:1", end.now) == 1
    end.hears(lstp.ConnectionAck(), 1)
    end.hears(lstp.ServiceBeginAck(), 1)
    end.says()
    end.events.clear()
    return end


def resume(taken: int, limit: int) -> list[tuple[int, Message]]:
    return [(1, lstp.ServiceDataResume(taken, limit))]


# -- receiving ------------------------------------------------------------


def test_everything_up_to_the_credit_is_accepted_and_not_a_byte_more() -> None:
    end = receiver()
    end.hears(lstp.ServiceData(bytes(WINDOW - 1)), 1)
    end.hears(lstp.ServiceData(bytes(1)), 1)
    end.hears(lstp.ServiceData(b""), 1)
    assert end.events == []
    assert end.budget.queued == WINDOW
    end.hears(lstp.ServiceData(bytes(1)), 1)
    assert [event.code for event in end.all_of(t.ChannelEnded)] == [Code.PROTOCOL]
    assert end.all_of(t.TunnelEnded) == []
    assert [type(message) for _, message in end.says()] == [lstp.Error]
    assert end.budget.queued == 0


def test_data_over_the_credit_is_refused_by_its_header() -> None:
    end = receiver(1000)
    header = lstp.encode(lstp.ServiceData(bytes(1001)), 1)[: lstp.HEADER_SIZE]
    end.note(end.mux.receive(memoryview(header), end.now))
    assert [event.code for event in end.all_of(t.ChannelEnded)] == [Code.PROTOCOL]
    end.note(end.mux.receive(memoryview(bytes(1001)), end.now))
    assert end.got == {}
    assert end.budget.queued == 0


def test_the_last_data_needs_no_credit() -> None:
    end = receiver(0)
    end.hears(lstp.ServiceData(b"", last=True), 1)
    assert end.events == [t.Finished(1)]


def test_compressed_data_that_nobody_agreed_on_ends_the_channel() -> None:
    end = receiver()
    end.hears(lstp.ServiceData(b"x", compressed=True), 1)
    assert [event.code for event in end.all_of(t.ChannelEnded)] == [Code.PROTOCOL]


def test_a_quarter_of_the_window_is_reported_at_once() -> None:
    end = receiver()
    end.hears(lstp.ServiceData(bytes(WINDOW // 2)), 1)
    end.note(end.mux.consumed(1, WINDOW // 4 - 1, end.now))
    assert end.says() == []
    end.note(end.mux.consumed(1, 1, end.now))
    assert end.says() == resume(WINDOW // 4, WINDOW // 4 + WINDOW)
    assert end.says() == []


@pytest.mark.parametrize(
    ("size", "delay"),
    [(1, REPORT_DELAY), (BULK_REPORT - 1, REPORT_DELAY), (BULK_REPORT, BULK_REPORT_DELAY)],
)
def test_less_is_reported_a_little_later(size: int, delay: float) -> None:
    end = receiver()
    assert REPORT_DELAY <= 0.020
    end.hears(lstp.ServiceData(bytes(size)), 1)
    end.note(end.mux.consumed(1, size, end.now))
    due = end.mux.next_deadline()
    assert due == end.now + delay
    assert end.mux.deadline_passed(due - 0.001) == ()
    assert end.says() == []
    end.note(end.mux.deadline_passed(due))
    assert end.says() == resume(size, size + WINDOW)
    assert end.mux.next_deadline() == end.now + 10 + delay


def test_the_earlier_of_two_dues_counts_and_the_report_is_made_once() -> None:
    end = receiver()
    end.hears(lstp.ServiceData(bytes(BULK_REPORT)), 1)
    start = end.now
    end.note(end.mux.consumed(1, 1, start))
    end.note(end.mux.consumed(1, 1, start + 0.01))
    assert end.mux.next_deadline() == start + REPORT_DELAY
    end.note(end.mux.consumed(1, BULK_REPORT - 2, start + 0.01))
    due = end.mux.next_deadline()
    assert due == start + 0.01 + BULK_REPORT_DELAY
    end.note(end.mux.deadline_passed(start + 1))
    assert end.says() == resume(BULK_REPORT, BULK_REPORT + WINDOW)
    end.note(end.mux.deadline_passed(start + 2))
    assert end.says() == []


def test_a_report_that_is_due_is_not_put_off_by_more_data() -> None:
    end = receiver(1_000_000)
    end.hears(lstp.ServiceData(bytes(100_000)), 1)
    start = end.now
    for step in range(3):
        end.note(end.mux.consumed(1, BULK_REPORT, start + step * 0.001))
    assert end.mux.next_deadline() == start + BULK_REPORT_DELAY


def test_the_rest_of_a_burst_is_reported_as_fast_as_the_burst() -> None:
    end = receiver()
    end.hears(lstp.ServiceData(bytes(BULK_REPORT + 1)), 1)
    start = end.now
    end.note(end.mux.consumed(1, BULK_REPORT, start))
    end.note(end.mux.deadline_passed(start + BULK_REPORT_DELAY))
    end.says()
    late = start + 0.01
    end.note(end.mux.consumed(1, 1, late))
    assert end.mux.next_deadline() == late + BULK_REPORT_DELAY


def test_many_busy_channels_have_smaller_bursts_and_share_the_free_pass() -> None:
    flow = FlowControl(Budget())
    channels = [ChannelFlowControl(WINDOW, MAX_WINDOW, flow.budget) for _ in range(40)]
    flow.sent(channels[0], flow.path.room, 50.0)
    assert flow.sendable(channels[1]) == FREE_PASS
    for channel in channels[1:]:
        flow.sent(channel, 100, 50.0)
    assert 500 < flow.sendable(channels[1]) < 1000
    for channel in channels[:30]:
        channel.inbound.arrived(1000)
        flow.consumed(channel, 100, 60.0)
    assert flow.next_deadline(60.0) == 60.0 + REPORT_DELAY
    flow.consumed(channels[0], 500, 60.0)
    assert flow.next_deadline(60.0) == 60.0 + BULK_REPORT_DELAY


def test_a_report_that_was_made_early_is_not_made_again() -> None:
    end = receiver()
    end.hears(lstp.ServiceData(bytes(WINDOW)), 1)
    end.note(end.mux.consumed(1, 1, end.now))
    end.note(end.mux.consumed(1, WINDOW // 4, end.now))
    assert len(end.says()) == 1
    end.note(end.mux.deadline_passed(end.now + 1))
    assert end.says() == []


def test_reports_of_a_connection_that_takes_nothing_do_not_pile_up() -> None:
    end = receiver(1_000_000)
    for _ in range(10):
        end.hears(lstp.ServiceData(bytes(100_000)), 1)
    for _ in range(30):
        end.note(end.mux.consumed(1, 30_000, end.now))
        end.now += 0.1
        end.note(end.mux.deadline_passed(end.now))
    assert end.says() == resume(900_000, 1_900_000)


def test_nothing_is_granted_after_the_last_data() -> None:
    end = receiver()
    end.hears(lstp.ServiceData(bytes(WINDOW), last=True), 1)
    end.note(end.mux.consumed(1, WINDOW // 2, end.now))
    end.note(end.mux.deadline_passed(end.now + 1))
    assert end.says() == []


def test_the_window_grows_while_the_application_keeps_up() -> None:
    inbound = Inbound(WINDOW, Budget())
    windows = []
    for _ in range(10):
        inbound.arrived(inbound.limit - inbound.received)
        inbound.consumed(inbound.queued)
        taken, limit = inbound.report()
        windows.append(limit - taken)
    assert windows == [*(WINDOW * 2**step for step in range(1, 8)), *[MAX_WINDOW] * 3]


def test_the_window_stays_while_something_is_left_over() -> None:
    budget = Budget()
    inbound = Inbound(1000, budget)
    inbound.arrived(1000)
    inbound.consumed(500)
    assert inbound.report() == (500, 1500)
    inbound.arrived(500)
    inbound.consumed(999)
    assert inbound.report() == (1499, 2499)
    inbound.consumed(1)
    assert inbound.report() == (1500, 3500)


def test_the_window_shrinks_under_memory_pressure_but_not_below_what_was_announced() -> None:
    budget = Budget(limit=1_000_000)
    inbound = Inbound(1000, budget)
    for window in (2000, 4000):
        inbound.arrived(inbound.window)
        inbound.consumed(inbound.window)
        taken, limit = inbound.report()
        assert limit - taken == window
    budget.queued = 500_000
    last = inbound.limit
    for window in (2000, 1000, 1000):
        inbound.arrived(10)
        inbound.consumed(9)
        _, limit = inbound.report()
        assert inbound.window == window
        # What was granted stays granted.
        assert limit == last
    inbound.consumed(inbound.queued)
    budget.queued = 0
    inbound.arrived(inbound.limit - inbound.received)
    inbound.consumed(inbound.queued)
    taken, limit = inbound.report()
    assert limit - taken == 2000


def test_whose_application_takes_everything_keeps_its_window_under_memory_pressure() -> None:
    budget = Budget(limit=1_000_000)
    inbound = Inbound(1000, budget)
    inbound.arrived(1000)
    inbound.consumed(1000)
    assert inbound.report() == (1000, 3000)
    budget.queued = 500_000
    for taken in range(3000, 9000, 2000):
        inbound.arrived(2000)
        inbound.consumed(2000)
        assert inbound.report() == (taken, taken + 2000)


def test_the_budget_has_its_thresholds() -> None:
    budget = Budget(limit=1000)
    seen = []
    for queued in (749, 750, 1000, 1001):
        budget.queued = queued
        seen.append((budget.accepts_channels, budget.exceeded))
    assert seen == [(True, False), (False, False), (False, False), (False, True)]


ENDINGS: list[Message] = [
    lstp.ServiceFreeRequest(Code.RESET),
    lstp.Error(Code.INTERNAL),
    lstp.ServiceBeginAck(),
    lstp.ServiceData(bytes(WINDOW + 1)),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_an_ended_channel_held_goes_back_to_the_budget(ending: Message) -> None:
    budget = Budget()
    end = receiver(budget=budget)
    end.hears(lstp.ServiceData(bytes(1000)), 1)
    end.note(end.mux.consumed(1, 300, end.now))
    assert budget.queued == 700
    end.hears(ending, 1)
    assert budget.queued == 0
    end.note(end.mux.consumed(1, 700, end.now))
    assert budget.queued == 0


def test_what_is_taken_after_an_abort_is_not_counted_again() -> None:
    end = receiver()
    end.hears(lstp.ServiceData(bytes(WINDOW)), 1)
    end.note(end.mux.abort(1, Code.RESET, "", end.now))
    assert [type(message) for _, message in end.says()] == [lstp.ServiceFreeRequest]
    assert end.mux.consumed(1, WINDOW, end.now) == ()
    assert end.budget.queued == 0
    assert end.says() == []


def test_data_that_came_before_a_refusal_goes_back_to_the_budget() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    far.eager = False
    channel = near.mux.open("tcp:a:1", near.now)
    near.mux.send(channel, bytes(5000), near.now)
    talk.carry(near)
    assert far.budget.queued == 5000
    far.note(far.mux.refuse(channel, Code.REFUSED, ""))
    assert far.budget.queued == 0


# -- sending --------------------------------------------------------------


def spend(end: End, channel: int = 1) -> int:
    """Send all that may be sent; how many bytes."""
    sent = 0
    while size := min(end.mux.sendable(channel), 16_384):
        end.mux.send(channel, bytes(size), end.now)
        sent += size
    end.says()
    return sent


def test_a_sender_stops_at_its_limit_and_goes_on_when_there_is_more() -> None:
    end = sender(50_000)
    assert spend(end) == 50_000
    assert not end.mux.waits_for_path(1)
    end.hears(lstp.ServiceDataResume(20_000, 50_000), 1)
    assert end.events == []
    end.hears(lstp.ServiceDataResume(30_000, 60_000), 1)
    assert end.events == [t.Writable(1)]
    assert spend(end) == 10_000
    end.hears(lstp.ServiceDataResume(60_000, 61_000), 1)
    end.hears(lstp.ServiceDataResume(60_000, 62_000), 1)
    assert end.events == [t.Writable(1)] * 2


@pytest.mark.parametrize(
    ("taken", "limit"),
    [
        (5001, 100_000),
        (1999, 100_000),
        (2000, 99_999),
        (2000, 2000 + MAX_WINDOW + 1),
        (2000, 1999),
        (2**64 - 1, 2**64 - 1),
        (0, 0),
    ],
)
def test_offsets_that_cannot_be_end_the_channel(taken: int, limit: int) -> None:
    end = sender()
    end.mux.send(1, bytes(5000), end.now)
    end.hears(lstp.ServiceDataResume(2000, WINDOW), 1)
    end.says()
    end.hears(lstp.ServiceDataResume(taken, limit), 1)
    assert [event.code for event in end.all_of(t.ChannelEnded)] == [Code.PROTOCOL]
    assert [type(message) for _, message in end.says()] == [lstp.Error]
    assert end.all_of(t.TunnelEnded) == []
    assert end.mux.path.in_flight == 0


@pytest.mark.parametrize(
    ("taken", "limit"), [(5000, WINDOW), (2000, 2000 + MAX_WINDOW), (2000, WINDOW)]
)
def test_offsets_at_their_bounds_are_fine(taken: int, limit: int) -> None:
    end = sender()
    end.mux.send(1, bytes(5000), end.now)
    end.hears(lstp.ServiceDataResume(2000, WINDOW), 1)
    end.hears(lstp.ServiceDataResume(taken, limit), 1)
    assert end.events == []
    assert end.mux.path.in_flight == 5000 - taken


def test_no_window_over_the_largest_is_believed() -> None:
    outbound = Outbound(1000)
    with pytest.raises(RemoteProtocolError):
        outbound.granted(0, MAX_WINDOW + 1)
    assert outbound.granted(0, MAX_WINDOW) == 0
    assert outbound.credit == MAX_WINDOW


def test_a_pause_stops_data_but_neither_its_end_nor_the_channels() -> None:
    end = sender()
    end.hears(lstp.ServiceDataPause(), 1)
    assert end.mux.sendable(1) == 0
    assert not end.mux.waits_for_path(1)
    end.note(end.mux.finish(1, end.now))
    assert end.says() == [(1, lstp.ServiceData(b"", last=True))]
    end.hears(lstp.ServiceDataResume(0, WINDOW), 1)
    assert end.events == []
    end.hears(lstp.ServiceData(b"", last=True), 1)
    assert end.says() == [(1, lstp.ServiceFreeRequest())]


def test_a_resume_ends_a_pause() -> None:
    end = sender()
    for _ in range(2):
        end.hears(lstp.ServiceDataPause(), 1)
    end.hears(lstp.ServiceDataResume(0, WINDOW), 1)
    assert end.events == [t.Writable(1)]
    assert end.mux.sendable(1) > 0


def test_a_pause_before_the_channel_is_connected_holds_the_answer_back() -> None:
    end = End(False)
    end.hears(lstp.PropertyExchange())
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    end.hears(lstp.ServiceBeginRequest(), 1)
    end.hears(lstp.ServiceDataPause(), 1)
    assert end.mux.opened(1, "") == ()
    assert end.mux.sendable(1) == 0
    end.hears(lstp.ServiceDataResume(0, 262_144), 1)
    assert end.events[-1] == t.Writable(1)


def test_early_credit_is_used_once_the_channel_is_connected() -> None:
    end = End(False)
    end.hears(lstp.PropertyExchange(window=0))
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    end.hears(lstp.ServiceBeginRequest(), 1)
    end.events.clear()
    end.hears(lstp.ServiceDataResume(0, 100), 1)
    assert end.events == []
    assert end.mux.opened(1, "") == [t.Writable(1)]
    assert end.mux.sendable(1) == 100


def test_nobody_is_told_to_write_after_its_end() -> None:
    end = sender(1000)
    assert spend(end) == 1000
    end.note(end.mux.finish(1, end.now))
    end.hears(lstp.ServiceDataResume(1000, 2000), 1)
    assert end.events == []
    assert end.mux.sendable(1) == 0
    assert not end.mux.waits_for_path(1)


# -- the path -------------------------------------------------------------


def two_senders() -> End:
    """An end with the open channels 1 and 3, and more credit than the path takes."""
    end = sender(MAX_WINDOW)
    assert end.mux.open("tcp:a:1", end.now) == 3
    end.hears(lstp.ConnectionAck(), 3)
    end.hears(lstp.ServiceBeginAck(), 3)
    end.events.clear()
    return end


def test_a_full_path_leaves_every_channel_its_free_pass() -> None:
    end = two_senders()
    target = end.mux.path.inflight_target
    assert spend(end, 1) == target
    assert end.mux.waits_for_path(1)
    assert spend(end, 3) == FREE_PASS
    assert end.mux.waits_for_path(3)
    # Whatever of it has been taken may be sent again.
    end.hears(lstp.ServiceDataResume(1000, MAX_WINDOW), 3)
    assert end.mux.sendable(3) == 1000


def test_a_stalled_channel_does_not_slow_the_others_and_counts_again_when_it_moves() -> None:
    end = two_senders()
    path = end.mux.path
    stuck = spend(end, 1)
    start, taken = end.now, 0
    # The other channel is busy all the time, and the timer is only looked at as it is set.
    while path.in_flight >= stuck:
        assert end.now < start + 1
        taken += spend(end, 3)
        end.now += 0.0025
        end.hears(lstp.ServiceDataResume(taken, MAX_WINDOW), 3)
        due = end.mux.next_deadline()
        if due is not None and due <= end.now:
            end.note(end.mux.deadline_passed(end.now))
    assert end.now > start + 0.25
    assert path.in_flight == 0
    assert spend(end, 3) > FREE_PASS
    before = path.in_flight
    end.hears(lstp.ServiceDataResume(1, MAX_WINDOW), 1)
    assert path.in_flight == before + stuck - 1
    end.hears(lstp.ServiceDataResume(stuck, MAX_WINDOW), 1)
    assert path.in_flight == before


def test_what_a_stalled_channel_sends_counts_once_it_moves() -> None:
    flow = FlowControl(Budget())
    channel = ChannelFlowControl(WINDOW, MAX_WINDOW, flow.budget)
    full = flow.path.inflight_target
    flow.sent(channel, full, 50.0)
    assert flow.next_deadline(50.0) == 50.25
    flow.deadline_passed([channel], 60.0)
    flow.sent(channel, 500, 60.0)
    assert flow.path.in_flight == 0
    channel.outbound.granted(200, MAX_WINDOW)
    flow.reported(channel, 200, 61.0)
    assert flow.path.in_flight == full + 300
    flow.ended(channel)
    assert flow.path.in_flight == 0


def test_a_stalled_channel_that_ends_is_not_taken_out_twice() -> None:
    end = two_senders()
    spend(end, 1)
    end.now += 1
    assert end.mux.next_deadline() is not None
    end.now += 1
    end.note(end.mux.deadline_passed(end.now))
    assert end.mux.path.in_flight == 0
    sent = end.mux.sendable(3)
    end.mux.send(3, bytes(1000), end.now)
    end.note(end.mux.abort(1, Code.RESET, "", end.now))
    assert sent > 0
    assert end.mux.path.in_flight == 1000
    end.note(end.mux.abort(3, Code.RESET, "", end.now))
    assert end.mux.path.in_flight == 0


def test_whoever_makes_progress_is_not_stalled() -> None:
    flow = FlowControl(Budget())
    moving, stuck, idle = (ChannelFlowControl(WINDOW, MAX_WINDOW, flow.budget) for _ in range(3))
    now = 50.0
    flow.sent(stuck, flow.path.inflight_target - 1000, now)
    flow.sent(moving, 2000, now)
    now += 1.0
    moving.outbound.granted(1000, MAX_WINDOW)
    flow.reported(moving, 1000, now)
    # What has come lets the target of a path that is not known yet grow by as much.
    flow.sent(moving, flow.path.room, now)
    assert flow.path.room == 0
    assert flow.next_deadline(now) == now + 0.25
    now += 0.25
    flow.path.round_trip_seen(0.1)
    flow.deadline_passed([moving, stuck, idle], now)
    assert [channel.stalled for channel in (moving, stuck, idle)] == [False, True, False]
    assert flow.path.in_flight == 2000


def test_a_stalled_channel_is_found_though_others_find_some_room_by_turns() -> None:
    flow = FlowControl(Budget())
    moving, stuck = (ChannelFlowControl(WINDOW, MAX_WINDOW, flow.budget) for _ in range(2))
    now, taken = 50.0, 0
    flow.sent(stuck, flow.path.room - 1000, now)
    while not stuck.stalled:
        assert now < 51.0
        flow.sent(moving, 1000, now)
        flow.next_deadline(now)
        now += 0.01
        taken += 1000
        moving.outbound.granted(taken, MAX_WINDOW)
        flow.reported(moving, 1000, now)
        flow.next_deadline(now)
        flow.deadline_passed([moving, stuck], now)
    assert not moving.stalled
    assert flow.path.in_flight == 0


def test_a_path_with_room_needs_no_looking_for_stalled_channels() -> None:
    flow = FlowControl(Budget())
    channel = ChannelFlowControl(WINDOW, MAX_WINDOW, flow.budget)
    flow.sent(channel, 1000, 50.0)
    assert flow.next_deadline(50.0) is None
    flow.deadline_passed([channel], 1000.0)
    assert not channel.stalled


def test_when_the_next_report_is_due_is_known_without_asking() -> None:
    flow = FlowControl(Budget())
    one, other = (ChannelFlowControl(WINDOW, MAX_WINDOW, flow.budget) for _ in range(2))
    now = 50.0
    assert flow.soonest == 0.0
    assert flow.next_deadline(now) is None
    assert flow.soonest == NEVER
    one.inbound.arrived(10)
    assert not flow.consumed(one, 10, now)
    assert flow.soonest == now + REPORT_DELAY
    assert flow.next_deadline(now) == flow.soonest
    # Bulk is reported sooner than a few bytes.
    other.inbound.arrived(BULK_REPORT)
    assert not flow.consumed(other, BULK_REPORT, now)
    assert flow.soonest == now + BULK_REPORT_DELAY
    assert list(flow.due_reports(now + BULK_REPORT_DELAY)) == [other]
    assert flow.next_deadline(now) == flow.soonest == now + REPORT_DELAY
    # What is urgent is due now, until somebody has looked.
    other.inbound.arrived(WINDOW // 2)
    assert flow.consumed(other, WINDOW // 2, now)
    assert flow.soonest == 0.0
    assert list(flow.due_reports(now + REPORT_DELAY)) == [one]
    assert flow.next_deadline(now) is None
    assert flow.soonest == NEVER
