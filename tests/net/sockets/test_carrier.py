"""Carriers: one contract on sockets, on Twisted transports taken over, and in memory."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.net.sockets.test_relay import tcp_pair
from tunnelkit.errors import LocalProtocolError
from tunnelkit.net.sockets.poll import EpollPoller, Poller, ReactorPoller
from tunnelkit.net.sockets.socket_carrier import SocketCarrier, TransportCarrier, take_over
from tunnelkit.testing import Pipe, TestClock


class Sink:
    """Notes what it is told."""

    def __init__(self, carrier: Any) -> None:
        self.carrier = carrier
        self.got = b""
        self.writable = 0
        self.lost: list[tuple[str, bool]] = []
        self.out = b""
        self.done: Deferred[None] = Deferred()

    def send(self, data: bytes) -> None:
        self.out += data
        self.carrier_writable()

    def carrier_received(self, view: memoryview) -> None:
        self.got += view

    def carrier_writable(self) -> None:
        self.writable += 1
        self.out = self.out[self.carrier.write(self.out) :]

    def carrier_lost(self, reason: str, clean: bool) -> None:
        self.lost.append((reason, clean))
        self.done.callback(None)


class HalfSink(Sink):
    """One that goes on writing after the far side's end."""

    def __init__(self, carrier: Any) -> None:
        super().__init__(carrier)
        self.ended = 0

    def carrier_ended(self) -> None:
        self.ended += 1


def until(condition: Any) -> Deferred[None]:
    """Fires once ``condition()`` holds; the test's time limit bounds it."""
    done: Deferred[None] = Deferred()

    def check() -> None:
        if condition():
            done.callback(None)
        else:
            reactor.callLater(0.001, check)

    check()
    return done


class SocketCarrierTests(TestCase):
    """On a raw socket, with the nested epoll."""

    timeout = 15

    def make(self) -> Poller:
        return EpollPoller(reactor)

    def setUp(self) -> None:
        self.poller = self.make()
        self.far, near = tcp_pair()
        self.carrier = SocketCarrier(self.poller, near)
        self.sink = Sink(self.carrier)

    def tearDown(self) -> None:
        self.carrier.abort()
        self.far.close()
        assert len(self.poller) == 0

    async def test_bytes_arrive_and_the_end_of_the_stream_is_clean(self) -> None:
        self.carrier.start(self.sink)
        self.far.send(b"hello")
        self.far.shutdown(socket.SHUT_WR)
        await self.sink.done
        assert (self.sink.got, self.sink.lost[0][1]) == (b"hello", True)
        assert self.carrier.write(b"x") == 0

    async def test_a_reset_is_not_clean(self) -> None:
        self.carrier.start(self.sink)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()
        await self.sink.done
        assert self.sink.lost[0][1] is False

    async def test_a_fault_of_the_sink_ends_the_connection_instead_of_leaving_it_mute(self) -> None:
        class Faulty(Sink):
            def carrier_received(self, view: memoryview) -> None:
                raise RuntimeError("a fault in this program")

        sink = Faulty(self.carrier)
        self.carrier.start(sink)
        self.far.send(b"x")
        await sink.done
        assert sink.lost == [("an internal error", False)]
        flush: Any = self.flushLoggedErrors
        assert len(flush(RuntimeError)) == 1

    async def test_a_write_cut_short_goes_on_when_told(self) -> None:
        data = os.urandom(20_000_000)
        self.carrier.start(self.sink)
        self.sink.send(data)
        assert 0 < len(self.sink.out) < len(data)
        got = bytearray()

        def read() -> bool:
            try:
                got.extend(self.far.recv(1 << 20))
            except BlockingIOError:
                pass
            return len(got) == len(data)

        await until(read)
        assert got == data

    async def test_a_paused_sink_hears_nothing_until_it_resumes(self) -> None:
        self.carrier.pause_reading()
        self.carrier.start(self.sink)
        self.far.send(b"hello")
        self.far.close()
        await until(lambda: True)
        assert (self.sink.got, self.sink.lost) == (b"", [])
        self.carrier.resume_reading()
        await self.sink.done
        assert self.sink.got == b"hello"

    async def test_what_came_before_a_failed_write_is_told_before_the_loss(self) -> None:
        self.carrier.start(self.sink)
        self.far.send(b"last words")
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()
        while self.carrier.write(b"x" * 1000):
            pass
        await self.sink.done
        assert (self.sink.got, self.sink.lost[0][1]) == (b"last words", False)

    async def test_half_close_leaves_the_other_direction_open(self) -> None:
        sink = HalfSink(self.carrier)
        self.carrier.start(sink)
        self.far.shutdown(socket.SHUT_WR)
        await until(lambda: sink.ended)
        sink.send(b"still here")
        self.carrier.finish_writing()
        self.far.settimeout(5)
        assert self.far.recv(100) == b"still here"
        assert self.far.recv(100) == b""
        assert (sink.ended, sink.lost) == (1, [])

    async def test_close_lets_what_was_taken_arrive_in_order_even_with_unread_bytes(self) -> None:
        self.carrier.pause_reading()
        self.carrier.start(self.sink)
        self.far.send(b"unread")
        await until(lambda: True)
        self.sink.send(b"goodbye")
        self.carrier.close()
        self.far.settimeout(5)
        assert self.far.recv(100) == b"goodbye"
        assert self.far.recv(100) == b""
        assert self.sink.lost == []

    async def test_abort_is_a_reset_and_silent_here(self) -> None:
        self.carrier.start(self.sink)
        self.carrier.abort()
        self.far.settimeout(5)
        with pytest.raises(ConnectionResetError):
            self.far.recv(1)
        assert self.sink.lost == []

    async def test_what_follows_can_be_handed_to_another_sink(self) -> None:
        other = Sink(self.carrier)
        self.carrier.start(self.sink)
        self.carrier.start(other)
        self.far.send(b"hello")
        await until(lambda: other.got == b"hello")
        assert self.sink.got == b""

    def test_a_socket_is_lent_once_and_the_addresses_are_told(self) -> None:
        near, far = self.carrier.near_address, self.carrier.far_address
        assert {near.partition(":")[0], far.partition(":")[0]} == {"127.0.0.1"}
        sock = self.carrier.lend(lambda reason: None)
        assert f"127.0.0.1:{sock.getsockname()[1]}" == near
        self.carrier.abort()
        assert not self.carrier.lendable
        with pytest.raises(LocalProtocolError):
            self.carrier.lend(lambda reason: None)


class ReactorSocketCarrierTests(SocketCarrierTests):
    """The same with the reactor's own readers and writers."""

    def make(self) -> Poller:
        return ReactorPoller(reactor)


class Told(Protocol):
    """A protocol whose transport is taken over."""

    def __init__(self) -> None:
        self.reason: Failure | None = None

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.reason = reason


class TakeOverTests(TestCase):
    """Connections that Twisted's endpoints made."""

    timeout = 15

    async def connect(self) -> tuple[Told, Told]:
        """A client's and a server's protocol, connected."""
        server: Deferred[Told] = Deferred()

        class Accepted(Told):
            def connectionMade(self) -> None:
                server.callback(self)

        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(Accepted)
        )
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        client = await endpoint.connect(Factory.forProtocol(Told))
        accepted = await server
        await port.stopListening()
        assert isinstance(client, Told)
        return client, accepted

    async def test_bytes_written_before_go_first_and_both_protocols_hear_the_end(self) -> None:
        client, server = await self.connect()
        transport: Any = client.transport
        transport.write(b"a" * 3_000_000)
        near, far = take_over(transport), take_over(server.transport)
        assert isinstance(near, SocketCarrier)
        near_sink, far_sink = HalfSink(near), Sink(far)
        near.start(near_sink)
        far.start(far_sink)
        near_sink.send(b"b" * 2_000_000)
        await until(lambda: not near_sink.out)
        near.finish_writing()
        await far_sink.done
        assert far_sink.got == b"a" * 3_000_000 + b"b" * 2_000_000
        near.close()
        await until(lambda: client.reason and server.reason)

    async def test_an_end_made_through_the_transport_is_told_to_the_sink(self) -> None:
        client, server = await self.connect()
        near = take_over(client.transport)
        sink = Sink(near)
        near.start(sink)
        transport: Any = client.transport
        transport.loseConnection()
        await sink.done
        await until(lambda: client.reason)
        server_transport: Any = server.transport
        server_transport.loseConnection()
        await until(lambda: server.reason)

    async def test_an_abort_reaches_the_far_side_as_a_reset(self) -> None:
        client, server = await self.connect()
        near, far = take_over(client.transport), take_over(server.transport)
        sink = Sink(far)
        far.start(sink)
        near.start(Sink(near))
        near.abort()
        await sink.done
        assert sink.lost[0][1] is False
        await until(lambda: client.reason and server.reason)


class TransportCarrierTests(TestCase):
    """On a transport that is not a socket."""

    def setUp(self) -> None:
        self.clock = TestClock()
        self.pipe = Pipe(self.clock, capacity=10_000)
        self.pipe.connect(Protocol(), Protocol())
        carriers = [take_over(self.pipe.first), take_over(self.pipe.second)]
        self.near, self.far = carriers
        assert isinstance(self.near, TransportCarrier)

    def test_backpressure_is_told_and_every_byte_arrives(self) -> None:
        sink, far = Sink(self.near), Sink(self.far)
        self.far.pause_reading()
        self.near.start(sink)
        self.far.start(far)
        data = os.urandom(1_000_000)
        for start in range(0, len(data), 50_000):
            sink.send(data[start : start + 50_000])
            self.clock.settle()
        assert len(sink.out) > 500_000
        assert self.pipe.first.most_queued < 200_000
        self.far.resume_reading()
        self.clock.run_until(lambda: len(far.got) == len(data))
        assert far.got == data

    def test_a_clean_end_and_a_cut_are_told_apart(self) -> None:
        far = Sink(self.far)
        self.far.start(far)
        self.near.start(Sink(self.near))
        self.near.close()
        self.clock.run_until(lambda: far.lost)
        assert far.lost[0][1] is True
        self.setUp()
        far = Sink(self.far)
        self.far.start(far)
        self.near.abort()
        self.clock.run_until(lambda: far.lost)
        assert [clean for _, clean in far.lost] == [False]

    def test_bytes_and_the_end_that_came_before_the_start_are_kept(self) -> None:
        self.near.write(b"early")
        self.near.close()
        self.clock.settle()
        far = Sink(self.far)
        self.far.start(far)
        assert (far.got, [clean for _, clean in far.lost]) == (b"early", [True])

    def test_half_close_leaves_the_other_direction_open(self) -> None:
        near, far = HalfSink(self.near), HalfSink(self.far)
        self.near.start(near)
        self.far.start(far)
        near.send(b"question")
        self.near.finish_writing()
        self.clock.run_until(lambda: far.ended)
        far.send(b"answer")
        self.clock.run_until(lambda: near.got == b"answer")
        self.far.finish_writing()
        self.clock.run_until(lambda: near.ended)
        assert (far.got, near.lost, far.lost) == (b"question", [], [])
