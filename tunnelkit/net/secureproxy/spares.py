"""A publisher's connections ahead: a browser takes one that waits, without INCOMING (S10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.errors import TunnelkitError
from tunnelkit.net.dial.backoff import Backoff
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.opening import Lent, Opened, Opening
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.wire.secureproxy import Spare

_log = Logger()

REFILL = 0.1
"""Seconds after which another one takes the place of one that was taken, if some are left."""

Serve = Callable[[str, Opened], Deferred[Any]]
"""``(resource, opened)``: a browser has taken a connection; fires when it is served, or not."""


class Spares:
    """``count`` connections that wait for a browser of each of ``resources``, from `start` to
    `stop`."""

    def __init__(
        self, link: ServerLink, resources: Iterable[str], count: int, serve: Serve
    ) -> None:
        self._rows = [_Row(link, resource, count, serve) for resource in resources]

    def start(self) -> None:
        """The server knows of the resources: have them there, as many as are missing."""
        for row in self._rows:
            row.start()

    def stop(self) -> None:
        """Give up those that wait; browsers that have come go on."""
        for row in self._rows:
            row.stop()


class _Row:
    """Those of one resource."""

    def __init__(self, link: ServerLink, resource: str, count: int, serve: Serve) -> None:
        self._link = link
        self._resource = resource
        self._count = count
        self._serve = serve
        self._waiting: set[Deferred[Opened | Lent]] = set()
        self._running = False
        self._backoff = Backoff()
        self._pause = Timer(link.shared.reactor, self._fill)

    def start(self) -> None:
        self._running = True
        self._backoff.reset()
        self._fill()

    def stop(self) -> None:
        self._running = False
        self._pause.stop()
        for waiting in list(self._waiting):
            waiting.cancel()

    def _fill(self) -> None:
        while self._running and len(self._waiting) < self._count and not self._pause.running:
            opened = Opening(self._link, Spare(self._resource)).opened
            self._waiting.add(opened)
            opened.addCallbacks(
                self._taken, self._lost, callbackArgs=(opened,), errbackArgs=(opened,)
            )

    def _taken(self, started: Opened | Lent, waiting: Deferred[Opened | Lent]) -> None:
        assert isinstance(started, Opened)  # the dialogue: nothing else answers SPARE
        self._waiting.discard(waiting)
        self._backoff.reset()
        self._serve(self._resource, started).addErrback(self._failed)
        if not self._waiting:
            self._fill()
        elif not self._pause.running:
            # A handshake now would cost the browser that has come as much as it saved.
            self._pause.start(REFILL)

    def _lost(self, failure: Failure, waiting: Deferred[Opened | Lent]) -> None:
        self._waiting.discard(waiting)
        if failure.check(CancelledError):
            return
        self._failed(failure)
        if self._running and not self._pause.running:
            self._pause.start(self._backoff.next_delay())

    def _failed(self, failure: Failure) -> None:
        if failure.check(TunnelkitError):
            _log.info(
                "No connection ahead for {resource}: {reason}",
                resource=self._resource,
                reason=failure.getErrorMessage(),
            )
        else:
            _log.failure("A connection ahead ended in an unexpected way", failure=failure)
