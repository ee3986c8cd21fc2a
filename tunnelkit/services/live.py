"""What a role does as it goes on: the last minutes, and events for who watches (row O6).

A reader that does not keep up loses events, and is told how many; nothing waits for it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.web import server
from zope.interface import implementer

from tunnelkit.net.role_status import RoleStatus

INTERVAL = 1.0
"""Seconds between events."""
STEP = 5.0
"""Seconds between points of the history."""
POINTS = 180
"""That is a quarter of an hour."""


class Live:
    """Of one role. ``facts`` are told with each event beside its status."""

    def __init__(
        self,
        reactor: Any,
        status: Callable[[], RoleStatus],
        facts: Callable[[], Mapping[str, object]],
    ) -> None:
        self._status = status
        self._facts = facts
        self._history: deque[tuple[float, int, int, float | None]] = deque(maxlen=POINTS)
        self._readers: set[_Reader] = set()
        self._ticks = LoopingCall(self._tick)
        self._steps = LoopingCall(self._step)
        self._ticks.clock = self._steps.clock = reactor

    def start(self) -> None:
        """Keep the history."""
        self._steps.start(STEP)

    def stop(self) -> None:
        """Tell everybody that it is over."""
        for loop in (self._steps, self._ticks):
            if loop.running:
                loop.stop()
        for reader in list(self._readers):
            reader.end()

    def watch(self, request: server.Request) -> None:
        """Answer with events until one of the two has enough."""
        reader = _Reader(request)
        self._readers.add(reader)
        gone: Any = request.notifyFinish()
        gone.addBoth(lambda _: self._gone(reader))
        reader.tell(_event("history", list(self._history)))
        reader.tell(self._news())
        if not self._ticks.running:
            self._ticks.start(INTERVAL, now=False)

    def news(self) -> None:
        """Something has been done: do not wait for the next tick."""
        if self._readers:
            self._tick()

    def _gone(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        if not self._readers and self._ticks.running:
            self._ticks.stop()

    def _tick(self) -> None:
        news = self._news()
        for reader in list(self._readers):
            reader.tell(news)

    def _news(self) -> bytes:
        status = self._status()
        told = {"at": time.time(), "status": status.as_mapping(), "point": _point(status)}
        return _event("status", {**told, **self._facts()})

    def _step(self) -> None:
        self._history.append(_point(self._status()))


def _point(status: RoleStatus) -> tuple[float, int, int, float | None]:
    """When, bytes one way and the other since the start, and a round trip in seconds."""
    relayed = getattr(status, "bytes_relayed", 0)
    trips = [
        peer.round_trip
        for peer in getattr(status, "with_peers", ())
        if peer.up and peer.round_trip is not None
    ]
    return (
        time.time(),
        getattr(status, "bytes_sent", relayed),
        getattr(status, "bytes_received", 0),
        max(trips, default=None),
    )


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode("ascii")


@implementer(IPushProducer)
class _Reader:
    """One that watches."""

    def __init__(self, request: server.Request) -> None:
        self._request: Any = request
        self._behind = False
        self._lost = 0
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        self._request.registerProducer(self, True)

    def tell(self, event: bytes) -> None:
        """One event, unless the ones before have not been taken."""
        if self._behind:
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            event = _event("lost", lost) + event
        self._request.write(event)

    def end(self) -> None:
        """There are no more."""
        self._request.unregisterProducer()
        self._request.finish()

    def pauseProducing(self) -> None:
        """It does not keep up."""
        self._behind = True

    def resumeProducing(self) -> None:
        """It does again."""
        self._behind = False

    def stopProducing(self) -> None:
        """It has gone."""
        self._behind = True
