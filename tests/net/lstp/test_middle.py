"""The LSTP middle on real sockets and in memory: pairs, limits, what it holds."""

from __future__ import annotations

import hashlib
import os
import select
import socket
from functools import partial
from ipaddress import ip_network
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tunnelkit.core.decision import Decision
from tunnelkit.core.lstp.middle import Lobby
from tunnelkit.net.lstp.middle import LstpMiddleFactory
from tunnelkit.testing import Pipe, TestClock, seeded_chunks
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.lstp import (
    CommonUniqueInfo,
    Error,
    Hop,
    PropertyExchange,
    TopologyExchange,
    decode,
    derive_common,
    encode,
)

COMMON = derive_common(b"r" * 32, "office")
BIND = Decision("", "bind", "tcp", "127.0.0.1", 0, "test")


def setup_of(name: str, role: str, common: str = COMMON) -> bytes:
    """The setup information of one end."""
    hop = Hop(name, role, "an address", hashlib.md5(name.encode()).hexdigest())
    return encode(CommonUniqueInfo(common, name, role)) + encode(TopologyExchange((hop,)))


CLIENT = setup_of("alice", "client-end")
SERVER = setup_of("bob", "server-end")


def messages(data: bytes) -> tuple[list[Any], bytes]:
    """The setup messages that a middle has sent, and the bytes behind them."""
    reader = FrameReader()
    reader.feed(data)
    found: list[Any] = []
    while sum(isinstance(message, TopologyExchange) for message in found) < 1:
        frame = reader.next_frame()
        if frame is None:
            return found, b""
        found.append(decode(frame.type, frame.flags, bytes(frame.body)))
    return found, bytes(reader.leftover)


def can_be_read(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


class End:
    """One end on a real socket; what it gets is read when somebody waits for it."""

    def __init__(self, port: int, data: bytes = b"") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.sendall(data)
        self.sock.setblocking(False)
        self.got = b""
        self.ended = ""

    def poll(self) -> None:
        """Take what is there."""
        try:
            while data := self.sock.recv(1 << 16):
                self.got += data
            self.ended = "end"
        except BlockingIOError:
            pass
        except OSError:
            self.ended = "reset"


def until(condition: Any) -> Deferred[None]:
    """Fires once ``condition()`` holds; the test's time limit bounds it."""
    done: Deferred[None] = Deferred()

    def check() -> None:
        if condition():
            done.callback(None)
        else:
            reactor.callLater(0.002, check)

    check()
    return done


class MiddleTests(TestCase):
    """On real sockets, the fast way."""

    timeout = 20

    def setUp(self) -> Any:
        return ensureDeferred(self.set_up())

    async def set_up(self) -> None:
        await until(lambda: True)
        self.clock = 1000.0
        self.step = 0.0
        self.ends: list[End] = []
        self.middle = LstpMiddleFactory(reactor, Lobby("m", "here"), clock=self.now)
        self.port = await self.open()

    def now(self) -> float:
        self.clock += self.step
        return self.clock

    async def open(self) -> int:
        listener = self.middle.listen(BIND)
        self.addCleanup(listener.close)
        return int(listener.address.rpartition(":")[2])

    def tearDown(self) -> Any:
        return ensureDeferred(self.tear_down())

    async def tear_down(self) -> None:
        for end in self.ends:
            end.sock.close()
        await until(lambda: self.middle.lobby.in_setup == self.middle.lobby.waiting == 0)
        self.middle.abort_pairs()
        await self.middle.shut_down()

    def end(self, data: bytes = b"") -> End:
        end = End(self.port, data)
        self.ends.append(end)
        return end

    async def got(self, end: End, condition: Any) -> None:
        """Wait until what ``end`` has got meets a condition."""

        def check() -> bool:
            end.poll()
            return bool(condition(end))

        await until(check)

    async def pair(self) -> tuple[End, End]:
        """Two ends that have each other's setup."""
        first = self.end(CLIENT)
        await until(lambda: self.middle.status().waiting == 1)
        second = self.end(SERVER)
        for end in (first, second):
            await self.got(end, lambda end: len(messages(end.got)[0]) == 2)
        return first, second

    async def test_each_end_gets_the_others_setup_with_the_middles_hop(self) -> None:
        first, second = await self.pair()
        for end, name, setup in ((first, "bob", SERVER), (second, "alice", CLIENT)):
            (info, topology), rest = messages(end.got)
            assert (info.unique, [hop.name for hop in topology.hops]) == (name, [name, "m"])
            assert topology.hops[1].role == "middle"
            assert setup.startswith(end.got[: setup.index(b"}") + 1])
            assert rest == b""

    async def test_bytes_of_a_pair_pass_unchanged_both_ways(self) -> None:
        first, second = await self.pair()
        begin = [len(end.got) for end in (first, second)]
        first.sock.send(b"\x16\x03\x01 hello")
        second.sock.send(b"\x16\x03\x03 there")
        await self.got(first, lambda end: end.got[begin[0] :] == b"\x16\x03\x03 there")
        await self.got(second, lambda end: end.got[begin[1] :] == b"\x16\x03\x01 hello")
        assert self.middle.status().bytes_relayed == 18
        first.sock.close()
        second.sock.close()
        await until(lambda: self.middle.status().pairs == 0)
        status = self.middle.status()
        assert (status.pairs_ever, status.bytes_relayed) == (1, 18)

    async def test_garbage_gets_an_error_and_the_end_of_the_connection(self) -> None:
        end = self.end(b"GET / HTTP/1.1\r\n\r\n")
        await self.got(end, lambda end: end.ended)
        (error,), _ = messages(end.got)
        assert isinstance(error, Error)
        assert error.fatal

    async def test_bytes_before_the_partner_are_an_error(self) -> None:
        end = self.end(CLIENT)
        await until(lambda: self.middle.status().waiting == 1)
        end.sock.send(b"too early")
        await self.got(end, lambda end: end.ended)
        assert isinstance(messages(end.got)[0][0], Error)
        assert self.middle.status().waiting == 0

    async def test_a_waiting_end_that_goes_away_is_forgotten(self) -> None:
        end = self.end(CLIENT)
        await until(lambda: self.middle.status().waiting == 1)
        end.sock.close()
        await until(lambda: self.middle.status().waiting == 0)

    async def test_the_losing_of_one_end_ends_the_other(self) -> None:
        first, second = await self.pair()
        first.sock.close()
        await self.got(second, lambda end: end.ended)
        assert self.middle.lobby.pairs in (0, 1)

    async def test_who_was_paired_with_whom_is_in_the_log_when_it_begins_and_ends(self) -> None:
        with capturedLogs() as events:
            first, second = await self.pair()
            first.sock.sendall(b"hello")
            await self.got(second, lambda end: end.got.endswith(b"hello"))
            first.sock.close()
            second.sock.close()
            await until(lambda: any(event.get("event") == "pair-ended" for event in events))
        began, ended = (event for event in events if "event" in event)
        assert (began["event"], ended["event"]) == ("paired", "pair-ended")
        for event in (began, ended):
            assert event["pair"] == 1
            assert (event["first_name"], event["second_name"]) == ("alice", "bob")
            assert event["first"].startswith("127.0.0.1:")
            assert event["second"].startswith("127.0.0.1:")
        assert (ended["bytes_first"], ended["bytes_second"]) == (5, 0)

    async def test_pairs_that_end_while_somebody_reads_what_is_open_do_not_end_that(self) -> None:
        await self.pair()
        await self.pair()
        rows = self.middle.traffic()
        seen = [next(rows).kind]
        assert self.middle.end_one("pair-1")
        await until(lambda: self.middle.status().pairs == 1)
        assert seen + [row.kind for row in rows] == ["pair", "pair"]

    async def test_after_fifteen_seconds_a_waiting_end_hears_something(self) -> None:
        end = self.end(CLIENT)
        await until(lambda: self.middle.status().waiting == 1)
        self.clock += 15.1
        await self.pass_time()
        await self.got(end, lambda end: end.got == encode(PropertyExchange()))

    async def test_one_address_with_all_the_pairs_gives_way_to_others(self) -> None:
        middle = LstpMiddleFactory(
            reactor, Lobby("m", "here", max_in_setup=5), clock=self.now, max_connections=20
        )
        self.addCleanup(middle.abort_pairs)

        def enter(data: bytes, address: str) -> socket.socket:
            near, far = socket.socketpair()
            self.addCleanup(near.close)
            far.setblocking(False)
            near.sendall(data)
            middle.accept(far, (address, 1))
            return near

        for number in range(15):
            common = derive_common(b"r" * 32, f"greedy {number}")
            for name, role in (("alice", "client-end"), ("bob", "server-end")):
                enter(setup_of(name, role, common), f"2001:db8::{number + 1}")
                await until(lambda: middle.status().in_setup == 0)
        assert len(middle._pairs) <= 10
        ends = [enter(CLIENT, "192.0.2.1")]
        await until(lambda: middle.status().waiting == 1)
        ends.append(enter(SERVER, "192.0.2.2"))
        for end in ends:
            end.setblocking(False)
            await until(partial(can_be_read, end))
        honest = [pair for pair in middle._pairs if "192.0.2.1" in pair.holders]
        assert len(honest) == 1
        for number in range(20):
            enter(b"", f"2001:db8::{number + 1}")
        await until(lambda: len(middle._pairs) < 8)
        assert honest[0] in middle._pairs

    async def pass_time(self) -> None:
        """Let the reactor fire the middle's timer now."""
        timer = self.middle._timer
        timer.start(0.0)
        due = timer.due
        await until(lambda: timer.due != due or not timer.running)

    async def test_ten_seconds_without_setup_end_a_connection(self) -> None:
        end = self.end(CLIENT[:-1])
        await until(lambda: self.middle.status().in_setup == 1)
        self.clock += 10.1
        await self.pass_time()
        await self.got(end, lambda end: end.ended)
        assert str(messages(end.got)[0][0].code) == "timed-out"

    async def test_a_pair_without_a_byte_for_ten_seconds_is_ended(self) -> None:
        first, second = await self.pair()
        self.clock += 10.1
        await self.pass_time()
        for end in (first, second):
            await self.got(end, lambda end: end.ended == "reset")
        assert self.middle.status().pairs == 0

    async def test_a_pair_that_has_seen_bytes_stays(self) -> None:
        first, second = await self.pair()
        first.sock.send(b"\x16")
        await until(lambda: self.middle.status().bytes_relayed == 1)
        self.clock += 10.1
        await self.pass_time()
        second.sock.send(b"\x17")
        await self.got(first, lambda end: end.got.endswith(b"\x17"))

    async def test_a_pair_with_bytes_stays_when_the_limit_is_hit_to_the_millisecond(self) -> None:
        # Every look at the clock is a millisecond later than the one before.
        self.step = 0.001
        first, second = await self.pair()
        first.sock.send(b"\x16")
        await until(lambda: self.middle.status().bytes_relayed == 1)
        due = self.middle.lobby.next_deadline()
        assert due is not None
        self.clock, self.step = due, 0.0
        await self.pass_time()
        second.sock.send(b"\x17")
        await self.got(first, lambda end: end.got.endswith(b"\x17"))

    async def test_shutting_down_waits_for_the_pairs(self) -> None:
        first, second = await self.pair()
        waiting = self.end(setup_of("carol", "client-end", derive_common(b"r" * 32, "lab")))
        await until(lambda: self.middle.status().waiting == 1)
        done = self.middle.shut_down()
        await self.got(waiting, lambda end: end.ended)
        assert str(messages(waiting.got)[0][0].code) == "shutdown"
        assert not done.called
        first.sock.close()
        second.sock.close()
        await done


class EndpointMiddleTests(MiddleTests):
    """The same over an ordinary Twisted endpoint."""

    async def open(self) -> int:
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.middle)
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number


class AdmissionTests(TestCase):
    """Where connections may come from."""

    def test_only_admitted_networks_get_in(self) -> None:
        admit = [ip_network("192.0.2.0/24"), ip_network("fe80::/10")]
        clock = TestClock()
        middle = LstpMiddleFactory(clock, Lobby("m", "here"), clock=clock.seconds, admit=admit)
        cases = {"192.0.2.7": True, "192.0.3.7": False, "fe80::1%eth0": True, "2001:db8::1": False}
        for host, admitted in cases.items():
            protocol = middle.buildProtocol(IPv4Address("TCP", host, 1))
            assert (protocol is not None) is admitted
        assert middle.status().not_admitted == 2

    def test_a_socket_from_elsewhere_is_closed_unread(self) -> None:
        clock = TestClock()
        admit = [ip_network("192.0.2.0/24")]
        middle = LstpMiddleFactory(clock, Lobby("m", "here"), clock=clock.seconds, admit=admit)
        near, far = socket.socketpair()
        middle.accept(near, ("127.0.0.1", 5))
        assert far.recv(1) == b""
        far.close()
        assert middle.status().in_setup == 0


class Talker(Protocol):
    """An end in memory: says its setup, then random bytes, then ends its side."""

    def __init__(self, setup: bytes, size: int) -> None:
        self.setup = setup
        self.plain = os.urandom(size)
        self.got = b""
        self.reason: Failure | None = None
        self.told = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self.setup)

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if not self.told and len(messages(self.got)[0]) == 2:
            self.told = True
            transport: Any = self.transport
            transport.write(self.plain)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.reason = reason


def no_pairs(middle: LstpMiddleFactory) -> bool:
    """Whether the last pair has ended."""
    return middle.status().pairs == 0


class MemoryMiddleTests(TestCase):
    """Over transports that are not sockets."""

    timeout = 20

    def test_pairs_ends_and_carries_their_bytes_under_any_chunking(self) -> None:
        for seed in range(5):
            clock = TestClock()
            middle = LstpMiddleFactory(clock, Lobby("m", "here"), clock=clock.seconds)
            ends = []
            pipes = []
            for setup, size in ((CLIENT, 300_000), (SERVER, 500_000)):
                end = Talker(setup, size)
                pipe = Pipe(clock, chunks=seeded_chunks(seed, 5000), capacity=20_000)
                protocol = middle.buildProtocol(None)
                assert protocol is not None
                pipe.connect(end, protocol)
                ends.append(end)
                pipes.append(pipe)
            a, b = ends

            def all_there(a: Talker = a, b: Talker = b) -> bool:
                return a.got.endswith(b.plain) and b.got.endswith(a.plain)

            clock.run_until(all_there)
            assert max(pipe.second.most_queued for pipe in pipes) < 200_000
            assert messages(a.got)[1] == b.plain
            pipes[0].first.loseConnection()
            clock.run_until(partial(no_pairs, middle))
            clock.run_until(partial(getattr, b, "reason"))

    def test_an_end_that_never_reads_stalls_its_partner(self) -> None:
        clock = TestClock()
        middle = LstpMiddleFactory(clock, Lobby("m", "here"), clock=clock.seconds)
        lazy, busy = Talker(CLIENT, 0), Talker(SERVER, 5_000_000)
        pipes = [Pipe(clock, capacity=20_000) for _ in range(2)]
        for pipe, end in zip(pipes, (lazy, busy), strict=True):
            protocol = middle.buildProtocol(None)
            assert protocol is not None
            pipe.connect(end, protocol)
        clock.run_until(lambda: lazy.told and busy.told)
        pipes[0].first.pauseProducing()
        clock.settle()
        assert pipes[0].second.queued < 300_000
        assert pipes[1].first.queued > 4_000_000
        pipes[0].first.resumeProducing()
        clock.run_until(lambda: lazy.got.endswith(busy.plain))
        middle.abort_pairs()
        clock.settle()
