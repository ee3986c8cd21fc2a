"""Events for who watches a role: the last minutes first, and nothing waits for a slow reader."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tunnelkit.net.role_status import RoleStatus
from tunnelkit.services.live import POINTS, STEP, Live


@attrs.frozen(kw_only=True)
class Status(RoleStatus):
    bytes_relayed: int


class Request:
    """What a reader has been sent."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.producer: Any = None
        self.finished = False
        self.gone: Deferred[None] = Deferred()

    def setHeader(self, name: bytes, value: bytes) -> None:
        assert (name, value) == (b"Content-Type", b"text/event-stream; charset=utf-8")

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def notifyFinish(self) -> Deferred[None]:
        return self.gone

    def write(self, data: bytes) -> None:
        for event in data.decode("ascii").removesuffix("\n\n").split("\n\n"):
            name, text = event.split("\n")
            told = json.loads(text.removeprefix("data: "))
            self.events.append((name.removeprefix("event: "), told))

    def finish(self) -> None:
        self.finished = True


class Watched:
    """A role that relays ten bytes more each time it is asked."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked = 0
        self.live = Live(self.clock, self._status, lambda: {"can": ["drain"]})
        self.live.start()

    def _status(self) -> Status:
        self.asked += 1
        return Status(role="middle", bytes_relayed=10 * self.asked)

    def reader(self) -> Any:
        request: Any = Request()
        self.live.watch(request)
        return request


def test_a_reader_is_told_the_last_minutes_at_once_and_then_each_second() -> None:
    watched = Watched()
    watched.clock.pump([STEP] * 3)
    reader = watched.reader()
    (_, history), (name, news) = reader.events
    assert [point[1] for point in history] == [10, 20, 30, 40]
    assert name == "status"
    assert (news["status"]["role"], news["status"]["bytes_relayed"]) == ("middle", 50)
    assert news["point"][1:] == [50, 0, None]
    assert news["can"] == ["drain"]
    watched.clock.advance(1)
    assert [name for name, _ in reader.events] == ["history", "status", "status"]
    watched.live.news()
    assert len(reader.events) == 4


def test_the_history_has_an_end() -> None:
    watched = Watched()
    watched.clock.pump([STEP] * (POINTS + 10))
    assert len(watched.reader().events[0][1]) == POINTS


def test_a_reader_that_does_not_keep_up_loses_events_and_is_told_how_many() -> None:
    watched = Watched()
    slow, quick = watched.reader(), watched.reader()
    slow.producer.pauseProducing()
    watched.clock.pump([1.0] * 3)
    assert (len(slow.events), len(quick.events)) == (2, 5)
    slow.producer.resumeProducing()
    watched.clock.advance(1)
    assert [name for name, _ in slow.events] == ["history", "status", "lost", "status"]
    assert slow.events[2][1] == 3


def test_nobody_is_asked_each_second_while_nobody_watches() -> None:
    watched = Watched()
    reader = watched.reader()
    reader.gone.callback(None)
    asked = watched.asked
    watched.clock.pump([1.0] * 4)
    assert watched.asked == asked
    assert len(reader.events) == 2


def test_at_the_end_everybody_is_told_that_there_is_no_more() -> None:
    watched = Watched()
    reader = watched.reader()
    watched.live.stop()
    assert reader.finished
    assert watched.clock.getDelayedCalls() == []
