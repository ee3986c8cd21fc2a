"""Two muxes that talk to each other in memory, in a time that only the test moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget

Happened = TypeVar("Happened")
Split = Callable[[], int]
"""Gives the size of the next piece in which bytes arrive."""

WHOLE = 1 << 30


class MuxEnd:
    """One mux, what has happened to it and what its applications were given."""

    def __init__(self, mux: t.Mux, budget: Budget) -> None:
        self.mux = mux
        self.budget = budget
        self.eager = True
        """Applications take at once whatever comes."""
        self.events: list[t.Event] = []
        """What has happened, without `Data` and `Writable`."""
        self.got: dict[int, bytearray] = {}
        """Bytes received, by channel."""
        self.untaken: dict[int, int] = {}
        """Bytes received that the application has not taken."""
        self.wire = bytearray()
        """What has been sent and has not arrived."""

    def note(self, events: Sequence[t.Event], now: float) -> None:
        """Keep what happened."""
        for event in events:
            if isinstance(event, t.Data):
                self.got.setdefault(event.channel, bytearray()).extend(event.data)
                size = len(event.data)
                self.untaken[event.channel] = self.untaken.get(event.channel, 0) + size
                if self.eager:
                    self.take(event.channel, now)
            elif not isinstance(event, t.Writable):
                self.events.append(event)
                if isinstance(event, t.ChannelEnded):
                    self.untaken.pop(event.channel, None)

    def take(self, channel: int, now: float) -> None:
        """The application takes what has come."""
        size = self.untaken.pop(channel, 0)
        if size and channel in set(self.mux.channels()):
            self.note(self.mux.consumed(channel, size, now), now)

    def all_of(self, kind: type[Happened], channel: int | None = None) -> list[Happened]:
        """The events of one kind, or of one kind and channel."""
        found: list[Happened] = [event for event in self.events if isinstance(event, kind)]
        if channel is None:
            return found
        return [event for event in found if getattr(event, "channel", None) == channel]

    def send_now(self, channel: int, data: memoryview, now: float) -> int:
        """Put one frame of ``data`` on the wire; how many bytes of it, 0 if none may be sent."""
        mux = self.mux
        size = min(mux.sendable(channel), mux.max_frame, len(data))
        if size <= 0:
            return 0
        self.wire += mux.data_to_send()
        frame = bytearray(mux.header_size) + data[:size]
        length = mux.frame_into(frame, 0, channel, size, now)
        self.wire += frame[: mux.header_size + length]
        return size


class Conversation:
    """``near`` (the master) and ``far``; ``split`` says how their bytes are cut on the way."""

    def __init__(self, near: MuxEnd, far: MuxEnd, now: float, split: Split | None = None) -> None:
        self.near = near
        self.far = far
        self.now = now
        self._split = split or (lambda: WHOLE)

    def other(self, end: MuxEnd) -> MuxEnd:
        """Whom ``end`` talks to."""
        return self.far if end is self.near else self.near

    def carry(self, sender: MuxEnd) -> bool:
        """Bring what ``sender`` has to say to the other end; False if there is nothing."""
        sender.wire += sender.mux.data_to_send()
        data, sender.wire = sender.wire, bytearray()
        receiver = self.other(sender)
        position = 0
        while position < len(data):
            size = self._split()
            piece = bytearray(data[position : position + size])
            receiver.note(receiver.mux.receive(memoryview(piece), self.now), self.now)
            # Whoever kept the view would read this.
            piece[:] = b"\xee" * len(piece)
            position += size
        return bool(data)

    def settle(self) -> None:
        """Until nobody has anything to say; the time stands still."""
        while self.carry(self.near) or self.carry(self.far):
            pass

    def wait(self, seconds: float) -> None:
        """Let time pass; what is due is done when it is due."""
        until = self.now + seconds
        self.settle()
        while True:
            dues = [end.mux.next_deadline() for end in (self.near, self.far)]
            due = min((due for due in dues if due is not None), default=until)
            if due >= until:
                break
            # A deadline that stays in the past would be a mux that loops for ever.
            self.now = max(due, self.now + 1e-6)
            for end in (self.near, self.far):
                end.note(end.mux.deadline_passed(self.now), self.now)
            self.settle()
        self.now = until

    def ask(self, opener: MuxEnd, destination: str) -> tuple[int, int]:
        """Ask for a channel; its ids at the opener and at the other end, which has not answered."""
        other = self.other(opener)
        before = len(other.all_of(t.ChannelRequested))
        channel = opener.mux.open(destination, self.now)
        self.settle()
        return channel, other.all_of(t.ChannelRequested)[before].channel

    def open(self, opener: MuxEnd, destination: str = "tcp:host.example:80") -> tuple[int, int]:
        """A channel that stands; its ids at the opener and at the other end."""
        here, there = self.ask(opener, destination)
        other = self.other(opener)
        other.note(other.mux.opened(there, "tcp:192.0.2.1:4000"), self.now)
        self.settle()
        return here, there

    def send(self, sender: MuxEnd, channel: int, data: bytes, patience: float = 2.0) -> int:
        """Send ``data`` as far as the other end's applications take it; how many bytes went.

        ``patience``: seconds that may pass without being allowed to send.
        """
        view = memoryview(data)
        waited = 0.0
        while view and channel in set(sender.mux.channels()):
            size = sender.send_now(channel, view, self.now)
            view = view[size:]
            self.settle()
            if size:
                waited = 0.0
            elif waited >= patience:
                break
            else:
                self.wait(0.05)
                waited += 0.05
        return len(data) - len(view)

    def finish(self, end: MuxEnd, channel: int) -> None:
        """``end`` has no more to send."""
        end.note(end.mux.finish(channel, self.now), self.now)
        self.wait(0.1)
