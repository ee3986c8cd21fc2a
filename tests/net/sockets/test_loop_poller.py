"""A reactor inside of our epoll: timers, threads, transports and its end, beside descriptors."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from tunnelkit.net.sockets.loop_poller import LoopPoller, take_over
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer, use_monotonic_clock

LIMIT = 20.0


class PingPong:
    """Answers every byte at once; two of them are never silent."""

    def __init__(self, sock: socket.socket, each: Callable[[], object]) -> None:
        self.sock = sock
        self.each = each

    def readable(self) -> None:
        self.sock.send(self.sock.recv(1))
        self.each()

    def writable(self) -> None:
        raise AssertionError("nobody asked for that")


class Running:
    """A reactor of its own, not the one of the tests, with two sockets that are never silent."""

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()
        use_monotonic_clock(self.reactor)
        assert take_over(self.reactor)
        self.poller = Poller.of(self.reactor)
        self.turns = 0
        self.each: Callable[[], object] = lambda: None
        self.late = self.reactor.callLater(LIMIT, self.reactor.stop)
        self.sockets = socket.socketpair()
        for sock in self.sockets:
            sock.setblocking(False)
            self.poller.add(sock.fileno(), PingPong(sock, self.turn), True, False)

    def turn(self) -> None:
        """Called for each byte."""
        self.turns += 1
        self.each()

    def run(self, busy: bool = True) -> None:
        """Until something stops it."""
        if busy:
            self.sockets[0].send(b"x")
        self.reactor.run(installSignalHandlers=False)
        assert self.late.active(), "nothing stopped it"
        self.late.cancel()


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    for sock in running.sockets:
        running.poller.remove(sock.fileno())
        sock.close()
    assert isinstance(running.poller, LoopPoller)
    running.poller.release()


def test_a_timer_is_kept_while_descriptors_are_never_silent(running: Running) -> None:
    running.reactor.callLater(0.02, running.reactor.stop)
    running.run()
    assert running.turns > 1


def test_a_timer_that_a_handler_sets_is_kept(running: Running) -> None:
    timer = Timer(running.reactor, running.reactor.stop)

    def each() -> None:
        if running.turns == 20:
            timer.start(0.005)

    running.each = each
    running.run()


def test_a_timer_that_a_handler_moves_forward_is_kept(running: Running) -> None:
    timer = running.reactor.callLater(LIMIT / 2, running.reactor.stop)

    def each() -> None:
        if running.turns == 20:
            timer.reset(0.005)

    running.each = each
    running.run()


def test_a_timer_fires_though_nothing_else_happens(running: Running) -> None:
    running.reactor.callLater(0.005, running.reactor.stop)
    running.run(busy=False)
    assert running.turns == 0


def test_a_handler_can_stop_the_reactor(running: Running) -> None:
    running.each = lambda: running.turns == 20 and running.reactor.stop()
    running.run()
    assert running.turns >= 20


def test_what_a_thread_wants_is_done(running: Running) -> None:
    reactor = running.reactor
    for busy in (False, True):
        reactor.callWhenRunning(
            reactor.callInThread, reactor.callFromThread, reactor.stop if busy else lambda: None
        )
    running.run()


def test_transports_of_the_reactor_get_their_turn_beside_busy_descriptors(
    running: Running,
) -> None:
    reactor = running.reactor
    heard: list[bytes] = []
    batches: list[str] = []

    class Echo(Protocol):
        def dataReceived(self, data: bytes) -> None:
            running.poller.after_batch(lambda: batches.append("end"))
            assert self.transport is not None
            self.transport.write(data)

    class Asking(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(b"hello")

        def dataReceived(self, data: bytes) -> None:
            heard.append(data)
            reactor.stop()

    def begin() -> None:
        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        listening.listen(Factory.forProtocol(Echo)).addCallback(
            lambda port: connectProtocol(
                TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Asking()
            )
        )

    reactor.callWhenRunning(begin)
    running.run()
    assert heard == [b"hello"]
    assert batches == ["end"]


def test_a_descriptor_added_while_the_reactor_has_its_turn_is_heard_of(running: Running) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.send(b"x")
    running.reactor.callLater(
        0,
        running.poller.add,
        near.fileno(),
        PingPong(near, running.reactor.stop),
        True,
        False,
    )
    running.run(busy=False)
    running.poller.remove(near.fileno())
    near.close()
    far.close()


@pytest.mark.parametrize("reactor", [Clock(), SelectReactor()])
def test_a_reactor_that_cannot_be_inside_stays_as_it_is(reactor: Any) -> None:
    before = getattr(reactor, "doIteration", None)
    assert not take_over(reactor)
    assert getattr(reactor, "doIteration", None) == before


def test_a_reactor_without_the_names_stays_as_it_is() -> None:
    reactor: Any = EPollReactor()
    del reactor._newTimedCalls
    assert not take_over(reactor)
