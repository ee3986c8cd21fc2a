"""What an end says while nobody comes (row Q6)."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tests.net.channels.ends import NEAR, PROTOCOLS, EndsCase
from tunnelkit.net.channels import progress
from tunnelkit.net.channels.progress import AGAIN, FIRST, Progress, Stage


def test_it_is_said_once_soon_and_then_seldom_until_there_is_a_tunnel() -> None:
    clock = Clock()
    said: list[float] = []
    made = Progress(clock, said.append)
    made.alone()
    clock.advance(FIRST / 2)
    made.alone()  # the same loneliness
    clock.advance(FIRST / 2)
    assert said == [FIRST]
    clock.advance(AGAIN)
    assert said == [FIRST, FIRST + AGAIN]
    made.settled()
    clock.advance(2 * AGAIN)
    assert len(said) == 2
    assert clock.getDelayedCalls() == []


def test_a_stage_knows_since_when_it_is_and_when_the_next_try_is() -> None:
    clock = Clock()
    made = Progress(clock, lambda seconds: None)
    made.at(Stage.WAITING)
    clock.advance(4)
    made.at(Stage.WAITING)
    assert (made.seconds, made.next_try) == (4, None)
    made.at(Stage.DOWN, 3.0)
    clock.advance(1)
    assert (made.stage, made.seconds, made.next_try) == (Stage.DOWN, 1, 2)


class SilenceTests(EndsCase):
    async def test_an_end_that_waits_says_for_whom_and_what_to_compare(self) -> None:
        patch: Any = self.patch
        patch(progress, "FIRST", 0.01)
        said: list[str] = []

        def note(event: LogEvent) -> None:
            text = formatEvent(event)
            if text.startswith("No tunnel") and "waiting at the middle" in text:
                said.append(text)

        observer: Any = note
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        place = await self.place("lstp")
        end = self.end(NEAR, place.near, [PROTOCOLS["lstp"]()], peers=["office"])
        await self.until(lambda: end.progress.stage is Stage.WAITING)
        end.progress.settled()
        end.progress.alone()
        await self.until(lambda: said)
        assert re.match(
            r"No tunnel test with office for \d s \(waiting at the middle for ", said[0]
        )
        assert "compare at both ends" in said[0]
