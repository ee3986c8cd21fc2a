"""Sessions that come and go by the thousand: nothing is delivered to the wrong one (X9, U3)."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.usher.world import World
from tunnelkit.wire.usher import Version

CYCLES = 1_000_000 if os.environ.get("TUNNELKIT_FUZZ") == "full" else 20_000
IDS = 1000
"""Few, so that each is used again and again."""

pytestmark = pytest.mark.timeout(120 + CYCLES // 200)


@pytest.mark.parametrize("version", Version)
def test_nothing_is_misdelivered_while_ids_are_used_again(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnelkit.core.usher.ids.MAX_ID", IDS)
    chance = Random(5)
    world = World(version)
    while world.cycles < CYCLES:
        for _ in range(1000):
            world.step(chance)
        world.check()
        for serial in world.streams.keys() - {*world.channels[0].values()}:
            if serial not in world.channels[1].values() and serial < world.serial - 1000:
                del world.streams[serial]
    assert world.clean > CYCLES // 20
    world.settle()
    world.check()
    assert not any(mux.path.in_flight or mux.budget.queued for mux in world.muxes)


SIDES = st.integers(0, 1)
PICKS = st.integers(0, 1 << 16)


class UsherSessions(RuleBasedStateMachine):
    """Two ends that do anything they may, in any order."""

    version = Version.V1

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.version, quota=4)

    def _pick(self, side: int, pick: int) -> int | None:
        live = sorted(self.world.channels[side])
        return live[pick % len(live)] if live else None

    @rule(side=SIDES)
    def open(self, side: int) -> None:
        self.world.open(side)

    @rule(side=SIDES, accept=st.booleans())
    def answer(self, side: int, accept: bool) -> None:
        self.world.answer(side, accept)

    @rule(side=SIDES, size=st.integers(1, 6000))
    def deliver(self, side: int, size: int) -> None:
        self.world.deliver(side, size)

    @precondition(lambda self: any(self.world.channels))
    @rule(side=SIDES, pick=PICKS, size=st.integers(1, 6000))
    def send(self, side: int, pick: int, size: int) -> None:
        if (channel := self._pick(side, pick)) is not None:
            self.world.send(side, channel, size)

    @precondition(lambda self: any(self.world.untaken))
    @rule(side=SIDES, pick=PICKS, size=st.integers(1, 6000))
    def take(self, side: int, pick: int, size: int) -> None:
        if (channel := self._pick(side, pick)) is not None:
            self.world.take(side, channel, size)

    @precondition(lambda self: any(self.world.channels))
    @rule(side=SIDES, pick=PICKS)
    def finish(self, side: int, pick: int) -> None:
        if (channel := self._pick(side, pick)) is not None:
            self.world.finish(side, channel)

    @precondition(lambda self: any(self.world.channels))
    @rule(side=SIDES, pick=PICKS)
    def abort(self, side: int, pick: int) -> None:
        if (channel := self._pick(side, pick)) is not None:
            self.world.abort(side, channel)

    @rule(seconds=st.sampled_from([0.005, 0.03, 6.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)
        for side in (0, 1):
            self.world.deliver(side, 1)

    @invariant()
    def books_agree(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.settle()


class UsherSessions11(UsherSessions):
    """The same with early data and offsets."""

    version = Version.V1_1


_SETTINGS = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestUsherSessions = UsherSessions.TestCase
TestUsherSessions.settings = _SETTINGS
TestUsherSessions11 = UsherSessions11.TestCase
TestUsherSessions11.settings = _SETTINGS
