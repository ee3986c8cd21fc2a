"""LSTP muxes for tests: one whose peer is played by the test, or two that talk to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.wire import lstp

Happened = TypeVar("Happened")


def messages(data: bytes) -> list[tuple[int, lstp.Message]]:
    """What ``data`` says: channel and message, in order."""
    said = []
    while data:
        length, kind, flags, _, channel = lstp.HEADER.unpack_from(data)
        end = lstp.HEADER_SIZE + length
        said.append((channel, lstp.decode(kind, flags, data[lstp.HEADER_SIZE : end])))
        data = data[end:]
    return said


class End:
    """A mux, what has happened to it, and what its applications were given."""

    def __init__(
        self,
        master: bool,
        config: MuxConfig | None = None,
        *,
        budget: Budget | None = None,
        parent: LstpMux | None = None,
        now: float = 1000.0,
    ) -> None:
        self.now = now
        self.budget = Budget() if budget is None else budget
        self.mux = LstpMux(master, config or MuxConfig(), now, budget=self.budget, parent=parent)
        self.eager = True
        """Applications take at once whatever comes."""
        self.events: list[t.Event] = []
        self.got: dict[int, bytes] = {}

    def note(self, events: Sequence[t.Event]) -> None:
        """Keep what happened; Data goes to the applications."""
        for event in events:
            if not isinstance(event, t.Data):
                self.events.append(event)
                continue
            self.got[event.channel] = self.got.get(event.channel, b"") + bytes(event.data)
            if self.eager:
                self.note(self.mux.consumed(event.channel, len(event.data), self.now))

    def all_of(self, kind: type[Happened]) -> list[Happened]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    # -- with a test as the peer ------------------------------------------

    def hears(self, message: lstp.Message, channel: int = 0) -> None:
        """A message from the peer."""
        self.note(self.mux.receive(memoryview(lstp.encode(message, channel)), self.now))

    def says(self) -> list[tuple[int, lstp.Message]]:
        """What goes to the peer now."""
        return messages(self.mux.data_to_send())


class Talk:
    """Two muxes, near (the master) and far, and what travels between them."""

    def __init__(
        self,
        near: MuxConfig | None = None,
        far: MuxConfig | None = None,
        *,
        up: bool = True,
    ) -> None:
        self.near = End(True, near)
        self.far = End(False, far)
        if up:
            self.settle()
            self.near.events.clear()
            self.far.events.clear()

    def at(self, now: float) -> None:
        """The clock of both."""
        self.near.now = self.far.now = now

    def carry(self, sender: End) -> bytes:
        """Bring what ``sender`` has to say to the other; those bytes."""
        receiver = self.far if sender is self.near else self.near
        data = sender.mux.data_to_send()
        if data:
            receiver.note(receiver.mux.receive(memoryview(data), receiver.now))
        return data

    def settle(self) -> None:
        """Until nobody has anything to say."""
        while self.carry(self.near) or self.carry(self.far):
            pass

    def wait(self, seconds: float) -> None:
        """Let time pass; timers fire when they are due."""
        until = self.near.now + seconds
        while True:
            dues = [end.mux.next_deadline() for end in (self.near, self.far)]
            due = min((due for due in dues if due is not None), default=None)
            if due is None or due > until:
                break
            self.at(max(due, self.near.now))
            for end in (self.near, self.far):
                end.note(end.mux.deadline_passed(end.now))
            self.settle()
        self.at(until)

    def open(self, destination: str = "tcp:a:1") -> int:
        """A channel from near to far, connected on both sides."""
        channel = self.near.mux.open(destination, self.near.now)
        self.settle()
        self.far.note(self.far.mux.opened(channel, "tcp:b:2"))
        self.settle()
        self.near.events.clear()
        self.far.events.clear()
        return channel
