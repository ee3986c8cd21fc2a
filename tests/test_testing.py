"""The public test helpers behave as the network would: else tests built on them prove nothing."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPullProducer,
    IPushProducer,
    ITCPTransport,
    ITransport,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.peers.lstp_identity import load_identity
from tunnelkit.testing import (
    LossyPipe,
    Pipe,
    PipeEnd,
    Stalled,
    TestClock,
    seeded_chunks,
    throwaway_ca,
)


class Recorder(Protocol):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.chunks: list[int] = []
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.chunks.append(len(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.lost is None
        self.lost = reason


@implementer(IHalfCloseableProtocol)
class HalfCloser(Recorder):
    """A `Recorder` that can live with half a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.halves: list[str] = []

    def readConnectionLost(self) -> None:
        self.halves.append("read")

    def writeConnectionLost(self) -> None:
        self.halves.append("write")


@implementer(IPushProducer)
class Faucet:
    """A push producer that writes whenever it may."""

    def __init__(self, consumer: PipeEnd, piece: int) -> None:
        self.consumer = consumer
        self.piece = piece
        self.open = True
        self.calls: list[str] = []

    def run(self) -> None:
        while self.open:
            self.consumer.write(bytes(self.piece))

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        self.open = False

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self.open = True
        self.run()

    def stopProducing(self) -> None:
        self.calls.append("stop")
        self.open = False


@implementer(IPullProducer)
class Pieces:
    """A pull producer of ten numbered pieces."""

    def __init__(self, consumer: PipeEnd) -> None:
        self.consumer = consumer
        self.given = 0

    def resumeProducing(self) -> None:
        self.consumer.write(b"%d" % self.given)
        self.given += 1
        if self.given == 10:
            self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.given = -1


def reason_of(protocol: Recorder) -> type[BaseException] | None:
    return None if protocol.lost is None else protocol.lost.type


def half_closers(pipe: Pipe) -> tuple[HalfCloser, HalfCloser]:
    first, second = HalfCloser(), HalfCloser()
    pipe.connect(first, second)
    return first, second


# -- the pipe ------------------------------------------------------------------------------


def test_the_ends_are_tcp_transports() -> None:
    pipe = Pipe()
    half_closers(pipe)
    for interface in (ITransport, ITCPTransport, IConsumer, IPushProducer):
        assert verifyObject(interface, pipe.first)
    assert pipe.first.getPeer() == pipe.second.getHost()
    assert pipe.second.getPeer() == pipe.first.getHost()
    pipe.first.setTcpNoDelay(True)
    pipe.first.setTcpKeepAlive(True)
    assert pipe.first.getTcpNoDelay()
    assert pipe.first.getTcpKeepAlive()
    assert not pipe.second.getTcpNoDelay()


def test_nothing_moves_but_by_the_clock() -> None:
    pipe = Pipe(latency=0.5)
    _, second = half_closers(pipe)
    pipe.first.write(b"hello")
    pipe.clock.settle()
    assert second.received == b""
    pipe.clock.run_for(0.49)
    assert second.received == b""
    pipe.clock.run_for(0.02)
    assert second.received == b"hello"


def test_latency_is_counted_from_each_write() -> None:
    pipe = Pipe(latency=1.0)
    _, second = half_closers(pipe)
    pipe.first.write(b"a")
    pipe.clock.run_for(0.5)
    pipe.first.write(b"b")
    pipe.clock.run_for(0.6)
    assert second.received == b"a"
    pipe.clock.run_for(0.5)
    assert second.received == b"ab"


@settings(max_examples=60, deadline=None)
@given(
    writes=st.lists(st.binary(max_size=5_000), max_size=12),
    seed=st.integers(0, 2**32),
    capacity=st.integers(1, 9_000),
    pauses=st.lists(st.booleans(), max_size=20),
)
def test_any_capacity_chunks_and_pauses_deliver_every_byte_in_order(
    writes: list[bytes], seed: int, capacity: int, pauses: list[bool]
) -> None:
    pipe = Pipe(capacity=capacity, chunks=seeded_chunks(seed, 3_000))
    first, second = half_closers(pipe)
    for data in writes:
        pipe.first.write(data)
        pipe.second.write(data[::-1])
    for pause in pauses:
        if pause:
            pipe.second.pauseProducing()
        else:
            pipe.second.resumeProducing()
        pipe.clock.step()
    pipe.second.resumeProducing()
    pipe.first.loseWriteConnection()
    pipe.clock.settle()
    assert second.received == b"".join(writes)
    assert first.received == b"".join(data[::-1] for data in writes)
    assert second.halves == ["read"]
    assert all(size <= 3_000 for size in second.chunks)


def test_the_same_seed_gives_the_same_chunks() -> None:
    def chunks(seed: int) -> list[int]:
        pipe = Pipe(chunks=seeded_chunks(seed))
        _, second = half_closers(pipe)
        pipe.first.write(bytes(1_000_000))
        pipe.clock.settle()
        assert sum(second.chunks) == 1_000_000
        return second.chunks

    assert chunks(7) == chunks(7)
    assert chunks(7) != chunks(8)
    assert min(chunks(7)) < 10
    assert max(chunks(7)) > 20_000


def test_a_far_end_that_does_not_read_pauses_the_producer_and_bounds_what_is_queued() -> None:
    pipe = Pipe(capacity=10_000, high_water=5_000)
    _, second = half_closers(pipe)
    faucet = Faucet(pipe.first, 1_000)
    pipe.first.registerProducer(faucet, True)
    pipe.second.pauseProducing()
    faucet.run()
    pipe.clock.settle()
    assert faucet.calls[-1] == "pause"
    assert pipe.on_wire_to(pipe.second) == 10_000
    assert pipe.first.queued == 2_000
    before = pipe.first.sent
    pipe.clock.run_for(100)
    assert pipe.first.sent == before
    assert second.received == b""

    pipe.second.resumeProducing()
    pipe.clock.run_until(lambda: len(second.received) > 100_000)
    assert faucet.calls.count("resume") > 5
    assert pipe.first.most_queued <= 6_000


def test_a_pull_producer_is_asked_each_time_the_queue_is_empty() -> None:
    pipe = Pipe(capacity=2)
    _, second = half_closers(pipe)
    pieces = Pieces(pipe.first)
    pipe.first.registerProducer(pieces, False)
    pipe.second.pauseProducing()
    pipe.clock.settle()
    assert pieces.given == 3  # two on the wire, one that found no room
    pipe.second.resumeProducing()
    pipe.clock.settle()
    assert second.received == b"0123456789"


def test_two_producers_are_refused_and_one_that_is_late_is_stopped() -> None:
    pipe = Pipe()
    half_closers(pipe)
    faucet = Faucet(pipe.first, 1)
    pipe.first.registerProducer(faucet, True)
    with pytest.raises(RuntimeError):
        pipe.first.registerProducer(Faucet(pipe.first, 1), True)
    pipe.cut()
    assert faucet.calls == ["stop"]
    late = Faucet(pipe.first, 1)
    pipe.first.registerProducer(late, True)
    assert late.calls == ["stop"]


def test_closing_waits_for_the_producer() -> None:
    pipe = Pipe()
    first, second = half_closers(pipe)
    pipe.first.registerProducer(Faucet(pipe.first, 1), True)
    pipe.first.loseConnection()
    pipe.clock.settle()
    assert first.lost is None
    pipe.first.write(b"last words")
    pipe.first.unregisterProducer()
    pipe.clock.settle()
    assert reason_of(first) is ConnectionDone
    assert second.received == b"last words"
    assert second.halves == ["read"]


def test_half_close_leaves_the_other_direction_open() -> None:
    pipe = Pipe(capacity=4)
    first, second = half_closers(pipe)
    pipe.first.write(b"the question")
    pipe.first.loseWriteConnection()
    pipe.clock.settle()
    assert (first.halves, second.halves) == (["write"], ["read"])
    pipe.first.write(b"ignored")
    pipe.second.write(b"a long answer")
    pipe.second.loseConnection()
    pipe.clock.settle()
    assert second.received == b"the question"
    assert first.received == b"a long answer"
    assert first.halves == ["write", "read"]
    assert reason_of(second) is ConnectionDone
    assert first.lost is None
    pipe.first.loseConnection()
    assert reason_of(first) is ConnectionDone


def test_a_half_close_waits_for_what_is_queued() -> None:
    pipe = Pipe(capacity=4)
    first, second = half_closers(pipe)
    pipe.second.pauseProducing()
    pipe.first.write(b"more than the wire holds")
    pipe.first.loseWriteConnection()
    pipe.clock.settle()
    assert first.halves == []
    pipe.second.resumeProducing()
    pipe.clock.settle()
    assert first.halves == ["write"]
    assert second.received == b"more than the wire holds"


def test_half_close_ends_a_protocol_that_does_not_know_it() -> None:
    pipe = Pipe()
    first, second = HalfCloser(), Recorder()
    pipe.connect(first, second)
    pipe.first.write(b"bye")
    pipe.first.loseWriteConnection()
    pipe.clock.settle()
    assert second.received == b"bye"
    assert reason_of(second) is ConnectionDone
    assert first.halves == ["write", "read"]


def test_a_close_delivers_everything_before_the_end() -> None:
    pipe = Pipe(capacity=3)
    first, second = Recorder(), Recorder()
    pipe.connect(first, second)
    pipe.first.write(b"everything")
    pipe.first.loseConnection()
    assert first.lost is None
    pipe.clock.settle()
    assert second.received == b"everything"
    assert reason_of(first) is ConnectionDone
    assert reason_of(second) is ConnectionDone


def test_an_abort_is_unclean_on_both_sides_and_loses_what_was_on_its_way() -> None:
    pipe = Pipe(latency=1.0)
    first, second = half_closers(pipe)
    pipe.first.write(b"lost")
    pipe.clock.settle()
    pipe.first.abortConnection()
    assert first.lost is None
    pipe.clock.run_for(5)
    assert reason_of(first) is ConnectionAborted
    assert reason_of(second) is ConnectionLost
    assert second.received == b""
    assert second.halves == []


def test_an_abort_is_not_noticed_by_an_end_that_neither_reads_nor_writes() -> None:
    pipe = Pipe()
    _, second = half_closers(pipe)
    pipe.second.pauseProducing()
    pipe.first.abortConnection()
    pipe.clock.settle()
    assert second.lost is None
    pipe.second.write(b"anybody there?")
    pipe.clock.settle()
    assert reason_of(second) is ConnectionLost


def test_writing_to_an_end_that_has_closed_is_answered_with_a_reset() -> None:
    pipe = Pipe()
    _, second = half_closers(pipe)
    pipe.first.loseConnection()
    pipe.clock.settle()
    assert second.halves == ["read"]
    assert second.lost is None
    pipe.second.write(b"too late")
    pipe.clock.settle()
    assert reason_of(second) is ConnectionLost


def test_a_cut_ends_both_sides_uncleanly_with_a_prefix_delivered() -> None:
    pipe = Pipe(chunks=seeded_chunks(3, 100))
    first, second = half_closers(pipe)
    data = bytes(range(256)) * 40
    pipe.first.write(data)
    pipe.clock.run_until(lambda: len(second.received) > 1_000)
    pipe.cut()
    pipe.clock.settle()
    assert reason_of(first) is ConnectionLost
    assert reason_of(second) is ConnectionLost
    assert data.startswith(bytes(second.received))
    assert len(second.received) < len(data)


def test_in_a_stall_nobody_is_told_anything_until_it_goes_on() -> None:
    pipe = Pipe(capacity=100)
    first, second = half_closers(pipe)
    pipe.stall()
    pipe.first.write(bytes(500))
    pipe.clock.run_for(3_600)
    assert second.received == b""
    assert first.lost is None
    assert pipe.first.queued == 400
    pipe.go_on()
    pipe.clock.settle()
    assert len(second.received) == 500


def test_what_a_protocol_raises_comes_out_of_the_clock() -> None:
    class Broken(Recorder):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            raise ValueError("a bug")

    pipe = Pipe(chunks=lambda: 1)
    second = Broken()
    pipe.connect(Recorder(), second)
    pipe.first.write(b"xy")
    with pytest.raises(ValueError, match="a bug"):
        pipe.clock.settle()
    with pytest.raises(ValueError, match="a bug"):
        pipe.clock.settle()
    assert second.received == b"xy"


def test_only_bytes_can_be_written_and_a_wire_needs_room() -> None:
    pipe = Pipe()
    half_closers(pipe)
    text: Any = "text"
    with pytest.raises(TypeError):
        pipe.first.write(text)
    with pytest.raises(ValueError, match="at least one byte"):
        Pipe(capacity=0)


# -- datagrams -----------------------------------------------------------------------------


class UdpFlows(DatagramProtocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.sources: set[tuple[str, int]] = set()
        self.stopped = False

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append(datagram)
        self.sources.add(addr)

    def stopProtocol(self) -> None:
        self.stopped = True


def send_numbers(pipe: LossyPipe, count: int) -> list[int]:
    second = UdpFlows()
    pipe.connect(UdpFlows(), second)
    for number in range(count):
        pipe.first.write(b"%d" % number, pipe.second.address)
        pipe.clock.run_for(0.01)
    pipe.clock.run_for(10)
    return [int(datagram) for datagram in second.received]


def test_a_pipe_without_faults_delivers_each_datagram_once_in_order() -> None:
    pipe = LossyPipe(latency=0.3)
    assert send_numbers(pipe, 50) == list(range(50))
    assert (pipe.sent, pipe.delivered, pipe.lost) == (50, 50, 0)
    assert verifyObject(IUDPTransport, pipe.first)


def test_loss_reordering_and_duplication_happen_as_often_as_asked_for() -> None:
    pipe = LossyPipe(seed=5, loss=0.1, reorder=0.2, duplicate=0.3)
    arrived = send_numbers(pipe, 1_000)
    assert 60 < pipe.lost < 140
    assert 130 < pipe.reordered < 230
    assert 200 < pipe.duplicated < 340
    assert len(arrived) == pipe.delivered == 1_000 - pipe.lost + pipe.duplicated
    assert len(set(arrived)) == 1_000 - pipe.lost
    assert arrived != sorted(arrived)


def test_the_same_seed_gives_the_same_faults() -> None:
    def arrivals(seed: int) -> list[int]:
        return send_numbers(LossyPipe(seed=seed, loss=0.2, reorder=0.2, duplicate=0.2), 200)

    assert arrivals(1) == arrivals(1)
    assert arrivals(1) != arrivals(2)


def test_datagrams_that_are_too_large_or_go_elsewhere_are_lost() -> None:
    pipe = LossyPipe(mtu=100)
    second = UdpFlows()
    pipe.connect(UdpFlows(), second)
    pipe.first.write(bytes(101), pipe.second.address)
    pipe.first.write(b"x", ("203.0.113.9", 9))
    pipe.first.write(b"fits", pipe.second.address)
    pipe.clock.settle()
    assert second.received == [b"fits"]
    assert second.sources == {pipe.first.address}
    with pytest.raises(ValueError, match="at most 65507"):
        pipe.first.write(bytes(65_508), pipe.second.address)


def test_a_connected_datagram_end_hears_only_the_other_one_and_one_that_stopped_nothing() -> None:
    pipe = LossyPipe()
    first, second = UdpFlows(), UdpFlows()
    pipe.connect(first, second)
    with pytest.raises(ValueError, match="not connected"):
        pipe.first.write(b"whereto?")
    pipe.first.connect(*pipe.second.address)
    with pytest.raises(ValueError, match="cannot send"):
        pipe.first.write(b"elsewhere", ("203.0.113.9", 9))
    pipe.second.connect("203.0.113.9", 9)
    pipe.first.write(b"not for you")
    pipe.clock.settle()
    assert second.received == []
    pipe.first.stopListening()
    assert first.stopped
    pipe.second.protocol = None
    pipe.first.write(b"nobody listens")
    pipe.clock.settle()
    assert pipe.lost == 2


# -- the clock -----------------------------------------------------------------------------


def test_each_call_sees_its_own_time() -> None:
    clock = TestClock()
    seen: list[float] = []
    for delay in (3, 1, 2):
        clock.callLater(delay, lambda: seen.append(clock.seconds()))
    clock.run_for(2.5)
    assert seen == [1, 2]
    assert clock.seconds() == 2.5
    assert clock.step()
    assert seen == [1, 2, 3]
    assert not clock.step()


def test_waiting_for_what_cannot_happen_fails_and_says_why() -> None:
    clock = TestClock()
    with pytest.raises(Stalled, match="nothing is left to run"):
        clock.run_until(lambda: False)
    clock.callLater(61, lambda: None)
    with pytest.raises(Stalled, match="after 60"):
        clock.run_until(lambda: False)

    def again() -> None:
        clock.callLater(0, again)

    again()
    with pytest.raises(Stalled, match="no end"):
        clock.settle()


def test_a_deferred_can_be_waited_for() -> None:
    clock = TestClock()
    good: Deferred[str] = Deferred()
    bad: Deferred[str] = Deferred()
    clock.callLater(5, good.callback, "done")
    clock.callLater(6, bad.errback, KeyError("gone"))
    assert clock.result_of(good) == "done"
    assert clock.seconds() == 5
    with pytest.raises(KeyError, match="gone"):
        clock.result_of(bad)


# -- identities ----------------------------------------------------------------------------


def test_a_throwaway_identity_file_works_in_an_ordinary_tls_program(tmp_path: Path) -> None:
    ca = throwaway_ca()
    files = {name: ca.identity_file(name, tmp_path) for name in ("alice", "bob")}
    assert stat.S_IMODE(files["alice"].stat().st_mode) == 0o600
    identities = {name: load_identity(path) for name, path in files.items()}
    assert identities["alice"].secret == identities["bob"].secret
    assert identities["alice"].common("t") == identities["bob"].common("t")

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = identities["alice"].context(client=True).wrap_bio(incoming, outgoing)
    server = identities["bob"].context(client=False).wrap_bio(outgoing, incoming, True)
    for session in (client, server, client, server):
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            continue
    subjects = (server.getpeercert() or {})["subjectAltName"]
    assert ("URI", "tunnelkit:alice") in subjects


def test_a_name_is_issued_once_and_revocations_add_up() -> None:
    ca = throwaway_ca()
    serials = {name: ca.credentials(name).certificate.serial_number for name in ("alice", "bob")}
    assert ca.identity("alice") is ca.identity("alice")
    assert ca.credentials("alice").authorities == (ca.certificate,)
    assert {entry.serial_number for entry in ca.revoke()} == set()
    assert {entry.serial_number for entry in ca.revoke("alice")} == {serials["alice"]}
    assert {entry.serial_number for entry in ca.revoke("bob")} == set(serials.values())
    assert (
        throwaway_ca().identity("alice").rendezvous_secret != ca.identity("alice").rendezvous_secret
    )
