"""What a simple mux need not write itself: a base for channel protocols of your own.

`PlainMux` keeps the channels, their flow control and the queue of frames. It
carries no datagrams and lets nobody listen; what is left to say is how frames
look and what they mean (``examples/custom_protocol.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from struct import Struct

from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.flow_control import ChannelFlowControl, FlowControl
from tunnelkit.core.mux.framing import FrameCutter
from tunnelkit.core.mux.path import Path
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError


class PlainChannel(ChannelFlowControl):
    """One channel."""

    __slots__ = ("far_ended", "near_ended", "number", "opener", "waits")

    def __init__(self, number: int, window: int, budget: Budget, opener: bool) -> None:
        super().__init__(window, window, budget)
        self.number = number
        self.opener = opener
        """This side asked for it."""
        self.waits = True
        """There is no answer yet."""
        self.near_ended = False
        self.far_ended = False


class PlainMux:
    """The part of `tunnelkit.core.mux.contract.TunnelMux` that does not depend on the wire.

    A subclass says how frames look (the methods that raise NotImplementedError), and brings
    what it receives to the methods whose names begin with ``_far``. Ids are never used
    twice; the master's are odd, the other end's even.
    """

    header: Struct
    """What each frame begins with: length and kind first, the channel last."""
    data_kind: int
    """The kind of frame whose body is payload."""
    max_frame = 64 * 1024
    window = 256 * 1024
    """Bytes that each side may send on a new channel."""
    max_channels = 10_000
    """Channels that may be open at once."""
    addressed_datagrams = False

    def __init__(self, master: bool, budget: Budget, now: float) -> None:
        self.header_size = self.header.size
        self._cutter = FrameCutter(self.header, self.data_kind, self.max_frame, self.check_header)
        self._events: list[t.Event] = []
        self._receiving: PlainChannel | None = None
        """Whose payload is arriving; None: it is discarded."""
        self.flow = FlowControl(budget)
        self.path: Path = self.flow.path
        self._channels: dict[int, PlainChannel] = {}
        self._next_id = 1 if master else 2
        self._far_id = 0
        """The latest that the far side has used."""
        self._out: list[bytes] = []
        self._now = now
        self._over = False
        self._up_told = False
        self._drained_by: float | None = None

    # -- how frames look: for the subclass --------------------------------

    @staticmethod
    def check_header(length: int, kind: int) -> None:
        """Raise `RemoteProtocolError` for a length or kind that no frame may have."""
        raise NotImplementedError

    def message(self, kind: int, flags: int, channel: int, body: bytes) -> None:
        """A frame that is no payload, whole: add to ``_events`` what it means."""
        raise NotImplementedError

    def _put_open(self, channel: int, destination: str) -> None:
        """Queue the frame that asks for a channel."""
        raise NotImplementedError

    def _put_opened(self, channel: int, bound: str) -> None:
        """Queue the frame that grants it."""
        raise NotImplementedError

    def _put_finish(self, channel: int) -> None:
        """Queue the frame that ends this side's direction."""
        raise NotImplementedError

    def _put_reset(self, channel: int, code: Code, reason: str) -> None:
        """Queue the frame that refuses or breaks a channel."""
        raise NotImplementedError

    def _put_end(self, code: Code, reason: str) -> None:
        """Queue the frame that ends the tunnel."""
        raise NotImplementedError

    def _put_grant(self, channel: int, taken: int, limit: int) -> None:
        """Queue the frame that grants credit."""
        raise NotImplementedError

    def _data_header(self, channel: int, size: int) -> bytes:
        """``header_size`` bytes that go before so much payload."""
        raise NotImplementedError

    # -- what the far side said -------------------------------------------

    def _find(self, number: int) -> PlainChannel | None:
        """The channel; None if it is over, so that what comes for it is late and harmless."""
        ch = self._channels.get(number)
        own = number % 2 == self._next_id % 2
        if ch is None and not 0 < number <= (self._next_id - 2 if own else self._far_id):
            raise RemoteProtocolError(f"channel {number} was never used")
        return ch

    def _far_open(self, number: int, destination: str) -> list[t.Event]:
        if number % 2 == self._next_id % 2 or number <= self._far_id:
            raise RemoteProtocolError(f"channel {number} cannot be opened now")
        self._far_id = number
        if self._drained_by is not None:
            self._put_reset(number, Code.SHUTDOWN, "this end is shutting down")
        elif len(self._channels) >= self.max_channels or not self.flow.budget.accepts_channels:
            self._put_reset(number, Code.LIMIT, "too much is open")
        else:
            self._new(number, False)
            return [t.ChannelRequested(number, destination)]
        return []

    def _far_opened(self, ch: PlainChannel, bound: str) -> list[t.Event]:
        if not ch.opener or not ch.waits:
            raise RemoteProtocolError(f"an answer for channel {ch.number}, which waits for none")
        ch.waits = False
        opened = t.ChannelOpened(ch.number, bound)
        if ch.outbound.sent < t.EARLY_DATA or self.sendable(ch.number) <= 0:
            return [opened]
        return [opened, t.Writable(ch.number)]

    def _far_data(self, ch: PlainChannel, data: memoryview) -> t.Data:
        if ch.far_ended:
            raise RemoteProtocolError(f"data behind the end of channel {ch.number}")
        if ch.waits and ch.inbound.received + len(data) > t.EARLY_DATA:
            raise RemoteProtocolError(f"too much data before channel {ch.number} is connected")
        ch.inbound.arrived(len(data))
        return t.Data(ch.number, data)

    def _far_grant(self, ch: PlainChannel, taken: int, limit: int) -> list[t.Event]:
        self.flow.reported(ch, ch.outbound.granted(taken, limit), self._now)
        return [t.Writable(ch.number)] if self.sendable(ch.number) > 0 else []

    def _far_finish(self, ch: PlainChannel) -> list[t.Event]:
        if ch.far_ended:
            raise RemoteProtocolError(f"a second end of channel {ch.number}")
        ch.far_ended = True
        return [t.Finished(ch.number), *self._end_if_done(ch.number)]

    def _far_reset(self, ch: PlainChannel, code: Code, reason: str) -> list[t.Event]:
        return self._ends(ch.number, code, reason, refused=ch.opener and ch.waits)

    def _far_end(self, code: Code, reason: str) -> list[t.Event]:
        return self._all_over(None if code is Code.SHUTDOWN else code, reason)

    def takes(self, size: int, flags: int, channel: int) -> bool:
        """See `FrameSink`: there is no fast path here."""
        return False

    def data_begins(self, length: int, flags: int, channel: int) -> None:
        """See `FrameSink`."""
        self._receiving = self._find(channel)

    def data(self, piece: memoryview) -> None:
        """See `FrameSink`."""
        if self._receiving is not None:
            self._events.append(self._far_data(self._receiving, piece))

    def data_ended(self) -> None:
        """See `FrameSink`; an empty frame is nothing."""

    # -- life of channels and tunnel --------------------------------------

    def _new(self, number: int, opener: bool) -> None:
        channel = PlainChannel(number, self.window, self.flow.budget, opener)
        self._channels[number] = channel

    def _ends(
        self, number: int, code: Code | None, reason: str = "", refused: bool = False
    ) -> list[t.Event]:
        """The channel is over, and so may be the tunnel."""
        self.flow.ended(self._channels.pop(number))
        return [t.ChannelEnded(number, code, reason, refused), *self._maybe_over()]

    def _end_if_done(self, number: int) -> list[t.Event]:
        """A channel whose two directions have ended is over once this side has taken all of it."""
        ch = self._channels[number]
        done = ch.near_ended and ch.far_ended and not ch.inbound.queued
        return self._ends(number, None) if done else []

    def _maybe_over(self) -> list[t.Event]:
        if self._drained_by is None or self._channels or self._over:
            return []
        self._put_end(Code.SHUTDOWN, "")
        return self._all_over(None, "")

    def _all_over(self, code: Code | None, reason: str) -> list[t.Event]:
        """Every channel is reset, and the tunnel is over."""
        self._over = self._cutter.closed = True
        events: list[t.Event] = []
        for number, ch in self._channels.items():
            self.flow.ended(ch)
            events.append(t.ChannelEnded(number, code or Code.SHUTDOWN, reason))
        self._channels.clear()
        return [*events, t.TunnelEnded(code, reason)]

    def _fail(self, code: Code, reason: str) -> list[t.Event]:
        if self._over:
            return []
        self._put_end(code, reason)
        return self._all_over(code, reason)

    # -- the contract -----------------------------------------------------

    def channels(self) -> Iterable[int]:
        """Ids of the channels that are not over."""
        return self._channels.keys()

    def receive_data(self, data: memoryview, now: float) -> int:
        """See `contract.Mux`: there is no fast path here."""
        return 0

    def receive(self, data: memoryview, now: float) -> Sequence[t.Event]:
        """See `Mux`; a text that is not UTF-8 or a body too short breaks the protocol."""
        if self._over:
            return t.NO_EVENTS
        self._now = now
        self._events = self._say_up()
        try:
            self._cutter.cut(data, self, self._events)
        except (RemoteProtocolError, UnicodeDecodeError, struct.error) as error:
            self._events += self._fail(Code.PROTOCOL, str(error))
        return self._events

    def open(self, destination: str, now: float) -> int:
        """Ask for a channel; raises `LimitReached`."""
        if self._over or self._drained_by is not None:
            raise t.LimitReached("the tunnel takes no new channels now", Code.SHUTDOWN)
        if len(self._channels) >= self.max_channels:
            raise t.LimitReached(f"{self.max_channels} channels are open", Code.LIMIT)
        number, self._next_id = self._next_id, self._next_id + 2
        self._new(number, True)
        self._put_open(number, destination)
        return number

    def lacks(self, destination: str) -> str:
        """See `Mux`: there are streams that this side opens, and nothing else."""
        kind = destination.partition(":")[0]
        what = {"udp": "datagrams", "listen": "listening at the far side"}.get(kind)
        return f"the channel protocol has no {what}" if what else ""

    def opened(self, channel: int, bound: str) -> Sequence[t.Event]:
        """Answer `ChannelRequested`."""
        self._channels[channel].waits = False
        self._put_opened(channel, bound)
        return t.NO_EVENTS

    def refuse(self, channel: int, code: Code, reason: str) -> Sequence[t.Event]:
        """Answer `ChannelRequested`."""
        self._put_reset(channel, code, reason)
        self.flow.ended(self._channels.pop(channel))
        return self._maybe_over()

    def finish(self, channel: int, now: float) -> Sequence[t.Event]:
        """This side has no more data for the channel."""
        self._channels[channel].near_ended = True
        self._put_finish(channel)
        return self._end_if_done(channel)

    def decline(self, event: t.ExtensionEvent) -> Sequence[t.Event]:
        """See `Mux`: there are no such events."""
        return t.NO_EVENTS

    def sendable(self, channel: int) -> int:
        """See `Mux`."""
        ch = self._channels.get(channel)
        if ch is None or ch.near_ended:
            return 0
        may = self.flow.sendable(ch)
        return min(may, max(0, t.EARLY_DATA - ch.outbound.sent)) if ch.waits else may

    def waits_for_path(self, channel: int) -> bool:
        """See `Mux`."""
        ch = self._channels.get(channel)
        if ch is None or ch.near_ended or (ch.waits and ch.outbound.sent >= t.EARLY_DATA):
            return False
        return ch.outbound.credit > 0

    def data_to_send(self) -> bytes:
        """Everything due except payload."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def next_deadline(self) -> float | None:
        """See `Mux`."""
        if self._over:
            return None
        if not self._up_told:
            return self._now
        dues = [self._drained_by, self.flow.next_deadline(self._now)]
        return min((due for due in dues if due is not None), default=None)

    def deadline_passed(self, now: float) -> Sequence[t.Event]:
        """See `Mux`."""
        self._now = now
        if self._over:
            return t.NO_EVENTS
        if self._drained_by is not None and now >= self._drained_by:
            return self._fail(Code.SHUTDOWN, "the time to drain is over")
        for ch in self.flow.due_reports(now):
            assert isinstance(ch, PlainChannel)
            self._put_grant(ch.number, *ch.inbound.report())
        self.flow.deadline_passed(self._channels.values(), now)
        return self._say_up()

    def _say_up(self) -> list[t.Event]:
        """There is nothing to wait for: the tunnel is up from the start."""
        if self._up_told:
            return []
        self._up_told = True
        return [t.TunnelUp()]

    def consumed(self, channel: int, size: int, now: float) -> Sequence[t.Event]:
        """The near application has taken ``size`` bytes."""
        ch = self._channels.get(channel)
        if ch is None:
            # What the application of a channel that is over still takes was given up with it.
            return t.NO_EVENTS
        if self.flow.consumed(ch, size, now):
            ch.report_at = 0.0
            self._put_grant(channel, *ch.inbound.report())
        return self._end_if_done(channel)

    def abort(self, channel: int, code: Code, reason: str, now: float) -> Sequence[t.Event]:
        """End the channel at once, as a reset."""
        self._put_reset(channel, code, reason)
        return self._ends(channel, code, reason)

    def shutdown(self, grace: float, reason: str, now: float) -> Sequence[t.Event]:
        """No new channels; over when the open ones are, or after ``grace`` seconds."""
        self._drained_by = now + grace
        self.flow.soonest = 0.0
        return self._maybe_over()

    def connection_lost(self, clean: bool, now: float) -> Sequence[t.Event]:
        """The connection is gone; every channel still open is reset."""
        if self._over:
            return t.NO_EVENTS
        return self._all_over(Code.RESET, "the tunnel connection was lost")

    def send(self, channel: int, data: bytes, now: float) -> None:
        """Queue one frame."""
        head = self.header_size
        frame = bytearray(head) + data
        self.frame_into(frame, 0, channel, len(data), now)
        self._out.append(bytes(frame))

    def frame_into(
        self, buffer: bytearray | memoryview, offset: int, channel: int, size: int, now: float
    ) -> int:
        """See `Mux`."""
        buffer[offset : offset + self.header_size] = self._data_header(channel, size)
        self.flow.sent(self._channels[channel], size, now)
        return size

    # -- what it does not carry -------------------------------------------

    def open_accepted(self, listener: int, origin: str, now: float) -> int:
        """Nobody can be asked to listen."""
        raise LocalProtocolError("this protocol does not let the far side listen")

    def open_datagrams(self, now: float, destination: str = "udp:*") -> int:
        """There are no datagrams."""
        raise LocalProtocolError("this protocol carries no datagrams")

    def send_datagram(
        self,
        flow: int,
        source: tuple[str, int],
        destination: tuple[str, int],
        data: bytes | memoryview,
        now: float,
    ) -> bool:
        """There are no datagrams."""
        raise LocalProtocolError("this protocol carries no datagrams")
