"""The poller: who is told what, in both implementations."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import TestCase

from tunnelkit.net.sockets.loop_poller import LoopPoller
from tunnelkit.net.sockets.poll import EpollPoller, Poller, ReactorPoller


class Recorder:
    """A handler that notes what it is told and runs an action."""

    def __init__(self, action: Any = None) -> None:
        self.told: list[str] = []
        self.action = action
        self.called: Deferred[None] = Deferred()

    def _note(self, what: str) -> None:
        self.told.append(what)
        if self.action is not None:
            self.action()
        if not self.called.called:
            self.called.callback(None)

    def readable(self) -> None:
        self._note("readable")

    def writable(self) -> None:
        self._note("writable")

    def hung_up(self) -> None:
        self._note("hung up")


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected non-blocking stream sockets."""
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    return a, b


def turn() -> Deferred[None]:
    """Fires after a few turns of the reactor."""
    done: Deferred[None] = Deferred()
    left = [4]

    def again() -> None:
        left[0] -= 1
        if left[0]:
            reactor.callLater(0, again)
        else:
            done.callback(None)

    again()
    return done


class PollerTests(TestCase):
    """What both implementations do."""

    timeout = 10
    __test__ = False

    def make(self) -> Poller:
        raise NotImplementedError

    async def test_tells_who_reads_of_bytes_until_they_are_taken(self) -> None:
        poller = self.make()
        a, b = pair()
        handler = Recorder()
        handler.action = lambda: len(handler.told) == 3 and a.recv(1)
        poller.add(a.fileno(), handler, True, False)
        b.send(b"x")
        for _ in range(3):
            await turn()
        told = list(handler.told)
        poller.remove(a.fileno())
        a.close()
        b.close()
        assert told == ["readable"] * 3

    async def test_a_hang_up_reaches_who_only_reads_and_who_only_writes(self) -> None:
        poller = self.make()
        for read, expected in ((True, "readable"), (False, "writable")):
            a, b = pair()
            handler = Recorder(partial(poller.remove, a.fileno()))
            b.close()
            poller.add(a.fileno(), handler, read, not read)
            await handler.called
            a.close()
            assert handler.told == [expected]

    async def test_who_waits_for_bytes_again_hears_of_the_end_that_came_meanwhile(self) -> None:
        poller = self.make()
        a, b = pair()
        handler = Recorder()
        poller.add(a.fileno(), handler, True, False)
        poller.change(a.fileno(), False, False)
        b.close()
        await turn()
        assert "readable" not in handler.told
        handler.action = lambda: poller.remove(a.fileno())
        poller.change(a.fileno(), True, False)
        while "readable" not in handler.told:
            await turn()
        a.close()
        assert handler.told[-1] == "readable"

    async def test_a_handler_may_remove_another_of_the_same_batch(self) -> None:
        poller = self.make()
        a, b = pair()
        c, d = pair()

        def drop_both() -> None:
            poller.remove(a.fileno())
            poller.remove(c.fileno())

        first, second = Recorder(drop_both), Recorder(drop_both)
        b.send(b"x")
        d.send(b"x")
        poller.add(a.fileno(), first, True, False)
        poller.add(c.fileno(), second, True, False)
        await turn()
        for sock in (a, b, c, d):
            sock.close()
        assert len(first.told) + len(second.told) == 1

    async def test_an_event_of_a_closed_socket_never_reaches_the_next_owner_of_its_number(
        self,
    ) -> None:
        poller = self.make()
        a, b = pair()
        c, d = pair()
        e, f = pair()  # nothing to read on these
        heir = Recorder()
        numbers = [a.fileno(), c.fileno()]

        def replace() -> None:
            for number in numbers:
                poller.remove(number)
            other = numbers[1] if first.told else numbers[0]
            os.dup2(e.fileno(), other)
            poller.add(other, heir, True, False)
            numbers.clear()
            numbers.append(other)

        first, second = Recorder(replace), Recorder(replace)
        b.send(b"x")
        d.send(b"x")
        poller.add(a.fileno(), first, True, False)
        poller.add(c.fileno(), second, True, False)
        await turn()
        poller.remove(numbers[0])
        for sock in (a, b, c, d, e, f):
            sock.close()
        assert heir.told == []

    async def test_an_exception_in_a_handler_is_logged_and_only_its_descriptor_dropped(
        self,
    ) -> None:
        poller = self.make()
        a, b = pair()
        c, d = pair()

        def fail() -> None:
            raise ValueError("handler broken")

        broken = Recorder(fail)
        sound = Recorder(lambda: poller.remove(c.fileno()))
        b.send(b"x")
        d.send(b"x")
        poller.add(a.fileno(), broken, True, False)
        poller.add(c.fileno(), sound, True, False)
        await sound.called
        await turn()
        for sock in (a, b, c, d):
            sock.close()
        case: Any = self
        logged = case.flushLoggedErrors(ValueError)
        assert (len(logged), broken.told, len(poller)) == (1, ["readable"], 0)

    async def test_actions_for_the_end_of_the_batch_run_once_after_its_handlers(self) -> None:
        poller = self.make()
        a, b = pair()
        order: list[str] = []
        done: Deferred[None] = Deferred()

        def action() -> None:
            poller.after_batch(lambda: order.append("end"))
            poller.after_batch(lambda: done.callback(None))
            order.append("handler")
            poller.remove(a.fileno())

        b.send(b"x")
        poller.add(a.fileno(), Recorder(action), True, False)
        await done
        a.close()
        b.close()
        assert order == ["handler", "end"]

    async def test_an_action_registered_outside_of_a_batch_runs_soon(self) -> None:
        poller = self.make()
        done: Deferred[None] = Deferred()
        poller.after_batch(lambda: done.callback(None))
        assert not done.called
        await done

    async def test_leaves_neither_readers_nor_descriptors_behind(self) -> None:
        poller = self.make()
        before = len(os.listdir("/dev/fd"))
        a, b = pair()
        poller.add(a.fileno(), Recorder(), True, True)
        poller.remove(a.fileno())
        poller.remove(a.fileno())
        a.close()
        b.close()
        assert len(os.listdir("/dev/fd")) == before


class EpollPollerTests(PollerTests):
    """The nested epoll."""

    __test__ = True

    def make(self) -> Poller:
        return EpollPoller(reactor)

    async def test_who_waits_for_nothing_hears_of_a_hang_up_once(self) -> None:
        poller = self.make()
        for change in (False, True):
            near, far = pair()
            recorder = Recorder()
            poller.add(near.fileno(), recorder, change, False)
            if change:
                poller.change(near.fileno(), False, False)
            far.send(b"nobody reads this")
            await turn()
            assert recorder.told == []
            far.close()
            await recorder.called
            await turn()
            assert recorder.told == ["hung up"]
            poller.remove(near.fileno())
            near.close()

    def test_a_reactor_has_one_poller(self) -> None:
        assert Poller.of(reactor) is Poller.of(reactor)


class LoopPollerTests(EpollPollerTests):
    """The reactor inside our epoll."""

    def make(self) -> Poller:
        poller = LoopPoller(reactor)
        self.addCleanup(poller.release)
        return poller


class ReactorPollerTests(PollerTests):
    """The twin over the reactor's own readers and writers."""

    __test__ = True

    def make(self) -> Poller:
        return ReactorPoller(reactor)


def test_it_outlives_what_empties_its_reactor() -> None:
    """As trial does after a test that has left a socket behind."""
    emptied: Any = EPollReactor()
    (left, other), (ours, theirs) = pair(), pair()
    Poller.of(emptied).add(left.fileno(), Recorder(), True, False)
    emptied.removeAll()
    poller = Poller.of(emptied)
    poller.add(ours.fileno(), Recorder(emptied.stop), True, False)
    theirs.send(b"x")
    late = emptied.callLater(20, emptied.stop)
    emptied.run(installSignalHandlers=False)
    for sock in (left, other, ours, theirs):
        sock.close()
    assert late.active(), "nobody was told anything"
    late.cancel()
