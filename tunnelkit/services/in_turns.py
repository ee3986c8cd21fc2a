"""A long answer made a little at a time, so that it does not hold the reactor up (row O7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import thread_time
from typing import Any

from twisted.internet.task import Cooperator, TaskStopped
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server

_log = Logger()

TURN = 0.002
"""Seconds of the thread's time for which it is made before everybody else has a turn."""


def send_in_turns(request: server.Request, pieces: Iterator[bytes], reactor: Any) -> None:
    """Answer with ``pieces`` once all of them are made; whoever goes away before stops it."""
    body: list[bytes] = []

    def turn() -> Callable[[], bool]:
        end = thread_time() + TURN
        return lambda: thread_time() >= end

    make: Any = Cooperator
    cooperator = make(turn, lambda more: reactor.callLater(0, more))
    task = cooperator.cooperate(map(body.append, pieces))
    left: Any = request.notifyFinish()
    left.addErrback(lambda _: task.stop())
    done: Any = task.whenDone()
    done.addCallbacks(_done, _not_done, (request, body), errbackArgs=(request,))


def _done(pieces: object, request: Any, body: list[bytes]) -> None:
    request.setHeader(b"Content-Length", b"%d" % sum(map(len, body)))
    request.write(b"".join(body))
    request.finish()


def _not_done(reason: Failure, request: Any) -> None:
    if not reason.check(TaskStopped):
        _log.failure("An answer could not be made", reason)
        # Whoever asked must see that something is missing.
        request.channel.forceAbortClient()
