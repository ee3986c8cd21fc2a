"""The LSTP middle: who waits, who is paired, who has to go."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.core.lstp.middle import (
    KEEPALIVE,
    TABLE,
    Close,
    Command,
    Lobby,
    MiddleConnection,
    Pair,
    Send,
)
from tunnelkit.core.lstp.middle_connection import MAX_KEPT, Input, State
from tunnelkit.core.lstp.middle_queues import MAX_SUSPECTS, SUSPICION_TIME, Suspects
from tunnelkit.core.lstp.setup import Partner, Setup
from tunnelkit.core.table import step
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.lstp import (
    HEADER,
    HEADER_SIZE,
    CommonUniqueInfo,
    Error,
    Hop,
    MessageType,
    PropertyExchange,
    ServiceData,
    TopologyExchange,
    decode,
    derive_common,
    encode,
    encode_body,
)

OFFICE, LAB = (derive_common(b"r" * 32, name) for name in ("office", "lab"))
HOP = Hop("m", "middle", "192.0.2.1:7000", "5" * 32)


class Room:
    """A lobby and a short way to say who comes."""

    def __init__(self, **settings: Any) -> None:
        nonces = itertools.repeat(HOP.nonce)
        self.lobby = Lobby(HOP.name, HOP.address, make_nonce=lambda: next(nonces), **settings)

    def connect(self, address: str = "10.0.0.1", now: float = 0.0) -> MiddleConnection:
        connection = MiddleConnection(address)
        assert self.lobby.connected(connection, now) == []
        return connection

    def arrive(
        self, setup: bytes, address: str = "10.0.0.1", now: float = 0.0
    ) -> tuple[MiddleConnection, list[Command]]:
        connection = self.connect(address, now)
        return connection, self.lobby.receive(connection, setup, now)

    def wait(self, setup: bytes, address: str = "10.0.0.1", now: float = 0.0) -> MiddleConnection:
        connection, commands = self.arrive(setup, address, now)
        assert commands == []
        assert connection.state is State.WAITING
        return connection

    def pair(
        self, first: str = "10.0.0.1", second: str = "10.0.0.2", now: float = 0.0
    ) -> tuple[MiddleConnection, MiddleConnection]:
        one = self.wait(client(), first, now)
        other, commands = self.arrive(server(), second, now)
        assert paired(commands) == (one, other)
        return one, other


def end(
    unique: str, role: str, common: str = OFFICE, admission: str | None = None, middles: int = 0
) -> bytes:
    hops = [Hop(unique, role, "inside", "a" * 32)]
    hops += [Hop(f"other{number}", "middle", "", "b" * 32) for number in range(middles)]
    return encode(CommonUniqueInfo(common, unique, role)) + encode(
        TopologyExchange(tuple(hops), admission)
    )


def client(unique: str = "alice", common: str = OFFICE, **more: Any) -> bytes:
    return end(unique, "client-end", common, **more)


def server(unique: str = "bob", common: str = OFFICE, **more: Any) -> bytes:
    return end(unique, "server-end", common, **more)


def paired(commands: Sequence[Command]) -> tuple[MiddleConnection, MiddleConnection]:
    (pair,) = [command for command in commands if isinstance(command, Pair)]
    return pair.first, pair.second


def is_refused(commands: Sequence[Command], connection: MiddleConnection, code: Code) -> bool:
    """Whether the commands are: ERROR with this code, then close."""
    sent, closed = commands
    assert isinstance(sent, Send)
    assert isinstance(closed, Close)
    assert sent.connection is connection
    assert closed.connection is connection
    length, kind, flags, _, _ = HEADER.unpack_from(sent.data)
    assert len(sent.data) == HEADER_SIZE + length
    error = decode(kind, flags, sent.data[HEADER_SIZE:])
    assert isinstance(error, Error)
    assert error.code is closed.code
    assert connection.state is State.ENDED
    return closed.code is code


# -- pairing --------------------------------------------------------------


def test_the_first_waits_and_the_second_is_paired_with_it() -> None:
    room = Room()
    first = room.wait(client(admission="unused"))
    second, commands = room.arrive(server())
    sent = {command.connection: command.data for command in commands if isinstance(command, Send)}
    assert sent == {
        first: encode(CommonUniqueInfo(OFFICE, "bob", "server-end"))
        + encode(TopologyExchange((Hop("bob", "server-end", "inside", "a" * 32), HOP))),
        second: encode(CommonUniqueInfo(OFFICE, "alice", "client-end"))
        + encode(TopologyExchange((Hop("alice", "client-end", "inside", "a" * 32), HOP))),
    }
    assert commands[-1] == Pair(first, second, "alice", "bob")
    assert (room.lobby.in_setup, room.lobby.waiting, room.lobby.pairs) == (0, 0, 1)


def test_common_unique_info_is_forwarded_byte_for_byte() -> None:
    room = Room()
    first = room.wait(client())
    body = (
        '{ "later":1, "role" : "server-end","unique":"b\\u00f6b", "version":1,'
        f'"common":"{OFFICE}"}}'
    ).encode()
    raw = encode_body(1, body)
    topology = encode(TopologyExchange((Hop("x", "server-end", "", "c" * 32),)))
    _, commands = room.arrive(raw + topology)
    (sent,) = [c.data for c in commands if isinstance(c, Send) and c.connection is first]
    assert sent.startswith(raw)


def test_each_pairing_has_one_fresh_nonce() -> None:
    lobby = Lobby("m", "")
    topologies: list[tuple[Hop, ...]] = []
    for number in range(2):
        ends = [
            Setup(OFFICE, "alice", "client-end", "", 0.0),
            Setup(OFFICE, "bob", "server-end", "", 0.0),
        ]
        connections = {}
        commands: list[Command] = []
        for setup in ends:
            connection = MiddleConnection(str(number))
            connections[connection] = setup
            lobby.connected(connection, 0.0)
            commands += lobby.receive(connection, setup.data_to_send(), 0.0)
        for command in commands:
            if isinstance(command, Send):
                (event,) = connections[command.connection].receive(command.data, 0.0)
                assert isinstance(event, Partner)
                topologies.append(event.hops)
    one, same, other, same_other = (hops[-1].nonce for hops in topologies)
    assert one == same
    assert other == same_other
    assert one != other


@pytest.mark.parametrize(
    ("waiting", "arriving", "match"),
    [
        ("client-end", "server-end", True),
        ("server-end", "client-end", True),
        ("both", "both", True),
        ("both", "client-end", True),
        ("server-end", "both", True),
        ("client-end", "client-end", False),
        ("server-end", "server-end", False),
    ],
)
def test_only_complementary_roles_meet(waiting: str, arriving: str, match: bool) -> None:
    room = Room()
    room.wait(end("a", waiting))
    _, commands = room.arrive(end("b", arriving))
    assert bool(commands) is match


def test_only_ends_with_the_same_common_meet() -> None:
    room = Room()
    room.wait(client(common=LAB))
    room.wait(server(common=OFFICE))
    assert room.lobby.waiting == 2


def test_ends_of_one_common_are_served_in_order_of_arrival() -> None:
    room = Room()
    waiting = [room.wait(client(f"alice{n}")) for n in range(4)]
    for expected in waiting:
        other, commands = room.arrive(server())
        assert paired(commands) == (expected, other)


def test_a_lost_end_is_not_paired() -> None:
    room = Room()
    gone = room.wait(client("gone"))
    stays = room.wait(client("stays"))
    assert room.lobby.lost(gone, 1.0) == []
    other, commands = room.arrive(server())
    assert paired(commands) == (stays, other)
    room.wait(server())


def test_the_same_end_again_replaces_the_older_connection() -> None:
    room = Room()
    older = room.wait(client())
    newer, commands = room.arrive(client(), now=5.0)
    assert is_refused(commands, older, Code.RESET)
    assert newer.state is State.WAITING
    assert room.lobby.waiting == 1


def test_an_end_of_both_roles_is_not_paired_with_its_own_older_connection() -> None:
    room = Room()
    older = room.wait(end("a", "both"))
    newer, commands = room.arrive(end("a", "both"))
    assert is_refused(commands, older, Code.RESET)
    other, commands = room.arrive(end("b", "both"))
    assert paired(commands) == (newer, other)


def test_bytes_of_a_pair_are_not_for_the_lobby() -> None:
    room = Room()
    one, _ = room.pair()
    with pytest.raises(LocalProtocolError):
        room.lobby.receive(one, b"\x16\x03\x01", 1.0)


# -- suspicion ------------------------------------------------------------


def test_the_least_suspect_end_is_paired_first() -> None:
    room = Room()
    one, other = room.pair("bad", "victim")
    room.lobby.lost(one, 9.0)
    room.lobby.lost(other, 9.0)
    suspect = room.wait(client("a"), "bad", 10.0)
    honest = room.wait(client("b"), "good", 11.0)
    third, commands = room.arrive(server(), "victim", 12.0)
    assert paired(commands) == (honest, third)
    fourth, commands = room.arrive(server(), "victim", 13.0)
    assert paired(commands) == (suspect, fourth)


def test_a_pairing_of_more_than_10_seconds_makes_nobody_suspect() -> None:
    room = Room()
    one, _ = room.pair("first", "victim")
    room.lobby.flowing(one)
    assert room.lobby.deadline_passed(10.0) == []
    room.lobby.lost(one, 10.5)
    earlier = room.wait(client("a"), "first", 11.0)
    room.wait(client("b"), "second", 11.0)
    other, commands = room.arrive(server(), "victim", 12.0)
    assert paired(commands) == (earlier, other)


def test_suspicion_is_forgotten_in_time_and_bounded() -> None:
    suspects = Suspects()
    suspects.add("a", 0.0)
    suspects.add("a", 1.0)
    assert suspects.count("a", SUSPICION_TIME) == 2
    assert suspects.count("a", SUSPICION_TIME + 1) == 0
    for number in range(MAX_SUSPECTS):
        suspects.add(str(number), 2.0)
    assert suspects.count("a", 2.0) == 0
    assert suspects.count("0", 2.0) == 1


# -- time limits ----------------------------------------------------------


def test_a_setup_that_is_not_complete_after_10_seconds_is_refused_however_it_trickles() -> None:
    room = Room()
    slow = room.connect()
    for second, byte in enumerate(client()[:9]):
        assert room.lobby.receive(slow, bytes([byte]), float(second)) == []
    assert room.lobby.next_deadline() == 10.0
    assert room.lobby.deadline_passed(9.9) == []
    assert is_refused(room.lobby.deadline_passed(10.0), slow, Code.TIMED_OUT)
    assert room.lobby.in_setup == 0
    assert room.lobby.next_deadline() is None
    assert room.lobby.receive(slow, b"late", 11.0) == []


def test_waiting_ends_get_an_empty_property_exchange_every_15_seconds() -> None:
    assert encode(PropertyExchange()) == KEEPALIVE
    room = Room()
    one = room.wait(client("a"), now=0.0)
    other = room.wait(client("b"), now=4.0)
    assert room.lobby.deadline_passed(14.0) == []
    assert room.lobby.deadline_passed(15.0) == [Send(one, KEEPALIVE)]
    assert room.lobby.next_deadline() == 19.0
    assert room.lobby.deadline_passed(31.0) == [Send(other, KEEPALIVE), Send(one, KEEPALIVE)]


def test_a_pairing_without_bytes_for_10_seconds_is_closed_on_both_sides() -> None:
    room = Room()
    one, other = room.pair("a", "b")
    assert room.lobby.next_deadline() == 10.0
    reason = "nothing passed within 10 seconds"
    assert room.lobby.deadline_passed(10.0) == [
        Close(one, Code.TIMED_OUT, reason),
        Close(other, Code.TIMED_OUT, reason),
    ]
    assert room.lobby.pairs == 0
    assert room.lobby.next_deadline() is None
    # Both addresses are suspect now.
    room.wait(client("x"), "a", 11.0)
    fresh = room.wait(client("y"), "c", 11.0)
    _, commands = room.arrive(server(), "d", 11.0)
    assert paired(commands)[0] is fresh


@pytest.mark.parametrize("which", [0, 1])
def test_first_bytes_from_either_side_keep_a_pairing(which: int) -> None:
    room = Room()
    pair = room.pair()
    room.lobby.flowing(pair[which])
    assert room.lobby.deadline_passed(10.0) == []
    assert room.lobby.pairs == 1
    room.lobby.flowing(pair[which])
    room.lobby.lost(pair[which], 100.0)
    room.lobby.flowing(pair[which])
    room.lobby.lost(pair[1 - which], 100.0)
    assert room.lobby.pairs == 0


# -- what may come --------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client() + b"x", Code.PROTOCOL),
        (client()[:50] + b"}" * 100, Code.PROTOCOL),
        (b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00", Code.PROTOCOL),
        (encode(PropertyExchange()), Code.PROTOCOL),
        (encode(CommonUniqueInfo(OFFICE, "a", "both")) * 2, Code.PROTOCOL),
        (encode(CommonUniqueInfo(OFFICE, "a", "both"), 1), Code.PROTOCOL),
        (encode(ServiceData(b"x" * 60000), 1), Code.PROTOCOL),
        (HEADER.pack(16385, 1, 0, 0, 0), Code.PROTOCOL),
        (client(middles=8), Code.LIMIT),
        (end("m", "middle"), Code.PROTOCOL),
        (
            encode(CommonUniqueInfo(OFFICE, "a", "both")) + encode(TopologyExchange((HOP,))),
            Code.PROTOCOL,
        ),
        (
            encode(CommonUniqueInfo(OFFICE, "a", "both"))
            + encode(TopologyExchange((Hop("a", "both", "", "a" * 32), HOP))),
            Code.PROTOCOL,
        ),
    ],
)
def test_whatever_is_not_a_setup_is_refused(data: bytes, code: Code) -> None:
    room = Room()
    connection, commands = room.arrive(data)
    assert is_refused(commands, connection, code)
    assert (room.lobby.in_setup, room.lobby.waiting) == (0, 0)


def test_seven_hops_leave_room_for_the_middles_own() -> None:
    room = Room()
    room.wait(client(middles=6))
    other, commands = room.arrive(server())
    (sent,) = [c.data for c in commands if isinstance(c, Send) and c.connection is other]
    assert sent.count(b'"nonce"') == 8


def test_bytes_from_a_waiting_end_are_refused() -> None:
    room = Room()
    connection = room.wait(client())
    assert is_refused(room.lobby.receive(connection, b"\0", 1.0), connection, Code.PROTOCOL)
    assert room.lobby.waiting == 0


@pytest.mark.parametrize("before", [0, 1])
def test_an_error_is_never_answered_by_error(before: int) -> None:
    room = Room()
    info = encode(CommonUniqueInfo(OFFICE, "a", "both"))
    connection, commands = room.arrive(info * before + encode(Error(Code.INTERNAL, "oops")))
    assert commands == [Close(connection, Code.INTERNAL, "the end gave up")]
    assert room.lobby.in_setup == 0


@pytest.mark.parametrize("token", [None, "wrong", "söcret2"])
def test_without_the_admission_token_nobody_gets_in(token: str | None) -> None:
    room = Room(admission="söcret")
    connection, commands = room.arrive(client(admission=token))
    assert is_refused(commands, connection, Code.NOT_ALLOWED)


def test_the_admission_token_is_not_forwarded() -> None:
    room = Room(admission="söcret")
    room.wait(client(admission="söcret"))
    _, commands = room.arrive(server(admission="söcret"))
    for command in commands:
        if isinstance(command, Send):
            assert b"admission" not in command.data


@given(st.lists(st.integers(1, 400)))
def test_any_split_of_a_setup_gives_the_same_commands(cuts: list[int]) -> None:
    room = Room()
    first = room.wait(client())
    data = server()
    second = room.connect()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    commands: list[Command] = []
    for start, stop in itertools.pairwise(edges):
        assert commands == []
        commands = room.lobby.receive(second, data[start:stop], 0.0)
    assert paired(commands) == (first, second)


# -- limits ---------------------------------------------------------------


def test_a_fifth_waiting_end_of_one_role_is_refused() -> None:
    room = Room()
    for number in range(4):
        room.wait(client(f"alice{number}"))
    connection, commands = room.arrive(client("alice4"))
    assert is_refused(commands, connection, Code.LIMIT)
    again, commands = room.arrive(client("alice3"))
    assert again.state is State.WAITING
    assert room.lobby.waiting == 4
    assert commands


def test_a_full_lobby_makes_room_at_the_expense_of_the_busiest_address() -> None:
    room = Room(max_waiting=4)
    crowd = [room.wait(client(f"c{n}"), "busy") for n in range(3)]
    room.wait(client("other"), "quiet")
    newcomer, commands = room.arrive(client("new", LAB), "new")
    assert is_refused(commands, crowd[-1], Code.LIMIT)
    assert newcomer.state is State.WAITING
    assert room.lobby.waiting == 4
    late, commands = room.arrive(client("new2", LAB), "new")
    assert is_refused(commands, late, Code.LIMIT)
    # Who is paired at once needs no room.
    partner, commands = room.arrive(server(), "elsewhere")
    assert paired(commands) == (crowd[0], partner)


def test_what_a_middle_keeps_of_a_waiting_end_is_bounded() -> None:
    def setup(filling: int, hops: int) -> bytes:
        # Fields that a middle does not know are kept too, since they are forwarded as they came.
        info = CommonUniqueInfo(OFFICE, "a" * 255, "client-end").body()
        info = info[:-1] + b',"more":"' + b"x" * filling + b'"}'
        path = [Hop("b" * 255, "client-end", "c" * 255, "a" * 32)]
        path += [Hop(f"{n}" * 255, "middle", "d" * 255, "b" * 32) for n in range(hops - 1)]
        return encode_body(MessageType.COMMON_UNIQUE_INFO, info) + encode(
            TopologyExchange(tuple(path))
        )

    assert len(setup(0, 7)) < MAX_KEPT // 1.5
    rooms = [Room() for _ in range(100)]
    tracemalloc.start()
    for room in rooms:
        room.wait(setup(2000, 7))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(rooms) < 1.5 * MAX_KEPT
    for filling, hops in ((8000, 1), (5000, 7), (16_000, 1)):
        arrived, commands = Room().arrive(setup(filling, hops))
        assert is_refused(commands, arrived, Code.LIMIT)


def test_one_address_may_have_its_own_limit() -> None:
    room = Room(max_waiting_per_address=1)
    room.wait(client("a"), "here")
    room.wait(client("b"), "there")
    connection, commands = room.arrive(client("c"), "here")
    assert is_refused(commands, connection, Code.LIMIT)


def test_too_many_connections_in_setup_drop_one_of_the_busiest_address() -> None:
    room = Room(max_in_setup=3)
    room.connect("quiet")
    silent = [room.connect("flood") for _ in range(2)]
    newcomer = MiddleConnection("new")
    commands = room.lobby.connected(newcomer, 1.0)
    (dropped,) = (each for each in silent if each.state is State.ENDED)
    assert is_refused(commands, dropped, Code.LIMIT)
    assert room.lobby.in_setup == 3
    assert room.lobby.receive(newcomer, client(), 1.0) == []


def test_one_in_setup_outlasts_others_of_its_address_that_came_later() -> None:
    # Each time it stays with a chance of one third; that it never does is out of the question.
    for _ in range(200):
        room = Room(max_in_setup=10)
        first = room.connect("site")
        for _ in range(20):
            room.lobby.connected(MiddleConnection("site"), 0.0)
        if first.state is State.NEW:
            return
    raise AssertionError("the oldest always goes")


def test_a_site_with_many_ipv6_addresses_does_not_drop_another() -> None:
    room = Room(max_in_setup=10)
    honest = [room.connect("2001:db8:1::1") for _ in range(2)]
    for number in range(100):
        room.lobby.connected(MiddleConnection(f"2001:db8:2::{number:x}"), 0.0)
    assert {each.state for each in honest} == {State.NEW}


def test_shutting_down_sends_away_everybody_who_is_not_paired() -> None:
    room = Room()
    room.pair()
    new, waiting = room.connect(), room.wait(client())
    commands = room.lobby.shut_down()
    assert is_refused(commands[:2], new, Code.SHUTDOWN)
    assert is_refused(commands[2:], waiting, Code.SHUTDOWN)
    assert (room.lobby.in_setup, room.lobby.waiting, room.lobby.pairs) == (0, 0, 1)


def common_number(number: int) -> str:
    return derive_common(b"r" * 32, str(number))


def test_a_waiting_end_takes_little_memory() -> None:
    room = Room()
    tracemalloc.start()
    for number in range(1000):
        room.wait(client("a", common_number(number)))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 1000 < 4096


def test_ten_thousand_ends_of_one_address_wait_and_one_more_is_refused() -> None:
    room = Room()
    for number in range(10_000):
        room.wait(client("a", common_number(number)), "127.0.0.1")
    connection, commands = room.arrive(client(common=LAB), "127.0.0.1")
    assert is_refused(commands, connection, Code.LIMIT)
    assert len(room.lobby.deadline_passed(15.0)) == 10_000


def test_a_crowd_that_connects_before_anybody_speaks_gets_in() -> None:
    room = Room()
    crowd = [room.connect("127.0.0.1") for _ in range(1000)]
    for number, connection in enumerate(crowd):
        assert room.lobby.receive(connection, client("a", common_number(number)), 1.0) == []
    assert room.lobby.waiting == 1000


def test_nothing_is_kept_of_a_pair_but_its_partner() -> None:
    room = Room()
    one, other = room.pair()
    assert (one.info, one.raw_info, one.hops) == (None, b"", ())
    assert one.partner is other
    room.lobby.lost(other, 1.0)
    assert one.partner is None


# -- the table ------------------------------------------------------------


def test_a_message_that_the_table_does_not_list_is_refused() -> None:
    for state in State:
        for happened in Input:
            if (state, happened) not in TABLE:
                with pytest.raises(RemoteProtocolError):
                    step(TABLE, state, happened)
