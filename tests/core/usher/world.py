"""Two Usher muxes, the bytes between them, and applications that tag every stream.

Whatever the steps are, data must come out at the other end of the session
into which it was put, in order and complete (rules X9 and X11).
"""

from __future__ import annotations

import struct
from random import Random

from tunnelkit.core.mux import contract as t
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.errors import Code
from tunnelkit.wire.usher import Version


def tagged(serial: int, side: int, offset: int, size: int) -> bytes:
    """``size`` bytes at ``offset`` of what ``side`` sends on stream ``serial``."""
    unit = struct.pack(">IHH", serial, side, 0xA55A)
    start = offset % 8
    return (unit * (size // 8 + 2))[start : start + size]


class Stream:
    """What has gone in and come out, by side."""

    __slots__ = ("finished", "got", "sent")

    def __init__(self) -> None:
        self.sent = [0, 0]
        self.got = [0, 0]
        self.finished = [False, False]


class World:
    """Steps are methods; each checks what it can see."""

    def __init__(self, version: Version, quota: int = 100) -> None:
        self.now = 0.0
        config = UsherConfig(max_sessions=quota, window=3000)
        self.muxes = [UsherMux(version, config, 0.0) for _ in range(2)]
        self.pipes = [bytearray(), bytearray()]
        """Bytes that each side has sent and the other has not received."""
        self.streams: dict[int, Stream] = {}
        self.channels: list[dict[int, int]] = [{}, {}]
        """Serial number of the stream of each live channel, by side."""
        self.unanswered: list[list[int]] = [[], []]
        self.untaken: list[dict[int, int]] = [{}, {}]
        """Bytes that applications have not taken yet."""
        self.serial = 0
        self.cycles = 0
        """Sessions that have come and gone."""
        self.clean = 0
        for side in (0, 1):
            self.wait(0.0)
            self.deliver(side, 1 << 30)

    # -- steps ------------------------------------------------------------

    def open(self, side: int) -> None:
        """Somebody wants a session."""
        self.serial += 1
        try:
            channel = self.muxes[side].open(f"tcp:s{self.serial}:1", self.now)
        except t.LimitReached:
            return
        assert channel not in self.channels[side]
        self.channels[side][channel] = self.serial
        self.streams[self.serial] = Stream()

    def answer(self, side: int, accept: bool) -> None:
        """The oldest request is answered."""
        if self.unanswered[side]:
            channel = self.unanswered[side].pop(0)
            mux = self.muxes[side]
            if accept:
                self._handle(side, mux.opened(channel, ""))
            else:
                self._handle(side, mux.refuse(channel, Code.REFUSED, ""))

    def send(self, side: int, channel: int, size: int) -> None:
        """As much of ``size`` bytes as may be sent."""
        mux = self.muxes[side]
        size = min(size, mux.sendable(channel))
        if size > 0:
            serial = self.channels[side][channel]
            stream = self.streams[serial]
            frame = bytearray(mux.header_size) + tagged(serial, side, stream.sent[side], size)
            mux.frame_into(frame, 0, channel, size, self.now)
            stream.sent[side] += size
            self._collect(side)
            self.pipes[side] += frame

    def finish(self, side: int, channel: int) -> None:
        """The application has no more to send."""
        stream = self.streams[self.channels[side][channel]]
        if not stream.finished[side] and channel not in self.unanswered[side]:
            stream.finished[side] = True
            self._handle(side, self.muxes[side].finish(channel, self.now))

    def abort(self, side: int, channel: int) -> None:
        """The application is gone."""
        self._handle(side, self.muxes[side].abort(channel, Code.RESET, "gone", self.now))
        assert channel not in self.channels[side]

    def take(self, side: int, channel: int, size: int) -> None:
        """The application takes data, if it is connected."""
        size = min(size, self.untaken[side].get(channel, 0))
        if size and channel not in self.unanswered[side]:
            self.untaken[side][channel] -= size
            self._handle(side, self.muxes[side].consumed(channel, size, self.now))

    def deliver(self, side: int, size: int) -> None:
        """The first ``size`` bytes that ``side`` has sent arrive."""
        self._collect(side)
        pipe = self.pipes[side]
        data = bytes(pipe[:size])
        del pipe[:size]
        if data:
            self._handle(1 - side, self.muxes[1 - side].receive(memoryview(data), self.now))

    def wait(self, seconds: float) -> None:
        """Time passes; what is under way arrives long before an id that was reset is used again."""
        if seconds > 1:
            for side in (0, 1, 0, 1):
                self.deliver(side, 1 << 30)
        self.now += seconds
        for side, mux in enumerate(self.muxes):
            due = mux.next_deadline()
            if due is not None and due <= self.now:
                self._handle(side, mux.deadline_passed(self.now))

    def settle(self) -> None:
        """Everybody ends what is open, and everything arrives."""
        for _ in range(100):
            for side in (0, 1):
                while self.unanswered[side]:
                    self.answer(side, accept=True)
                for channel in list(self.channels[side]):
                    if channel in self.channels[side]:
                        self.finish(side, channel)
                    self.take(side, channel, 1 << 30)
                self.deliver(side, 1 << 30)
            self.wait(0.05)
            if not any(self.channels) and not any(self.pipes):
                return
        raise AssertionError(f"{self.channels} do not end")

    def step(self, chance: Random) -> None:
        """Any one of the steps."""
        side = chance.randrange(2)
        live = self.channels[side]
        what = chance.random()
        if what < 0.18:
            self.open(side)
        elif what < 0.40:
            self.deliver(side, chance.choice((1, 7, 100, 5000)))
        elif what < 0.55:
            self.answer(side, chance.random() < 0.9)
        elif what < 0.555:
            self.wait(chance.choice((0.001, 0.03, 10.0)))
        elif live:
            channel = chance.choice(list(live))
            if what < 0.70:
                self.send(side, channel, chance.choice((1, 10, 500, 4000)))
            elif what < 0.85:
                self.take(side, channel, chance.choice((1, 100, 100_000)))
            elif what < 0.97:
                self.finish(side, channel)
            else:
                self.abort(side, channel)

    # -- checks -----------------------------------------------------------

    def _collect(self, side: int) -> None:
        self.pipes[side] += self.muxes[side].data_to_send()

    def _handle(self, side: int, events: object) -> None:
        assert isinstance(events, (list, tuple))
        for event in events:
            if isinstance(event, t.Data):
                self._data(side, event)
            elif isinstance(event, t.ChannelRequested):
                assert event.channel not in self.channels[side]
                serial = int(event.destination[5:-2])
                self.channels[side][event.channel] = serial
                self.unanswered[side].append(event.channel)
            elif isinstance(event, t.Finished):
                stream = self.streams[self.channels[side][event.channel]]
                assert stream.finished[1 - side]
                assert stream.got[side] == stream.sent[1 - side]
            elif isinstance(event, t.ChannelEnded):
                self._ended(side, event)
            elif isinstance(event, t.TunnelEnded):
                raise AssertionError(event)

    def _data(self, side: int, event: t.Data) -> None:
        serial = self.channels[side][event.channel]
        stream = self.streams[serial]
        size = len(event.data)
        assert event.data == tagged(serial, 1 - side, stream.got[side], size)
        stream.got[side] += size
        untaken = self.untaken[side]
        untaken[event.channel] = untaken.get(event.channel, 0) + size

    def _ended(self, side: int, event: t.ChannelEnded) -> None:
        serial = self.channels[side].pop(event.channel)
        left = self.untaken[side].pop(event.channel, 0)
        if event.channel in self.unanswered[side]:
            self.unanswered[side].remove(event.channel)
        stream = self.streams[serial]
        self.cycles += 1
        if event.code is None:
            self.clean += 1
            assert stream.finished == [True, True]
            assert (stream.got[side], left) == (stream.sent[1 - side], 0)
            assert stream.got[1 - side] == stream.sent[side]

    def check(self) -> None:
        """What holds at any time."""
        for side, mux in enumerate(self.muxes):
            assert set(mux.channels()) == set(self.channels[side])
            # Data counts from its header on.
            assert mux.budget.queued >= sum(self.untaken[side].values())
            assert mux.path.in_flight >= 0
