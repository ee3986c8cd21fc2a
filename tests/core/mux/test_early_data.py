"""Data that comes before its channel is connected is little, counted and capped (rule X25)."""

from __future__ import annotations

import pytest

from tests.core.lstp.ends import End, Talk
from tests.core.usher.talk import FAR
from tests.core.usher.talk import Talk as UsherTalk
from tunnelkit.core.lstp.mux import MuxConfig
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.contract import EARLY_DATA
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.errors import Code
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.wire import lstp
from tunnelkit.wire.usher import AddressType, UsherOpen, UsherOpenReply, UsherSend, Version

MUXES = pytest.mark.parametrize("protocol", [LstpProtocol, UsherProtocol])


def made(protocol: LstpProtocol | UsherProtocol, master: bool) -> t.TunnelMux:
    """A mux of the best version."""
    return protocol.make_mux(master, protocol.alpn[0], 0.0)


def told(mux: t.TunnelMux, other: t.TunnelMux) -> list[t.Event]:
    """What happens at ``mux`` when it gets all that ``other`` has to say."""
    return list(mux.receive(memoryview(other.data_to_send()), 0.0))


@MUXES
def test_an_opener_sends_16_kib_and_the_rest_after_the_answer(
    protocol: type[LstpProtocol] | type[UsherProtocol],
) -> None:
    near, far = made(protocol(), True), made(protocol(), False)
    told(far, near)
    told(near, far)
    channel = near.open("tcp:a:1", 0.0)
    assert near.sendable(channel) == EARLY_DATA == 16_384
    near.send(channel, bytes(10_000), 0.0)
    near.send(channel, bytes(6_384), 0.0)
    assert near.sendable(channel) == 0
    assert not near.waits_for_path(channel), "nothing but the answer helps"
    (asked,) = [event for event in told(far, near) if isinstance(event, t.ChannelRequested)]
    far.opened(asked.channel, "")
    events = told(near, far)
    assert [type(event) for event in events] == [t.ChannelOpened, t.Writable]
    assert near.sendable(channel) > EARLY_DATA


@pytest.mark.parametrize(
    "protocol",
    [LstpProtocol(MuxConfig(window=1000)), UsherProtocol(config=UsherConfig(window=1000))],
)
def test_a_small_window_is_smaller_still(protocol: LstpProtocol | UsherProtocol) -> None:
    near, far = made(protocol, True), made(protocol, False)
    told(near, far)
    channel = near.open("tcp:a:1", 0.0)
    assert near.sendable(channel) == 1000
    near.send(channel, bytes(1000), 0.0)
    assert not near.waits_for_path(channel)


@pytest.mark.parametrize("window", [262_144, 1000])
def test_more_than_that_is_limit_on_that_channel_in_lstp(window: int) -> None:
    end = End(False, MuxConfig(window=window))
    end.eager = False
    end.hears(lstp.PropertyExchange())
    most = min(window, EARLY_DATA)
    for number in (1, 3):
        end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), number)
        end.hears(lstp.ServiceBeginRequest(), number)
        end.hears(lstp.ServiceData(bytes(most)), number)
    end.says()
    assert end.budget.queued == 2 * most
    end.hears(lstp.ServiceData(b"x"), 1)
    ((number, answer),) = end.says()
    assert isinstance(answer, lstp.Error)
    assert (number, answer.code, answer.fatal) == (1, Code.LIMIT, False)
    assert [(e.channel, e.code) for e in end.all_of(t.ChannelEnded)] == [(1, Code.LIMIT)]
    assert end.mux.channels() == [3]
    assert end.budget.queued == most


def test_the_credit_is_whole_once_the_channel_is_connected_in_lstp() -> None:
    end = End(False)
    end.eager = False
    end.hears(lstp.PropertyExchange())
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    end.hears(lstp.ServiceBeginRequest(), 1)
    end.hears(lstp.ServiceData(bytes(EARLY_DATA)), 1)
    end.note(end.mux.opened(1, ""))
    end.says()
    end.hears(lstp.ServiceData(bytes(262_144 - EARLY_DATA)), 1)
    assert end.says() == []
    assert end.budget.queued == 262_144


def test_a_grant_before_the_answer_does_not_let_more_out() -> None:
    end = End(True)
    end.hears(lstp.PropertyExchange())
    channel = end.mux.open("tcp:a:1", end.now)
    end.hears(lstp.ConnectionAck(), channel)
    end.mux.send(channel, bytes(EARLY_DATA), end.now)
    end.events.clear()
    end.hears(lstp.ServiceDataResume(EARLY_DATA, 1_000_000), channel)
    assert end.events == []
    assert end.mux.sendable(channel) == 0
    end.hears(lstp.ServiceBeginAck(), channel)
    assert end.events == [t.ChannelOpened(channel), t.Writable(channel)]


@pytest.mark.parametrize("compressed", [False, True])
def test_plain_bytes_count(compressed: bool) -> None:
    config = MuxConfig(compression=("zlib", "none"))
    talk = Talk(config, config if compressed else None)
    channel = talk.near.mux.open("tcp:a:1", talk.near.now)
    talk.near.mux.send(channel, bytes(EARLY_DATA), talk.near.now)
    assert (len(talk.carry(talk.near)) < 1000) == compressed
    assert talk.far.all_of(t.ChannelEnded) == []
    # One byte more, compressed or not, by a peer that does not care.
    ch = talk.near.mux.live.by_id[channel]
    frame = bytearray(lstp.HEADER_SIZE) + bytes(100)
    written = talk.near.mux.frame_into(frame, 0, channel, 100, talk.near.now)
    assert (written < 100) == compressed
    assert ch.outbound.sent == EARLY_DATA + 100
    data = memoryview(frame)[: lstp.HEADER_SIZE + written]
    talk.far.note(talk.far.mux.receive(data, talk.far.now))
    assert [event.code for event in talk.far.all_of(t.ChannelEnded)] == [Code.LIMIT]


def test_datagrams_wait_in_the_budget_until_the_channel_is_connected() -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    channel = near.mux.open_datagrams(near.now, "udp:192.0.2.53:53")
    source, to = ("", 0), ("192.0.2.53", 53)
    sent = [near.mux.send_datagram(channel, source, to, bytes(4000), near.now) for _ in range(5)]
    assert sent == [True] * 4 + [False]
    talk.settle()
    assert far.budget.queued == 16_000
    far.note(far.mux.opened(channel, ""))
    assert far.budget.queued == 0
    talk.wait(0.1)
    assert near.mux.path.in_flight == 0
    assert near.mux.send_datagram(channel, source, to, bytes(20_000), near.now)


@pytest.mark.parametrize("window", [262_144, 1000])
def test_more_than_that_is_refused_with_limit_in_usher_1_1(window: int) -> None:
    talk = UsherTalk(Version.V1_1, UsherConfig(window=window))
    most = min(window, EARLY_DATA)
    talk.hears((UsherOpen(AddressType.NAME, "web", 80), FAR))
    talk.hears((UsherSend(bytes(most)), -FAR))
    assert talk.said() == []
    (event,) = talk.hears((UsherSend(b"x"), -FAR))
    assert isinstance(event, t.ChannelEnded)
    assert (event.code, event.refused) == (Code.LIMIT, True)
    ((answer, to),) = talk.said()
    assert isinstance(answer, UsherOpenReply)
    assert answer.rc == -1
    assert (answer.text or "").startswith("limit: more than")
    assert to == FAR


def test_three_tunnels_full_of_unanswered_channels_leave_room_for_others() -> None:
    """Finding D-3: 3 x 1,024 requests for a destination that does not answer, all data allowed."""
    budget = Budget()
    for _ in range(3):
        hoarder = asked_end(budget)
        for number in range(1, 2049, 2):
            ask(hoarder, number)
            hoarder.hears(lstp.ServiceData(bytes(EARLY_DATA)), number)
        assert len(list(hoarder.mux.channels())) == 1024
    assert budget.queued == 3 * 1024 * EARLY_DATA == 48 * 1024 * 1024
    assert not budget.exceeded
    other = asked_end(budget)
    ask(other, 1)
    other.note(other.mux.opened(1, ""))
    other.hears(lstp.ServiceData(bytes(200_000)), 1)
    assert other.all_of(t.ChannelEnded) == []


def asked_end(budget: Budget) -> End:
    """An end that is up and whose applications take nothing."""
    end = End(False, budget=budget)
    end.eager = False
    end.hears(lstp.PropertyExchange())
    return end


def ask(end: End, number: int) -> None:
    """The peer asks for a channel."""
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), number)
    end.hears(lstp.ServiceBeginRequest(), number)
