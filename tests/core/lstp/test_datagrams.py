"""UDP and far listeners on LSTP channels, as a dialogue of two muxes or with a test as the peer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.lstp.ends import End, Talk
from tunnelkit.core.lstp.datagrams import MAX_WAITING
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux import contract as t
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.wire import lstp

NOBODY = ("", 0)
NS = ("192.0.2.53", 53)
SIX = ("2001:db8::1", 5353)
NAMED = ("ns.corp.example", 53)


def opened(destination: str, talk: Talk | None = None) -> tuple[Talk, int]:
    """A talk with one channel to ``destination`` that is open on both sides."""
    talk = talk or Talk()
    return talk, talk.open(destination)


def datagrams(end: End) -> list[tuple[int, tuple[str, int], tuple[str, int], bytes]]:
    """What has come at ``end``."""
    return [
        (event.flow, event.source, event.destination, bytes(event.data))
        for event in end.all_of(t.Datagram)
    ]


def send(end: End, channel: int, remote: tuple[str, int], data: bytes) -> bool:
    """One datagram to, or at the far end from, ``remote``."""
    if end.mux.live.by_id[channel].opener:
        return end.mux.send_datagram(channel, ("127.0.0.1", 999), remote, data, end.now)
    return end.mux.send_datagram(channel, remote, ("127.0.0.1", 999), data, end.now)


def test_a_channel_to_one_address_carries_each_datagram_whole_both_ways() -> None:
    talk, channel = opened("udp:192.0.2.53:53")
    for data in (b"a", b"bb" * 30_000, b""):
        assert send(talk.near, channel, NS, data)
        assert send(talk.far, channel, NS, data)
    talk.settle()
    sent = [b"a", b"bb" * 30_000, b""]
    assert datagrams(talk.far) == [(channel, NOBODY, NS, data) for data in sent]
    assert datagrams(talk.near) == [(channel, NS, NOBODY, data) for data in sent]


@pytest.mark.parametrize("remote", [NS, SIX, NAMED])
def test_on_a_channel_to_anywhere_each_datagram_names_its_address(remote: tuple[str, int]) -> None:
    talk, channel = opened("udp:*")
    assert send(talk.near, channel, remote, b"question")
    talk.settle()
    assert datagrams(talk.far) == [(channel, NOBODY, remote, b"question")]
    assert send(talk.far, channel, remote, b"answer")
    talk.settle()
    assert datagrams(talk.near) == [(channel, remote, NOBODY, b"answer")]


def test_the_address_in_front_is_that_of_socks_5() -> None:
    end = End(True)
    end.hears(lstp.PropertyExchange())
    channel = end.mux.open_datagrams(end.now)
    end.says()
    end.mux.send_datagram(channel, NOBODY, NS, b"hello", end.now)
    expected = b"\x01\xc0\x00\x02\x35\x00\x35hello"
    assert end.says() == [(channel, lstp.ServiceData(expected))]
    end.mux.send_datagram(channel, NOBODY, NAMED, b"hello", end.now)
    expected = b"\x03\x0fns.corp.example\x00\x35hello"
    assert end.says() == [(channel, lstp.ServiceData(expected))]


def test_the_far_side_is_told_that_a_channel_carries_datagrams() -> None:
    talk = Talk()
    talk.near.mux.open_datagrams(talk.near.now)
    talk.near.mux.open_datagrams(talk.near.now, "udp:[2001:db8::1]:5353")
    talk.near.mux.open("tcp:a:1", talk.near.now)
    talk.settle()
    asked = [(event.destination, event.datagrams) for event in talk.far.all_of(t.ChannelRequested)]
    assert asked == [("udp:*", True), ("udp:[2001:db8::1]:5353", True), ("tcp:a:1", False)]


def test_datagrams_may_travel_with_the_request() -> None:
    talk = Talk()
    channel = talk.near.mux.open_datagrams(talk.near.now, "udp:[2001:db8::1]:5353")
    assert send(talk.near, channel, SIX, b"early")
    talk.carry(talk.near)
    assert datagrams(talk.far) == [(channel, NOBODY, SIX, b"early")]


@settings(max_examples=60)
@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=8),
    st.integers(1, 40),
    st.sampled_from(["udp:*", "udp:192.0.2.53:53"]),
)
def test_datagrams_come_whole_however_the_bytes_are_cut(
    sent: list[bytes], cut: int, destination: str
) -> None:
    talk, channel = opened(destination)
    for data in sent:
        assert send(talk.near, channel, NS, data)
    stream = talk.near.mux.data_to_send()
    got = []
    for start in range(0, len(stream), cut):
        piece = memoryview(stream[start : start + cut])
        # An event's data is valid only until the next call.
        for event in talk.far.mux.receive(piece, talk.far.now):
            assert isinstance(event, t.Datagram)
            got.append(bytes(event.data))
    assert got == sent


def test_without_credit_the_sender_drops_and_credit_comes_back() -> None:
    talk, channel = opened("udp:192.0.2.53:53", Talk(far=MuxConfig(window=10_000)))
    assert [send(talk.near, channel, NS, bytes(3000)) for _ in range(5)] == [
        *([True] * 3),
        *([False] * 2),
    ]
    talk.settle()
    assert len(datagrams(talk.far)) == 3
    talk.wait(0.1)
    assert [send(talk.near, channel, NS, bytes(3000)) for _ in range(3)] == [True] * 3
    talk.settle()
    talk.wait(0.1)
    assert len(datagrams(talk.far)) == 6
    assert talk.far.budget.queued == 0


def test_a_paused_channel_drops() -> None:
    talk, channel = opened("udp:192.0.2.53:53")
    talk.near.hears(lstp.ServiceDataPause(), channel)
    assert not send(talk.near, channel, NS, b"x")
    talk.near.hears(lstp.ServiceDataResume(0, 262_144), channel)
    assert send(talk.near, channel, NS, b"x")


def test_what_waits_for_the_connection_is_bounded() -> None:
    big = MuxConfig(window=16 * 1024 * 1024)
    talk, channel = opened("udp:192.0.2.53:53", Talk(big, big))
    other = talk.open("udp:192.0.2.53:53")
    for _ in range(1000):
        send(talk.near, channel, NS, bytes(1000))
        send(talk.near, other, NS, bytes(1000))
    assert len(talk.near.mux.data_to_send()) <= MAX_WAITING
    # That has gone out, so there is room again.
    talk.near.mux.path.in_flight = 0
    assert send(talk.near, channel, NS, bytes(1000))


def test_a_full_path_still_lets_one_large_datagram_be_under_way() -> None:
    talk, channel = opened("udp:192.0.2.53:53")
    stream = talk.open("tcp:a:1")
    while room := talk.near.mux.sendable(stream):
        talk.near.mux.send(stream, bytes(min(room, 16_384)), talk.near.now)
        if talk.near.mux.path.room <= 0:
            break
    talk.near.mux.data_to_send()
    assert talk.near.mux.path.room <= 0
    talk.near.mux.path.in_flight = 10 * talk.near.mux.path.inflight_target
    assert send(talk.near, channel, NS, bytes(60_000))
    assert not send(talk.near, channel, NS, bytes(60_000))


def test_an_empty_last_message_ends_a_flow_and_is_no_datagram() -> None:
    talk, channel = opened("udp:192.0.2.53:53")
    talk.near.note(talk.near.mux.finish(channel, talk.near.now))
    talk.settle()
    assert talk.far.events == [t.Finished(channel)]
    assert not send(talk.near, channel, NS, b"late")
    talk.far.note(talk.far.mux.finish(channel, talk.far.now))
    talk.settle()
    assert talk.near.events == [t.Finished(channel), t.ChannelEnded(channel)]
    assert list(talk.near.mux.channels()) == list(talk.far.mux.channels()) == []


@pytest.mark.parametrize(
    ("destination", "body"),
    [
        ("udp:*", b"\x01\x7f\x00"),
        ("udp:*", b""),
        ("udp:*", b"\x09\x7f\x00\x00\x01\x00\x35data"),
        ("udp:*", bytes(65_535 + 260)),
        ("udp:192.0.2.53:53", bytes(65_536)),
    ],
)
def test_a_body_that_is_no_datagram_ends_the_channel_only(destination: str, body: bytes) -> None:
    talk, channel = opened(destination)
    other = talk.open("tcp:a:1")
    talk.far.hears(lstp.ServiceData(body), channel)
    (ended,) = talk.far.events
    assert isinstance(ended, t.ChannelEnded)
    assert (ended.channel, ended.code) == (channel, Code.PROTOCOL)
    assert list(talk.far.mux.channels()) == [other]
    assert talk.far.budget.queued == 0


def test_more_datagrams_than_credit_end_the_channel() -> None:
    talk, channel = opened("udp:192.0.2.53:53", Talk(far=MuxConfig(window=100)))
    talk.far.hears(lstp.ServiceData(bytes(101)), channel)
    assert [event.code for event in talk.far.all_of(t.ChannelEnded)] == [Code.PROTOCOL]


def test_misuse_is_told_to_the_caller() -> None:
    talk, channel = opened("udp:*")
    stream = talk.open("tcp:a:1")
    for number, remote, size in (
        (stream, NS, 1),
        (77, NS, 1),
        (channel, NS, 65_536),
        (channel, ("naïve.example", 53), 1),
        (channel, ("fe80::1%eth0", 53), 1),
    ):
        with pytest.raises(LocalProtocolError):
            talk.near.mux.send_datagram(number, NOBODY, remote, bytes(size), talk.near.now)


# -- listening at the far side --------------------------------------------


def test_accepted_connections_come_back_and_outlive_the_listener() -> None:
    talk, listener = opened("listen:tcp:127.0.0.1:8000")
    near, far = talk.near, talk.far
    accepted = far.mux.open_accepted(listener, "tcp:192.0.2.7:4444", far.now)
    talk.carry(far)
    assert near.events == [
        t.ChannelRequested(accepted, "", listener=listener, origin="tcp:192.0.2.7:4444")
    ]
    near.note(near.mux.opened(accepted, ""))
    talk.settle()
    near.note(near.mux.abort(listener, Code.SHUTDOWN, "enough", near.now))
    talk.settle()
    assert [event.channel for event in far.all_of(t.ChannelEnded)] == [listener]
    far.mux.send(accepted, b"still here", far.now)
    talk.settle()
    assert near.got[accepted] == b"still here"


def test_only_a_live_listener_of_the_far_side_hands_connections_over() -> None:
    talk, listener = opened("listen:tcp:127.0.0.1:8000")
    stream = talk.open("tcp:a:1")
    for mux, channel in ((talk.far.mux, stream), (talk.far.mux, 99), (talk.near.mux, listener)):
        with pytest.raises(LocalProtocolError):
            mux.open_accepted(channel, "", talk.far.now)
    talk.near.note(talk.near.mux.abort(listener, Code.SHUTDOWN, "", talk.near.now))
    talk.settle()
    with pytest.raises(LocalProtocolError):
        talk.far.mux.open_accepted(listener, "", talk.far.now)


@pytest.mark.parametrize("case", ["no such channel", "a stream", "its own", "not answered", "gone"])
def test_connections_for_what_does_not_listen_are_refused(case: str) -> None:
    talk = Talk()
    near, far = talk.near, talk.far
    listener = 99
    if case == "a stream":
        listener = talk.open("tcp:a:1")
    elif case == "its own":
        listener = far.mux.open("listen:tcp:127.0.0.1:1", far.now)
        talk.settle()
        near.note(near.mux.opened(listener, ""))
        talk.settle()
    elif case == "not answered":
        listener = near.mux.open("listen:tcp:127.0.0.1:1", near.now)
    elif case == "gone":
        listener = talk.open("listen:tcp:127.0.0.1:1")
        near.note(near.mux.abort(listener, Code.SHUTDOWN, "", near.now))
        talk.settle()
    near.events.clear()
    near.says()
    near.hears(lstp.ConnectionRequest(listener=listener, origin="tcp:192.0.2.7:1"), 1000)
    ((number, answer),) = near.says()
    assert number == 1000
    assert isinstance(answer, lstp.ConnectionNack)
    assert answer.code is Code.NO_SUCH_SERVICE
    assert near.events == []


def test_accepted_connections_count_as_channels() -> None:
    talk, listener = opened("listen:tcp:127.0.0.1:8000", Talk(MuxConfig(max_channels=1)))
    talk.far.mux.open_accepted(listener, "", talk.far.now)
    with pytest.raises(t.LimitReached):
        talk.far.mux.open_accepted(listener, "", talk.far.now)


def test_the_mux_meets_the_contract() -> None:
    mux: t.TunnelMux = LstpMux(True, MuxConfig(), 0.0)
    assert mux.header_size == lstp.HEADER_SIZE
