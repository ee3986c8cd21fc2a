"""A poller that waits for the whole process: one look serves our descriptors and the reactor's.

`EpollPoller` is one reader of the reactor. A message then costs two looks and a turn of
the reactor, which makes a dozen calls of its own, most of them to find that nothing is due. Where
a role owns the process `LoopPoller` takes the reactor's place at the outside: the reactor's own
epoll(7) is one descriptor in ours, and gets its turn when something of its own has happened, when
a timer is due or was set, and when it is to stop. Everything that is done with the reactor's
interfaces works as ever.

That needs a few names inside of Twisted. `take_over` looks for them first; where one is missing,
and in every process that is somebody else's, pollers stay readers of the reactor.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.base import ReactorBase

from tunnelkit.net.sockets.poll import BATCH, EpollPoller, install

_TURNS = 64
"""Most batches of ours before the reactor's turn, whatever is due there."""
_FOR_EVER = -1.0


def take_over(reactor: Any) -> bool:
    """Let one `LoopPoller` wait for everything in this process, if this reactor is one that can be
    waited for so; for who owns the process, before the first poller is asked for."""
    if not _can_be_inside(reactor):
        return False
    install(LoopPoller(reactor))
    return True


def _can_be_inside(reactor: Any) -> bool:
    """It has the names that `LoopPoller` uses, and they mean what they did."""
    return (
        isinstance(reactor, ReactorBase)
        and hasattr(select, "epoll")
        and isinstance(getattr(reactor, "_poller", None), select.epoll)
        and isinstance(getattr(reactor, "_newTimedCalls", None), list)
        and isinstance(getattr(reactor, "_pendingTimedCalls", None), list)
        and isinstance(getattr(reactor, "_justStopped", None), bool)
    )


class LoopPoller(EpollPoller):
    """Our epoll outside, the reactor's inside; the reactor's main loop is the caller."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        # Through Any: what is used of it is not in any interface, see `_can_be_inside`.
        self._host = reactor
        self._turn = reactor.doIteration
        self._epoll = select.epoll()
        self._host_fd = reactor._poller.fileno()
        self._host_ready = False
        """It has events of its own."""
        self._epoll.register(self._host_fd, select.EPOLLIN)
        reactor.doIteration = self._iterate

    def release(self) -> None:
        """Let the reactor wait for itself again; nothing may be watched any more."""
        del self._host.doIteration
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def come_back(self) -> None:
        """It is not in the reactor."""

    def _close(self) -> None:
        """Nothing is watched: the reactor still is."""

    def _iterate(self, delay: float | None) -> None:
        """What the reactor does in each turn: wait up to ``delay`` seconds, then serve."""
        epoll, host = self._epoll, self._host
        assert epoll is not None
        poll, seconds = epoll.poll, host.seconds
        # The same lists until the reactor's loop goes on.
        new, pending = host._newTimedCalls, host._pendingTimedCalls
        wait = _FOR_EVER if delay is None else delay
        for _ in range(_TURNS):
            if not self._batch(poll(wait, BATCH)):
                return
            if self._host_ready:
                self._host_ready = False
                self._serve_host()
                return
            # The loop around this would find the same: nothing new is due, and nobody stops it.
            if new or host._justStopped or not host.running:
                return
            if pending:
                wait = pending[0].time - seconds()
                if wait <= 0:
                    return
            else:
                wait = _FOR_EVER

    def _unknown(self, fd: int) -> None:
        if fd == self._host_fd:
            self._host_ready = True

    def _serve_host(self) -> None:
        """The reactor has events of its own: what they cause is one batch."""
        self._in_batch = True
        try:
            self._turn(0)
        finally:
            self._fresh.clear()
            self._end_batch()
