"""TLS that can be taken off its carrier: nothing lost, nothing taken for the earlier stage."""

from __future__ import annotations

import socket
from collections.abc import Callable
from random import Random

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.net.deferreds import problem_of
from tunnelkit.errors import DialError, DialTimeout, LocalProtocolError, TunnelkitError
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.relay import join
from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier, TransportCarrier
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.net.tls.engine import TlsEngine
from tunnelkit.net.tls.stream import TlsStream, Unwrapped
from tunnelkit.policy.keys import Authority
from tunnelkit.testing import TestClock
from tunnelkit.testing.pipe import Pipe, seeded_chunks

AUTHORITY = Authority.create()
CONTEXTS = {
    name: TlsContext(AUTHORITY.issue(name).credentials, (b"stage/1",)) for name in ("a", "b")
}
PLAIN = b"the next stage, in clear\n" * 40


class Clear:
    """The next stage without TLS."""

    def __init__(self) -> None:
        self.got = b""

    def carrier_received(self, view: memoryview) -> None:
        self.got += view

    def carrier_writable(self) -> None:
        """One write is enough here."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """The other end has had enough."""


class Party:
    """One end: speaks TLS, takes it off, and goes on at once with the next stage: clear bytes, or
    TLS in the role that ``next_client`` gives."""

    def __init__(self, shared: Shared, carrier: Carrier, name: str, client: bool) -> None:
        self.shared = shared
        self.name = name
        self.next_client: bool | None = None
        self.stage = 0
        self.got = [b""]
        self.ready = [False]
        self.answers = True
        self.lost: TunnelkitError | str | None = None
        self.unwrapped: Deferred[Unwrapped] | None = None
        self.bare: Unwrapped | None = None
        self.clear = Clear()
        self.begin(carrier, client, b"")

    def begin(self, carrier: Carrier, client: bool, leftover: bytes) -> None:
        engine = TlsEngine(CONTEXTS[self.name], client)
        self.stream = TlsStream(self.shared, carrier, engine, self, removable=True)
        if not self.stage:
            carrier.start(self.stream)
        self.stream.start(leftover)

    def tls_ready(self) -> None:
        self.ready[self.stage] = True

    def tls_received(self, view: memoryview) -> None:
        self.got[self.stage] += view

    def tls_writable(self) -> None:
        """One batch is enough here."""

    def tls_ended(self) -> None:
        if self.answers:
            self.unwrap()

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        self.lost = reason

    def unwrap(self) -> Deferred[Unwrapped]:
        if self.unwrapped is None:
            self.unwrapped = self.stream.unwrap()
            self.unwrapped.addCallback(self.go_on)
        return self.unwrapped

    def go_on(self, bare: Unwrapped) -> Unwrapped:
        self.bare = bare
        self.stage += 1
        self.got.append(b"")
        self.ready.append(False)
        if self.next_client is None:
            self.clear.got += bare.leftover
            assert bare.carrier.write(PLAIN) == len(PLAIN)
            bare.carrier.hand_over(self.clear)
            bare.carrier.resume_reading()
        else:
            self.begin(bare.carrier, self.next_client, bare.leftover)
        return bare

    def is_through(self) -> bool:
        """The next stage has begun, or its bytes are there."""
        if self.next_client is None:
            return len(self.clear.got) >= len(PLAIN)
        return self.stage == 1 and self.ready[1]


LAST_WORDS = b"last words" * 3000
"""More than a record, less than a pipe holds."""


def ready(*parties: Party) -> Callable[[], bool]:
    return lambda: all(party.ready[0] for party in parties)


def through(*parties: Party) -> Callable[[], bool]:
    return lambda: all(party.is_through() for party in parties)


def part_ways(a: Party, b: Party, both: bool) -> None:
    """Both say something, then one ends TLS, or both at once."""
    for party in (a, b):
        party.stream.send(memoryview(LAST_WORDS))
    a.unwrap()
    if both:
        b.unwrap()


def check_next_stage(a: Party, b: Party) -> None:
    for party in (a, b):
        assert party.lost is None
        assert party.got[0] == LAST_WORDS
        assert party.clear.got == (PLAIN if party.next_client is None else b"")


def in_memory(seed: int, a_is_client: bool) -> tuple[TestClock, Party, Party]:
    """Two parties on a pipe that cuts what it carries anywhere; the first handshake is over."""
    clock = TestClock()
    pipe = Pipe(clock, chunks=seeded_chunks(seed, 3000)).connect(Protocol(), Protocol())
    shared = Shared.of(clock)
    a = Party(shared, TransportCarrier(pipe.first), "a", a_is_client)
    b = Party(shared, TransportCarrier(pipe.second), "b", not a_is_client)
    clock.run_until(ready(a, b))
    return clock, a, b


ROLES = pytest.mark.parametrize("a_is_client", [True, False])
BOTH = pytest.mark.parametrize("both", [False, True], ids=["one ends", "both end"])
NEXT = pytest.mark.parametrize("a_next", [None, True, False], ids=["clear", "a client", "b client"])


@ROLES
@BOTH
@NEXT
def test_what_follows_close_notify_belongs_to_the_next_stage(
    a_is_client: bool, both: bool, a_next: bool | None
) -> None:
    # With the test on real sockets: 1,000 ways to split it.
    for seed in range(60):
        clock, a, b = in_memory(seed, a_is_client)
        if a_next is not None:
            a.next_client, b.next_client = a_next, not a_next
        part_ways(a, b, both)
        clock.run_until(through(a, b))
        check_next_stage(a, b)


@ROLES
def test_a_peer_that_never_answers_is_cut_off_after_five_seconds(a_is_client: bool) -> None:
    clock, a, b = in_memory(1, a_is_client)
    b.answers = False
    unwrapped = a.unwrap()
    clock.run_for(4.9)
    assert a.bare is None
    clock.run_for(0.2)
    assert "did not end its TLS session in time" in str(problem_of(unwrapped, DialTimeout))
    assert a.lost is None


def test_a_connection_that_ends_while_tls_is_taken_off_says_why() -> None:
    clock, a, b = in_memory(1, True)
    b.answers = False
    unwrapped = a.unwrap()
    b.stream.abort()
    clock.settle()
    assert str(problem_of(unwrapped, DialError)) != ""
    assert a.lost is None


def test_only_a_removable_stream_can_be_taken_off_and_only_once() -> None:
    clock, a, _ = in_memory(1, True)
    a.unwrap()
    with pytest.raises(LocalProtocolError, match="once"):
        a.stream.unwrap()
    clock.run_until(lambda: a.bare)
    with pytest.raises(LocalProtocolError):
        a.stream.unwrap()
    plain = TlsStream(Shared.of(clock), TransportCarrier(Pipe(clock).first), a.stream.engine, a)
    with pytest.raises(LocalProtocolError, match="cannot be taken off"):
        plain.unwrap()


class OnSockets(TestCase):
    """The same on real sockets, and two connections joined by a relay afterwards."""

    timeout = 60

    def setUp(self) -> None:
        self.shared = Shared.of(reactor)
        self.open: list[socket.socket] = []

    def tearDown(self) -> None:
        for sock in self.open:
            if sock.fileno() >= 0:
                self.shared.poller.remove(sock.fileno())
                sock.close()

    def pair(self) -> list[SocketCarrier]:
        pair = socket.socketpair()
        self.open += pair
        for sock in pair:
            sock.setblocking(False)
        return [SocketCarrier(self.shared.poller, sock) for sock in pair]

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await deferLater(reactor, 0.001)

    def test_what_follows_close_notify_belongs_to_the_next_stage(self) -> Deferred[None]:
        return ensureDeferred(self.many_times())

    async def many_times(self) -> None:
        for seed in range(280):
            choice = Random(seed).choice
            a_is_client, both = choice([True, False]), choice([True, False])
            ends = self.pair()
            a = Party(self.shared, ends[0], "a", a_is_client)
            b = Party(self.shared, ends[1], "b", not a_is_client)
            if choice([True, False]):
                a.next_client = choice([True, False])
                b.next_client = not a.next_client
            await self.until(ready(a, b))
            part_ways(a, b, both)
            await self.until(through(a, b))
            check_next_stage(a, b)
            for end in ends:
                end.abort()

    def test_two_that_were_unwrapped_can_be_joined(self) -> Deferred[None]:
        return ensureDeferred(self.join_two())

    async def join_two(self) -> None:
        """A server ends TLS with two clients and joins them; one has spoken already."""
        left, server_left = self.pair()
        right, server_right = self.pair()
        clients = [Party(self.shared, left, "a", True), Party(self.shared, right, "b", True)]
        clients[0].next_client, clients[1].next_client = True, False
        servers = [
            Waiting(self.shared, server_left, "a", False),
            Waiting(self.shared, server_right, "b", False),
        ]
        await self.until(ready(*clients, *servers))
        unwrapped = [await server.unwrap() for server in servers]
        relay = join(
            self.shared.poller,
            unwrapped[0].carrier,
            unwrapped[1].carrier,
            lambda *_: None,
            to_a=unwrapped[1].leftover,
            to_b=unwrapped[0].leftover,
        )
        relay.start()
        await self.until(through(*clients))
        assert clients[0].stream.engine.peer_name == "b"
        clients[1].stream.send(memoryview(b"through the relay"))
        await self.until(lambda: clients[0].got[1] == b"through the relay")
        relay.abort("over")
        for client in clients:
            client.stream.abort()


class Waiting(Party):
    """Leaves the bare carrier to somebody else."""

    def go_on(self, bare: Unwrapped) -> Unwrapped:
        self.bare = bare
        return bare
