"""Compression of channels: what is agreed on, what is sent, what is refused (L7, X12)."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.lstp.ends import End, Talk
from tunnelkit.core.lstp.compression import AVAILABLE, MAX_PLAIN, NONE, Packer, Unpacker, agreed
from tunnelkit.core.lstp.mux import MuxConfig
from tunnelkit.core.mux import contract as t
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire import lstp

METHODS = [method for method in AVAILABLE if method != NONE]
ZLIB = MuxConfig(compression=("zlib", "none"))
TEXT = b"".join(b"line %d of a text that says much the same\n" % n for n in range(8000))
MIB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def compressed(data: bytes) -> bytes:
    context = zlib.compressobj()
    return context.compress(data) + context.flush(zlib.Z_SYNC_FLUSH)


def sent(end: End) -> list[lstp.ServiceData]:
    return [message for _, message in end.says() if isinstance(message, lstp.ServiceData)]


# -- what is agreed on ----------------------------------------------------


@pytest.mark.parametrize(
    ("master", "other", "method"),
    [
        (["zstd", "zlib", "none"], ["zlib", "zstd"], "zstd"),
        (["zlib", "zstd"], ["zstd", "zlib"], "zlib"),
        (["brotli", "zlib"], ["zlib", "none"], "zlib"),
        (["none", "zlib"], ["zlib", "none"], "none"),
        (["zlib"], ["none"], "none"),
    ],
)
def test_the_masters_preference_counts(master: list[str], other: list[str], method: str) -> None:
    assert agreed(master, other) == method


@pytest.mark.parametrize("master", [True, False])
@pytest.mark.parametrize(
    ("peers", "compresses"),
    [(("zlib",), True), (("brotli", "zlib"), True), (("brotli",), False), (None, False)],
)
def test_data_is_compressed_as_agreed_in_the_first_properties(
    master: bool, peers: tuple[str, ...] | None, compresses: bool
) -> None:
    end = End(master, ZLIB)
    end.hears(lstp.PropertyExchange(compression=peers))
    end.hears(lstp.PropertyExchange(compression=("none",) if compresses else ("zlib",)))
    channel = end.mux.open("tcp:a:1", end.now)
    end.says()
    end.mux.send(channel, TEXT[:5000], end.now)
    assert [message.compressed for message in sent(end)] == [compresses]


@pytest.mark.parametrize("master", [True, False])
def test_the_order_of_the_master_decides(master: bool) -> None:
    end = End(master, ZLIB)
    end.hears(lstp.PropertyExchange(compression=("none", "zlib")))
    channel = end.mux.open("tcp:a:1", end.now)
    end.says()
    end.mux.send(channel, TEXT[:5000], end.now)
    assert [message.compressed for message in sent(end)] == [master]


def test_who_does_not_want_compression_does_not_mention_it() -> None:
    (_, properties), *_ = End(True).says()
    assert isinstance(properties, lstp.PropertyExchange)
    assert properties.compression is None


def test_further_connections_do_as_the_first() -> None:
    talk = Talk(ZLIB, ZLIB)
    near = End(False, ZLIB, parent=talk.near.mux)
    near.hears(lstp.PropertyExchange())
    channel = near.mux.open("tcp:a:1", near.now)
    near.says()
    near.mux.send(channel, TEXT[:5000], near.now)
    assert [message.compressed for message in sent(near)] == [True]


# -- what is sent ---------------------------------------------------------


def test_a_channels_messages_share_their_context() -> None:
    talk = Talk(ZLIB, ZLIB)
    channel = talk.open()
    line = noise(1000)
    sizes = []
    for data in (line + bytes(1000), line, line):
        talk.near.mux.send(channel, data, talk.near.now)
        sizes.append(len(talk.carry(talk.near)))
    assert talk.far.got[channel] == line + bytes(1000) + line + line
    assert sizes[0] > 1000
    assert max(sizes[1:]) < 100, "what has been sent before costs next to nothing"


def test_credit_is_counted_in_plain_bytes() -> None:
    talk = Talk(ZLIB, MuxConfig(window=10_000, compression=("zlib",)))
    talk.far.eager = False
    channel = talk.open()
    talk.near.mux.send(channel, bytes(9_000), talk.near.now)
    assert len(talk.carry(talk.near)) < 100
    assert talk.near.mux.sendable(channel) == 1_000
    talk.far.note(talk.far.mux.consumed(channel, 9_000, talk.far.now))
    talk.settle()
    assert talk.near.mux.sendable(channel) > 1_000


def test_datagrams_are_not_compressed() -> None:
    talk = Talk(ZLIB, ZLIB)
    channel = talk.open("udp:192.0.2.1:5")
    assert talk.near.mux.send_datagram(channel, ("", 0), ("", 0), bytes(1000), talk.near.now)
    assert [message.compressed for message in sent(talk.near)] == [False]


@pytest.mark.parametrize("method", METHODS)
def test_random_data_is_soon_hardly_tried_any_more(method: str) -> None:
    packer = Packer(method)
    assert all(packer.pack(memoryview(noise(100, n))) is None for n in range(700))
    # The next text is found within the longest pause.
    text = memoryview(TEXT)[:4096]
    tries = [packer.pack(text) is not None for _ in range(129)]
    assert any(tries)
    assert not all(tries), "it was waiting for what comes later"
    found = tries.index(True)
    assert all(tries[found:]), "from there on everything is compressed"
    assert packer.pack(memoryview(noise(100))) is None
    assert [packer.pack(text) is not None for _ in range(3)] == [False, True, True]


@pytest.mark.parametrize("size", [1, 31])
def test_tiny_messages_are_left_alone(size: int) -> None:
    packer = Packer("zlib")
    assert packer.pack(memoryview(bytes(size))) is None
    assert packer.pack(memoryview(bytes(32))) is not None, "nothing was tried in vain"


# -- round trips ----------------------------------------------------------

pieces = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.integers(1, 30_000).map(bytes),
    st.tuples(st.integers(1, 20_000), st.integers(0, 99)).map(lambda p: noise(*p)),
    st.tuples(st.integers(1, 30_000), st.integers(0, 9_999)).map(lambda p: TEXT[p[1] :][: p[0]]),
)


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None)
@given(st.lists(pieces, max_size=12))
def test_what_is_packed_comes_out_again(method: str, messages: list[bytes]) -> None:
    packer, unpacker = Packer(method), Unpacker(method)
    for message in messages:
        body = packer.pack(memoryview(message))
        if body is not None:
            assert len(body) < len(message)
            assert unpacker.unpack(body) == message


@settings(deadline=None)
@given(st.lists(pieces, min_size=1, max_size=8), st.data())
def test_both_directions_of_two_channels_survive_any_cut(
    messages: list[bytes], data: st.DataObject
) -> None:
    config = MuxConfig(window=MIB, compression=tuple(METHODS))
    talk = Talk(config, config)
    channels = [talk.open(), talk.open()]
    for sender, receiver in ((talk.near, talk.far), (talk.far, talk.near)):
        expected = dict.fromkeys(channels, b"")
        for message in messages:
            channel = data.draw(st.sampled_from(channels))
            part = message[: sender.mux.sendable(channel)]
            sender.mux.send(channel, part, sender.now)
            expected[channel] += part
            stream = memoryview(sender.mux.data_to_send())
            at = data.draw(st.integers(0, len(stream)))
            receiver.note(receiver.mux.receive(stream[:at], receiver.now))
            receiver.note(receiver.mux.receive(stream[at:], receiver.now))
            talk.settle()
        assert {channel: receiver.got.get(channel, b"") for channel in channels} == expected


def test_the_last_data_may_be_compressed() -> None:
    end = Talk(ZLIB, ZLIB).far
    end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), 1)
    end.hears(lstp.ServiceBeginRequest(), 1)
    end.hears(lstp.ServiceData(compressed(bytes(100)), compressed=True, last=True), 1)
    assert end.got[1] == bytes(100)
    assert end.events[-1] == t.Finished(1)


# -- what is refused ------------------------------------------------------


def bomb(size: int) -> bytes:
    context = zlib.compressobj(9)
    packed = b"".join(context.compress(bytes(MIB)) for _ in range(size // MIB))
    return packed + context.flush(zlib.Z_SYNC_FLUSH)


BROKEN = {
    "nonsense": b"\xff" * 100,
    "nothing": b"",
    "no shorter": compressed(noise(100)),
    "as long": compressed(b"a"),
    "one byte too much": compressed(bytes(MAX_PLAIN + 1)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_compressed_data_that_breaks_a_rule_ends_its_channel_only(what: str) -> None:
    talk = Talk(ZLIB, MuxConfig(window=MIB, compression=("zlib",)))
    channel, other = talk.open(), talk.open()
    talk.far.hears(lstp.ServiceData(BROKEN[what], compressed=True), channel)
    ended = talk.far.all_of(t.ChannelEnded)
    assert [(event.channel, event.code) for event in ended] == [(channel, Code.PROTOCOL)]
    (number, error), *_ = talk.far.says()
    assert (number, type(error)) == (channel, lstp.Error)
    assert list(talk.far.mux.channels()) == [other]
    assert channel not in talk.far.got
    assert talk.far.budget.queued == 0
    talk.near.mux.send(other, TEXT[:1000], talk.near.now)
    talk.settle()
    assert talk.far.got[other] == TEXT[:1000]


def test_the_largest_message_passes() -> None:
    talk = Talk(ZLIB, MuxConfig(window=MIB, compression=("zlib",)))
    channel = talk.open()
    talk.far.hears(lstp.ServiceData(compressed(bytes(MAX_PLAIN)), compressed=True), channel)
    assert talk.far.got[channel] == bytes(MAX_PLAIN)


def test_credit_holds_for_what_comes_out() -> None:
    talk = Talk(ZLIB, MuxConfig(window=1000, compression=("zlib",)))
    channel = talk.open()
    talk.far.hears(lstp.ServiceData(compressed(bytes(1001)), compressed=True), channel)
    assert [event.code for event in talk.far.all_of(t.ChannelEnded)] == [Code.PROTOCOL]
    assert channel not in talk.far.got


def test_a_compressed_datagram_is_refused() -> None:
    talk = Talk(ZLIB, ZLIB)
    channel = talk.open("udp:192.0.2.1:5")
    talk.far.hears(lstp.ServiceData(compressed(bytes(1000)), compressed=True), channel)
    assert [event.code for event in talk.far.all_of(t.ChannelEnded)] == [Code.PROTOCOL]


def test_compression_that_was_not_agreed_on_is_refused_however_well_it_is_done() -> None:
    talk = Talk(ZLIB, MuxConfig())
    channel = talk.open()
    talk.far.hears(lstp.ServiceData(compressed(bytes(1000)), compressed=True), channel)
    assert [event.code for event in talk.far.all_of(t.ChannelEnded)] == [Code.PROTOCOL]


def test_a_message_whose_channel_is_given_up_before_it_is_whole_comes_to_nothing() -> None:
    talk = Talk(ZLIB, ZLIB)
    channel = talk.open()
    frame = memoryview(lstp.encode(lstp.ServiceData(compressed(bytes(1000)), compressed=True), 1))
    far = talk.far
    far.note(far.mux.receive(frame[:20], far.now))
    far.note(far.mux.abort(channel, Code.RESET, "enough", far.now))
    far.note(far.mux.receive(frame[20:], far.now))
    assert [event.code for event in far.all_of(t.ChannelEnded)] == [Code.RESET]
    assert [type(message) for _, message in far.says()] == [lstp.ServiceFreeRequest]
    assert channel not in far.got


def with_dictionary(data: bytes) -> bytes:
    context = zlib.compressobj(zdict=data)
    return context.compress(data) + context.flush(zlib.Z_SYNC_FLUSH)


def zstd_frame(window_log: int) -> bytes:
    """Magic, no options, the window, and a block of a hundred times `x`."""
    block = (100 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    return bytes.fromhex("28b52ffd00") + bytes([(window_log - 10) << 3]) + block


ASKS_TOO_MUCH = {
    "zlib": [with_dictionary(TEXT[:1000])],
    "zstd": [zstd_frame(19), zstd_frame(27)],
}
FITS = {"zlib": compressed(b"x" * 100), "zstd": zstd_frame(18)}


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_cannot_ask_for_a_dictionary_or_a_large_window(method: str) -> None:
    assert Unpacker(method).unpack(FITS[method]) == b"x" * 100
    for body in ASKS_TOO_MUCH[method]:
        with pytest.raises(RemoteProtocolError, match="does not decompress"):
            Unpacker(method).unpack(body)


@pytest.mark.parametrize("method", METHODS)
def test_a_bomb_is_given_up_before_it_takes_memory(method: str) -> None:
    if method == "zlib":
        body = bomb(128 * MIB)
    else:
        packed = Packer(method).pack(memoryview(bytes(64 * MIB)))
        assert packed is not None
        body = packed
    assert len(body) <= lstp.MAX_DATA
    unpacker = Unpacker(method)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="more than 262144"):
            unpacker.unpack(body)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


def test_contexts_exist_only_where_something_is_compressed() -> None:
    talk = Talk(ZLIB, ZLIB)
    channels = [talk.open() for _ in range(100)]
    talk.near.mux.path.inflight_target = MIB
    tracemalloc.start()
    try:
        for channel in channels:
            talk.near.mux.send(channel, noise(2000, channel), talk.near.now)
            talk.settle()
        assert tracemalloc.get_traced_memory()[0] < 2 * MIB
    finally:
        tracemalloc.stop()


def test_contexts_go_with_their_channels_even_if_the_far_side_never_answers() -> None:
    talk = Talk(ZLIB, ZLIB)
    tracemalloc.start()
    try:
        channels = [talk.open() for _ in range(30)]
        for channel in channels:
            talk.near.mux.send(channel, TEXT[:2000], talk.near.now)
            talk.settle()
        assert tracemalloc.get_traced_memory()[0] > 4 * MIB
        for channel in channels:
            for end in (talk.near, talk.far):
                end.note(end.mux.abort(channel, Code.RESET, "", end.now))
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()
