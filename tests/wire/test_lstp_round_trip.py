"""Whatever can be said in LSTP arrives as it was said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import Code
from tunnelkit.wire.checkpoint import MOST_LINES, Checkpoint
from tunnelkit.wire.lstp import (
    HEADER,
    HEADER_SIZE,
    HOP_ROLES,
    MAX_WINDOW,
    CommonUniqueInfo,
    ConnectionAck,
    ConnectionNack,
    ConnectionRequest,
    Error,
    Hop,
    Message,
    PropertyExchange,
    Service,
    ServiceBeginAck,
    ServiceBeginNack,
    ServiceBeginRequest,
    ServiceData,
    ServiceDataPause,
    ServiceDataResume,
    ServiceFreeAck,
    ServiceFreeRequest,
    Shutdown,
    TopologyExchange,
    check_header,
    decode,
    encode,
)

text = st.text(max_size=60)
names = st.text(min_size=1, max_size=60).filter(str.isprintable)
common = st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True)
codes = st.sampled_from(Code)
seconds = st.integers(0, 10**6) | st.floats(0, 1e6)
channels = st.integers(1, 2**32 - 1)
hops = st.builds(
    Hop, names, st.sampled_from(HOP_ROLES), text, st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
)
services = st.builds(Service, names, st.none() | seconds, st.none() | st.integers(1, 65535))
offsets = st.tuples(st.integers(0, 2**63), st.integers(0, MAX_WINDOW))
checkpoints = st.builds(
    Checkpoint,
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    st.integers(1, MOST_LINES),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        CommonUniqueInfo, common, names, st.sampled_from(("client-end", "server-end", "both"))
    ),
    st.builds(
        TopologyExchange,
        st.lists(hops, min_size=1, max_size=8).map(tuple),
        st.none() | text,
    ),
    st.builds(
        PropertyExchange,
        st.none() | text,
        st.none() | st.lists(st.text(min_size=1, max_size=32), max_size=16).map(tuple),
        st.none() | channels,
        st.none() | st.integers(0, MAX_WINDOW),
        st.none() | st.lists(services, max_size=8, unique_by=lambda one: one.name).map(tuple),
        st.none() | st.floats(0.1, 86400),
        st.none() | checkpoints,
    ),
    st.builds(ConnectionRequest, destination=st.text(min_size=1, max_size=60)),
    st.builds(ConnectionRequest, service=names),
    st.builds(ConnectionRequest, listener=channels, origin=st.none() | text),
    st.builds(ConnectionRequest, st.just("connection"), join=common),
    st.just(ConnectionAck()),
    st.builds(ConnectionNack, codes, text),
    st.just(ServiceBeginRequest()),
    st.builds(ServiceBeginAck, text),
    st.builds(ServiceBeginNack, codes, text),
    st.builds(ServiceData, st.binary(), st.booleans(), st.booleans()),
    st.just(ServiceDataPause()),
    offsets.map(lambda pair: ServiceDataResume(pair[0], pair[0] + pair[1])),
    st.just(ServiceFreeRequest()),
    st.builds(ServiceFreeRequest, codes, text),
    st.just(ServiceFreeAck()),
    st.builds(Shutdown, seconds, text),
    st.builds(Error, codes, text, st.booleans()),
)


@given(messages, channels)
def test_a_message_arrives_as_it_was_sent(message: Message, channel: int) -> None:
    data = encode(message, channel)
    length, kind, flags, reserved, number = HEADER.unpack_from(data)
    check_header(length, kind)
    assert (number, reserved, kind) == (channel, 0, message.type)
    assert len(data) == HEADER_SIZE + length
    assert decode(kind, flags, data[HEADER_SIZE:]) == message
