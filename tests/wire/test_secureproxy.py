"""Secure Proxy's messages: as written down, as sent, what each field may be, damaged (S4, R8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import CASES
from tests.wire.fuzzing import cases, pieces
from tests.wire.secureproxy_samples import MESSAGES, RUN, SESSION, TOKEN, VECTORS
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import Frame, FrameReader
from tunnelkit.wire.secureproxy import (
    HEADER,
    HEADER_SIZE,
    MAX_BODY,
    Answer,
    Connect,
    Entry,
    Error,
    Hello,
    Join,
    Login,
    Lookup,
    Message,
    MessageType,
    Presence,
    Publish,
    Resource,
    Session,
    check_header,
    decode,
    encode,
    is_host,
)

pytestmark = pytest.mark.timeout(120 + CASES // 200)


def frame_of(data: bytes) -> Frame:
    """The one message in ``data``."""
    reader = FrameReader(check_header)
    reader.feed(data)
    frame = reader.next_frame()
    assert frame is not None
    assert reader.leftover == b""
    return frame


def read(kind: int, fields: object) -> Message:
    return decode(Frame(kind, 0, 0, json.dumps(fields).encode()))


# -- vectors ----------------------------------------------------------------


def test_there_is_a_vector_for_each_message() -> None:
    assert VECTORS.keys() == MESSAGES.keys()
    assert {data[4] for data in VECTORS.values()} == set(MessageType) == set(range(1, 19))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_sent_and_read_as_written_down(name: str) -> None:
    assert encode(MESSAGES[name]).hex() == VECTORS[name].hex()
    assert decode(frame_of(VECTORS[name])) == MESSAGES[name]


# -- headers ----------------------------------------------------------------


@pytest.mark.parametrize("header", [(MAX_BODY + 1, 1), (0xFFFFFFFF, 3), (0, 0), (0, 19), (0, 255)])
def test_a_bad_header_is_refused_before_its_body_comes(header: tuple[int, int]) -> None:
    reader = FrameReader(check_header)
    reader.feed(HEADER.pack(header[0], header[1], 0, 0, 0))
    with pytest.raises(RemoteProtocolError):
        reader.next_frame()


def test_a_channel_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="channel 0"):
        decode(Frame(15, 0, 1, b""))
    with pytest.raises(RemoteProtocolError, match="unknown"):
        decode(Frame(0, 0, 0, b""))


def test_flags_and_unknown_fields_are_ignored() -> None:
    assert decode(Frame(15, 255, 0, b'{"later":[1]}')) == MESSAGES["keepalive"]


def test_a_body_over_its_limit_is_not_sent() -> None:
    table = Publish(tuple(Resource(f"r{number}" + "x" * 50) for number in range(128)))
    encode(table)
    groups = tuple(f"g{number}" for number in range(60))
    with pytest.raises(LocalProtocolError):
        encode(Publish(tuple(Resource(f"r{n}", groups=groups) for n in range(128))))


def test_secrets_are_not_shown() -> None:
    for message in (
        Hello("ask", RUN, login=Login("a", password="sesame")),
        Hello("ask", RUN, login=Login("a", token="sesame")),
        Join(SESSION, "5e5a3e" + TOKEN[6:]),
    ):
        assert "sesame" not in repr(message)
        assert "5e5a3e" not in repr(message)


# -- fields -----------------------------------------------------------------

HELLO = {"version": 1, "for": "ask", "run": RUN}
WELCOME = {
    "version": 1,
    "server": "s",
    "observed": "a",
    "instance": RUN,
    "generation": 5,
    "keepalive": 10,
}
INCOMING = {
    "session": SESSION,
    "from": "a",
    "target": "b",
    "resource": "tunnel",
    "token": TOKEN,
    "deadline": 10,
    "generation": 5,
}
START = {
    "session": SESSION,
    "role": "tls-client",
    "peer": "b",
    "resource": "tunnel",
    "server": "s",
}
INNER = {"session": SESSION, "from": "a", "to": "b", "target": "b", "resource": "tunnel"}
BROWSER = {"session": SESSION, "host": "a.example", "observed": "x"}

VALID: dict[int, dict[str, Any]] = {
    1: HELLO,
    2: WELCOME,
    3: {"resources": []},
    4: {"target": "b", "resource": "tunnel"},
    5: INCOMING,
    6: {"session": SESSION, "accept": True},
    7: {"session": SESSION, "token": TOKEN},
    8: START,
    9: BROWSER,
    10: {"name": "b"},
    11: {"of": "b", "entries": []},
    12: {"grace": 1},
    13: {"code": "limit"},
    16: INNER,
    17: {"resource": "pass:a.example"},
    18: BROWSER,
}

NOT_HEX: list[Any] = [None, 1, "", RUN[1:], RUN + "0", RUN.upper(), RUN[1:] + "\n", []]
NOT_NAMES: list[Any] = [None, 1, "", "x" * 256, "a\nb", "\ud800", {}]
NOT_TARGETS: list[Any] = [*NOT_NAMES, "group:", "group:a b", "group:" + "x" * 65]
NOT_RESOURCES: list[Any] = [
    *[None, 1, "", "a b", "x" * 65, "a/b", "other:a.example", "pass:", "pass:A.example"],
    *["web:1.2.3.4", "pass:" + "a." * 130, ".", "-a", "a-"],
]
NOT_HOSTS: list[Any] = [
    *[None, 1, "", "A.example", "a..b", "a.", ".a", "-a.example", "a_.exa mple", "1.2.3.4"],
    *["[::1]", "a.*", "*", "x" * 64, "a." * 127 + "aa", "b\u00fccher.example"],
]
NOT_SECONDS: list[Any] = [None, "1", True, -1, 1e30, []]
NOT_GENERATIONS: list[Any] = [None, "1", True, 1.0, -1, 1 << 63]

BAD: dict[tuple[int, str], list[Any]] = {
    (1, "version"): [None, 0, 2, "1", True],
    (1, "for"): [None, "", "Present", 1],
    (1, "run"): NOT_HEX,
    (1, "software"): [None, 1, "x" * 256],
    (1, "properties"): [None, [], {"a": 1}, {"a": "x" * 256}, {"x" * 256: "a"},
        {str(number): "" for number in range(17)}, {"\ud800": ""}],
    (1, "addresses"): [None, {}, [1], [""], ["a"] * 17],
    (1, "login"): [None, "a", {}, {"name": "a"}, {"name": "", "token": "b"},
        {"name": "a", "token": "b", "password": "c"}, {"name": "a", "token": 1}],
    (2, "version"): [None, 2],
    (2, "server"): NOT_NAMES,
    (2, "observed"): [None, 1, "x" * 256],
    (2, "instance"): NOT_HEX,
    (2, "generation"): NOT_GENERATIONS,
    (2, "keepalive"): [*NOT_SECONDS, 0, 3601],
    (2, "servers"): [None, "a", [1], ["a"] * 17],
    (3, "resources"): [None, {}, [1], [{}], [{"name": "a"}], [{"name": "a", "kind": "other"}],
        [{"name": "a", "kind": "session"}] * 2,
        [{"name": str(number), "kind": "session"} for number in range(129)],
        [{"name": "pass:a.example", "kind": "session"}],
        [{"name": "pass:a.example", "kind": "pass"}],
        [{"name": "pass:a.example", "kind": "pass", "host": "b.example"}],
        [{"name": "web:a.example", "kind": "pass", "host": "a.example"}],
        [{"name": "a", "kind": "pass", "host": "a.example"}],
        [{"name": "a", "kind": "session", "groups": ["a b"]}],
        [{"name": "a", "kind": "session", "groups": ["a"] * 65}],
        [{"name": "a", "kind": "session", "ttl": -1}],
        [{"name": "a", "kind": "session", "ttl": "1"}]],
    (4, "target"): NOT_TARGETS,
    (4, "resource"): NOT_RESOURCES,
    (4, "mode"): [None, "", "all", 1],
    (5, "session"): NOT_HEX,
    (5, "from"): [None, 1, "x" * 256, "a\nb"],
    (5, "target"): NOT_TARGETS,
    (5, "resource"): NOT_RESOURCES,
    (5, "observed"): [None, 1, "x" * 256],
    (5, "host"): NOT_HOSTS,
    (5, "token"): [*NOT_HEX, RUN],
    (5, "deadline"): NOT_SECONDS,
    (5, "generation"): NOT_GENERATIONS,
    (6, "session"): NOT_HEX,
    (6, "accept"): [None, 1, "true", False],
    (7, "session"): NOT_HEX,
    (7, "token"): [*NOT_HEX, RUN, TOKEN.upper()],
    (8, "session"): NOT_HEX,
    (8, "role"): [None, "", "client", 1],
    (8, "peer"): NOT_NAMES,
    (8, "resource"): NOT_RESOURCES,
    (8, "server"): NOT_NAMES,
    (8, "hops"): [None, "a", [1], [""]],
    (9, "session"): NOT_HEX,
    (9, "host"): NOT_HOSTS,
    (9, "observed"): [None, 1, "x" * 256],
    (10, "name"): [*NOT_TARGETS, "group:a"],
    (10, "watch"): [None, 1, "true"],
    (11, "of"): NOT_TARGETS,
    (11, "entries"): [None, {}, [1], [{}], [{"name": "a"}], [{"name": "a", "present": 1}],
        [{"name": "a", "present": True}] * 101,
        [{"name": "a", "present": True, "resources": [1]}]],
    (11, "more"): [None, 1],
    (12, "grace"): NOT_SECONDS,
    (12, "servers"): [None, "a", [1]],
    (13, "code"): [None, 1, "", "x" * 65],
    (13, "reason"): [None, 1, "x" * 1025],
    (13, "fatal"): [None, 1],
    (13, "session"): NOT_HEX,
    (13, "about"): [None, "1", -1, 256, True],
    (16, "session"): NOT_HEX,
    (16, "from"): NOT_NAMES,
    (16, "to"): NOT_NAMES,
    (16, "target"): NOT_TARGETS,
    (16, "resource"): NOT_RESOURCES,
    (17, "resource"): NOT_RESOURCES,
    (18, "session"): NOT_HEX,
    (18, "host"): NOT_HOSTS,
    (18, "observed"): [None, 1, "x" * 256],
}  # fmt: skip


@pytest.mark.parametrize("kind", VALID)
def test_the_valid_message_that_the_bad_ones_are_made_of_is_accepted(kind: int) -> None:
    assert decode(frame_of(encode(read(kind, VALID[kind])))) == read(kind, VALID[kind])


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(kind, field, value) for (kind, field), values in BAD.items() for value in values],
)
def test_a_bad_value_is_refused_with_the_messages_and_the_fields_name(
    kind: int, field: str, value: object
) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(kind, {**VALID[kind], field: value})
    assert caught.value.code is Code.PROTOCOL
    assert MessageType(kind).name in str(caught.value)
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, fields in VALID.items() for field in fields]
)
def test_a_required_field_must_be_there(kind: int, field: str) -> None:
    fields = {name: value for name, value in VALID[kind].items() if name != field}
    with pytest.raises(RemoteProtocolError, match=MessageType(kind).name):
        read(kind, fields)


def test_an_unknown_code_reads_as_internal() -> None:
    assert read(13, {"code": "on-fire"}) == Error(Code.INTERNAL)
    assert read(6, {"session": SESSION, "code": "on-fire"}) == Answer(SESSION, code=Code.INTERNAL)


def test_an_answer_either_accepts_or_says_why_not() -> None:
    for fields in ({}, {"accept": False}, {"accept": True, "code": "limit"}):
        with pytest.raises(RemoteProtocolError, match="accept"):
            read(6, {"session": SESSION, **fields})


def test_a_lookup_is_for_a_name_or_a_group() -> None:
    assert read(10, {"group": "a", "watch": True}) == Lookup("group:a", True)
    with pytest.raises(RemoteProtocolError):
        read(10, {"name": "a", "group": "b"})


@pytest.mark.parametrize(
    "host", ["a", "a.example", "*.a.example", "xn--bcher-kva.example", "a-b.c"]
)
def test_hosts(host: str) -> None:
    assert is_host(host)


# -- any message ------------------------------------------------------------

names = st.text(min_size=1, max_size=40).filter(
    lambda name: name.isprintable() and not name.startswith("group:")
)
plain = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)
targets = names | plain.map("group:".__add__)
hosts = st.from_regex(r"[a-z]{1,9}\.example", fullmatch=True)
resources = st.builds(
    Resource, plain, ttl=st.none() | st.integers(0, 999), groups=st.none() | st.tuples(plain)
) | hosts.map(lambda host: Resource(f"web:{host}", "web", host))

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        st.sampled_from(("present", "ask", "session")),
        st.just(RUN),
        st.none() | st.text(max_size=40),
        st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3).map(
            lambda pairs: tuple(pairs.items())
        ),
        st.lists(st.text(min_size=1, max_size=9), max_size=3).map(tuple),
        st.none() | st.builds(Login, names, st.text(max_size=9)),
    ),
    st.builds(Publish, st.lists(resources, max_size=5, unique_by=lambda one: one.name).map(tuple)),
    st.builds(Connect, targets, plain, st.sampled_from(("one", "any"))),
    st.builds(Lookup, targets, st.booleans()),
    st.builds(
        Presence,
        targets,
        st.lists(st.builds(Entry, names, st.booleans(), st.tuples(plain)), max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(
        Error,
        st.sampled_from(Code),
        st.text(max_size=60),
        st.booleans(),
        st.none() | st.just(SESSION),
        st.none() | st.integers(0, 255),
    ),
    st.builds(Session, st.just(SESSION), names, names, targets, plain, st.none() | st.just(TOKEN)),
)


@given(messages)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    assert decode(frame_of(encode(message))) == message


# -- damaged ----------------------------------------------------------------


def test_every_body_is_decoded_or_refused() -> None:
    accepted = 0
    for kind in MessageType:
        seeds = [data[HEADER_SIZE:] for data in VECTORS.values() if data[4] == kind]
        for body in cases(seeds, CASES // len(MessageType), seed=kind):
            try:
                message = decode(Frame(kind, 0, 0, body))
            except RemoteProtocolError:
                continue
            accepted += 1
            assert decode(frame_of(encode(message))) == message
    assert accepted > CASES // 20


def test_every_stream_is_read_the_same_way_however_it_comes() -> None:
    def outcome(data: bytes, seed: int) -> list[object]:
        reader = FrameReader(check_header, None, None)
        found: list[object] = []
        try:
            for piece in pieces(data, seed) if seed else [data]:
                reader.feed(piece)
                found += map(decode, iter(reader.next_frame, None))
        except RemoteProtocolError as error:
            return [*found, str(error)]
        return [*found, reader.leftover]

    for number, data in enumerate(cases(list(VECTORS.values()), seed=2)):
        assert outcome(data, 0) == outcome(data, number + 1)
