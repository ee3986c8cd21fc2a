"""Two LSTP muxes under random use, and one under random bytes (rows L3, L5, rules X7, X8, X11)."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator, Sequence
from functools import lru_cache

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests import fuzz
from tests.core.lstp.ends import messages
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.errors import Code
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import MessageType as M

WINDOW = 3000
START = 100.0


@lru_cache
def _stream(channel: int, side: str) -> bytes:
    return random.Random(f"{channel}{side}").randbytes(1 << 18)


def tagged(channel: int, side: str, start: int, size: int) -> bytes:
    """Part of the one stream that ``side`` may ever send on ``channel``."""
    part = _stream(channel, side)[start : start + size]
    assert len(part) == size
    return part


class Application:
    """What one side of one channel has done and seen."""

    def __init__(self) -> None:
        self.sent = 0
        self.finished = False
        self.got = 0
        self.untaken = 0
        self.far_finished = False
        self.connected = False


class Side:
    """One end: its mux, the bytes on their way to it, and its applications."""

    def __init__(self, name: str, master: bool) -> None:
        self.name = name
        self.budget = Budget()
        config = MuxConfig(window=WINDOW, max_channels=4)
        self.mux = LstpMux(master, config, START, budget=self.budget)
        self.coming = b""
        self.live: dict[int, Application] = {}
        self.requests: set[int] = set()
        self.over: dict[int, Code | None] = {}
        self.tunnel_over = False
        self.up = False


class Muxes(RuleBasedStateMachine):
    """Random verbs and deliveries; everything is delivered and compared in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.sides = [Side("near", True), Side("far", False)]
        self.history: dict[tuple[str, int], Application] = {}
        for which in (0, 1):
            self.deliver(which, 1.0)

    # -- helpers ----------------------------------------------------------

    def other(self, side: Side) -> Side:
        return self.sides[side is self.sides[0]]

    def flush(self, side: Side) -> None:
        self.other(side).coming += side.mux.data_to_send()

    def add(self, side: Side, channel: int) -> Application:
        assert channel not in side.live
        side.live[channel] = self.history[side.name, channel] = Application()
        side.over.pop(channel, None)
        return side.live[channel]

    def note(self, side: Side, events: Sequence[t.Event]) -> None:
        far = self.other(side).name
        # The mux has taken in the whole batch before its events are looked at.
        gone = {event.channel for event in events if isinstance(event, t.ChannelEnded)}
        for event in events:
            assert not side.tunnel_over
            if isinstance(event, t.TunnelUp):
                assert not side.up
                side.up = True
            elif isinstance(event, t.ChannelRequested):
                assert event.destination == f"tcp:{event.channel}:1"
                self.add(side, event.channel)
                side.requests.add(event.channel)
            elif isinstance(event, t.ChannelOpened):
                assert not side.live[event.channel].connected
                side.live[event.channel].connected = True
            elif isinstance(event, t.Data):
                app = side.live[event.channel]
                assert not app.far_finished
                size = len(event.data)
                assert bytes(event.data) == tagged(event.channel, far, app.got, size)
                app.got += size
                app.untaken += size
                assert app.untaken <= WINDOW * 2**13
            elif isinstance(event, t.Finished):
                app = side.live[event.channel]
                assert not app.far_finished
                app.far_finished = True
            elif isinstance(event, t.Writable):
                channel = event.channel
                assert channel in side.live
                assert (
                    channel in gone
                    or side.mux.sendable(channel)
                    or side.mux.waits_for_path(channel)
                )
            elif isinstance(event, t.ChannelEnded):
                self.channel_ended(side, event)
            elif isinstance(event, t.TunnelEnded):
                assert event.code in (None, Code.SHUTDOWN), event.reason
                assert not side.live
                side.tunnel_over = True
            else:
                assert isinstance(event, t.Draining)

    def channel_ended(self, side: Side, event: t.ChannelEnded) -> None:
        app = side.live.pop(event.channel)
        side.requests.discard(event.channel)
        side.over[event.channel] = event.code
        assert event.code is not Code.PROTOCOL, event.reason
        assert not (event.refused and app.connected)
        if event.code is None:
            # A clean end: both have ended, and this side has had all that the other ever sent.
            far = self.history[self.other(side).name, event.channel]
            assert app.finished
            assert app.far_finished
            assert far.finished
            assert (app.got, app.untaken) == (far.sent, 0)

    def pick(self, data: st.DataObject, side: Side) -> int | None:
        return data.draw(st.sampled_from(sorted(side.live))) if side.live else None

    side = st.sampled_from([0, 1])

    # -- verbs ------------------------------------------------------------

    @rule(which=side)
    def open(self, which: int) -> None:
        side = self.sides[which]
        number = side.mux.live.ids.next
        try:
            channel = side.mux.open(f"tcp:{number}:1", self.now)
        except t.LimitReached:
            return
        assert channel == number
        self.add(side, channel)

    @rule(which=side, sizes=st.tuples(*[st.sampled_from([0, 1, 500, WINDOW])] * 2))
    def open_and_talk(self, which: int, sizes: tuple[int, int]) -> None:
        """The usual way: connected, and something is said by either side."""
        side = self.sides[which]
        other = self.other(side)
        before = set(side.live)
        self.open(which)
        self.deliver_everything()
        for channel in set(side.live) - before:
            if channel in other.requests:
                self.accept(other, channel)
                self.deliver_everything()
                for each, size in zip((side, other), sizes, strict=True):
                    self.say(each, channel, size)
                self.deliver_everything()

    @rule(which=side, data=st.data(), connect=st.booleans())
    def answer(self, which: int, data: st.DataObject, connect: bool) -> None:
        side = self.sides[which]
        if not side.requests:
            return
        channel = data.draw(st.sampled_from(sorted(side.requests)))
        if connect:
            self.accept(side, channel)
        else:
            side.requests.discard(channel)
            self.note(side, side.mux.refuse(channel, Code.REFUSED, "no"))

    def accept(self, side: Side, channel: int) -> None:
        side.requests.discard(channel)
        side.live[channel].connected = True
        self.note(side, side.mux.opened(channel, "tcp:x:1"))

    @rule(which=side, data=st.data(), wanted=st.integers(1, 2 * WINDOW))
    def send(self, which: int, data: st.DataObject, wanted: int) -> None:
        side = self.sides[which]
        channel = self.pick(data, side)
        if channel is not None:
            self.say(side, channel, wanted)

    def say(self, side: Side, channel: int, wanted: int) -> None:
        app = side.live[channel]
        size = min(side.mux.sendable(channel), wanted)
        assert not (size and app.finished)
        if size:
            self.flush(side)
            frame = bytearray(12) + tagged(channel, side.name, app.sent, size)
            side.mux.frame_into(frame, 0, channel, size, self.now)
            self.other(side).coming += frame
            app.sent += size

    @rule(which=side, data=st.data())
    def finish(self, which: int, data: st.DataObject) -> None:
        side = self.sides[which]
        channel = self.pick(data, side)
        if channel is None or side.live[channel].finished or channel in side.requests:
            return
        side.live[channel].finished = True
        self.note(side, side.mux.finish(channel, self.now))

    @rule(which=side, data=st.data(), wanted=st.integers(1, 2 * WINDOW))
    def take(self, which: int, data: st.DataObject, wanted: int) -> None:
        side = self.sides[which]
        channel = self.pick(data, side)
        if channel is not None:
            self.consume(side, channel, min(wanted, side.live[channel].untaken))

    def consume(self, side: Side, channel: int, size: int) -> None:
        side.live[channel].untaken -= size
        self.note(side, side.mux.consumed(channel, size, self.now))

    @rule(which=side, data=st.data())
    def abort(self, which: int, data: st.DataObject) -> None:
        side = self.sides[which]
        channel = self.pick(data, side)
        if channel is not None:
            self.note(side, side.mux.abort(channel, Code.RESET, "gone", self.now))
            assert channel not in side.live

    @rule(which=side, share=st.floats(0.0, 1.0))
    def deliver(self, which: int, share: float) -> None:
        side = self.sides[which]
        self.flush(self.other(side))
        size = round(len(side.coming) * share)
        arrives, side.coming = side.coming[:size], side.coming[size:]
        self.note(side, side.mux.receive(memoryview(arrives), self.now))
        # Who is at the end of the tunnel closes the connection.
        if self.other(side).tunnel_over and not side.coming and not side.tunnel_over:
            self.note(side, side.mux.connection_lost(True, self.now))

    @rule()
    def deliver_everything(self) -> None:
        for which in (0, 1, 0):
            self.deliver(which, 1.0)

    @rule(which=side, data=st.data(), gives_up=st.booleans())
    def end_in_peace(self, which: int, data: st.DataObject, gives_up: bool) -> None:
        """Both sides finish, one takes everything, and the other may find that it takes long."""
        side = self.sides[which]
        channel = self.pick(data, side)
        if channel is None:
            return
        for each in (side, self.other(side), side):
            if channel in each.live and channel not in each.requests:
                if not each.live[channel].finished:
                    each.live[channel].finished = True
                    self.note(each, each.mux.finish(channel, self.now))
                self.deliver_everything()
        other = self.other(side)
        if channel in other.live:
            self.consume(other, channel, other.live[channel].untaken)
            self.deliver_everything()
        if gives_up and channel in side.live:
            self.note(side, side.mux.abort(channel, Code.RESET, "gone", self.now))

    @rule(seconds=st.sampled_from([0.005, 0.03, 0.4, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for side in self.sides:
            due = side.mux.next_deadline()
            if due is not None and due <= self.now:
                self.note(side, side.mux.deadline_passed(self.now))
            self.deliver(self.sides.index(side), 1.0)

    @rule(which=side, luck=st.integers(0, 40))
    def shut_down(self, which: int, luck: int) -> None:
        if luck == 23:
            side = self.sides[which]
            self.note(side, side.mux.shutdown(100_000.0, "done", self.now))

    # -- what always holds ------------------------------------------------

    @invariant()
    def the_accounts_are_right(self) -> None:
        for side in self.sides:
            queued = sum(app.untaken for app in side.live.values())
            # The frame that has come in part is accounted for in full.
            assert queued <= side.budget.queued <= queued + 2 * WINDOW * 2**13
            assert side.mux.path.in_flight >= 0

    def teardown(self) -> None:
        for _ in range(100):
            for side in self.sides:
                for channel in list(side.live):
                    self.wind_up(side, channel)
            if self.deliver_all() and not any(side.live for side in self.sides):
                break
        for side in self.sides:
            assert side.live == {}
            assert side.mux.channels() == []
            assert side.budget.queued == 0
            assert side.mux.path.in_flight == 0
        # A channel ends cleanly for the one who was asked only if it does for the opener, unless
        # the opener gave up in between.
        near, far = self.sides
        for channel in near.over.keys() & far.over.keys():
            opener, asked = (near, far) if channel % 2 else (far, near)
            if opener.over[channel] is None:
                assert asked.over[channel] is None

    def wind_up(self, side: Side, channel: int) -> None:
        if channel in side.requests:
            self.accept(side, channel)
        if channel in side.live and not side.live[channel].finished:
            side.live[channel].finished = True
            self.note(side, side.mux.finish(channel, self.now))
        if channel in side.live:
            self.consume(side, channel, side.live[channel].untaken)

    def deliver_all(self) -> bool:
        quiet = True
        for which, side in enumerate(self.sides):
            self.flush(self.other(side))
            quiet = quiet and not side.coming
            self.deliver(which, 1.0)
        return quiet


Muxes.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
test_two_muxes_under_random_use = Muxes.TestCase


# -- random bytes ---------------------------------------------------------

_SIZES = (0, 1, 16, 100, 1000, 5000)


def conversation(dice: random.Random) -> bytes:
    """What a peer might say, mostly in a sensible order, on a few channels."""
    said = [lstp.encode(lstp.PropertyExchange(window=WINDOW))]
    for _ in range(dice.randint(1, 25)):
        channel = dice.choice((1, 3, 5, 2, 4, 2, 4))
        kind = dice.randrange(12)
        if kind < 3:
            message: lstp.Message = lstp.ConnectionRequest(destination="tcp:a:1")
            said.append(lstp.encode(message, channel))
            said.append(lstp.encode(lstp.ServiceBeginRequest(), channel))
        else:
            message = (
                lstp.ServiceData(dice.randbytes(dice.choice(_SIZES)), last=dice.random() < 0.3),
                lstp.ServiceData(dice.randbytes(dice.choice(_SIZES))),
                lstp.ConnectionAck(),
                lstp.ServiceBeginAck("tcp:b:2"),
                lstp.ServiceDataResume(0, dice.choice((WINDOW, 9000))),
                lstp.ServiceFreeRequest(dice.choice((None, Code.RESET))),
                lstp.ServiceFreeAck(),
                lstp.ConnectionNack(Code.LIMIT, "no"),
                lstp.Error(Code.INTERNAL, "oops", fatal=dice.random() < 0.1),
            )[kind - 3]
            said.append(lstp.encode(message, channel if dice.random() < 0.97 else 0))
    return b"".join(said)


def garbled(cases: int) -> Iterator[bytes]:
    dice = random.Random(7)
    seeds = [conversation(dice) for _ in range(200)]
    yield from fuzz.damaged(seeds, cases=cases // 2)
    for _ in range(cases - cases // 2):
        data = bytearray(conversation(dice))
        if dice.random() < 0.2:
            data += dice.randbytes(dice.randint(1, 60))
        yield bytes(data)


def played(pieces: Sequence[bytes]) -> tuple[list[object], list[tuple[int, lstp.Message]], int]:
    """Events with joined data, answers, and the budget of an end that is told ``pieces``."""
    budget = Budget()
    mux = LstpMux(False, MuxConfig(window=4000, max_channels=3), 0.0, budget=budget)
    mux.receive(memoryview(lstp.encode(lstp.PropertyExchange())), 0.0)
    for _ in range(2):
        mux.open("tcp:a:1", 0.0)
    events: list[object] = []
    for piece in pieces:
        for event in mux.receive(memoryview(piece), 1.0):
            last = events[-1] if events else None
            if not isinstance(event, t.Data):
                events.append(event)
            elif isinstance(last, tuple) and last[:2] == ("data", event.channel):
                events[-1] = ("data", event.channel, last[2] + bytes(event.data))
            else:
                events.append(("data", event.channel, bytes(event.data)))
    answers = messages(mux.data_to_send())
    if isinstance(last_of(events), t.TunnelEnded):
        assert budget.queued == mux.path.in_flight == 0
        assert mux.channels() == []
    return events, answers, budget.queued


def last_of(events: list[object]) -> object:
    return events[-1] if events else None


def test_any_bytes_cut_anywhere_give_the_same_events_and_only_protocol_errors() -> None:
    dice = random.Random(3)
    ended = 0
    for data in garbled(fuzz.CASES):
        whole = played([data])
        cuts = [dice.randrange(1 << 30) for _ in range(dice.choice((1, 2, 5, 40)))]
        assert played(fuzz.pieces(data, cuts)) == whole
        ended += isinstance(last_of(whole[0]), t.TunnelEnded)
        assert whole[2] <= 3 * 4000 + 2 * 4000
    # The input is neither all nonsense nor all sense.
    assert fuzz.CASES * 0.05 < ended < fuzz.CASES * 0.95


def test_memory_stays_bounded_whatever_comes() -> None:
    mux = LstpMux(False, MuxConfig(window=4000), 0.0)
    mux.receive(memoryview(lstp.encode(lstp.PropertyExchange())), 0.0)
    dice = random.Random(5)
    kinds = [kind for kind in M if kind is not M.CONNECTION_REQUEST]
    flood = b"".join(
        lstp.HEADER.pack(0, dice.choice(kinds), 0, 0, dice.randrange(3, 1 << 32))
        for _ in range(500)
    )
    trickle = lstp.HEADER.pack(16384, M.CONNECTION_REQUEST, 0, 0, 1)
    tracemalloc.start()
    try:
        for _ in range(5):
            assert mux.receive(memoryview(flood), 1.0) == []
            mux.data_to_send()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(40):
            assert mux.receive(memoryview(flood), 1.0) == []
            mux.data_to_send()
        mux.receive(memoryview(trickle), 1.0)
        for _ in range(16383):
            mux.receive(memoryview(b" "), 1.0)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200_000
