"""LSTP after the setup: channels, flow control and life of one tunnel connection (rows L3, L5).

`LstpMux` meets `TunnelMux` of `tunnelkit.core.types`. Payload takes a way of its own in
both directions: `receive` reports slices of what it was given, and
`frame_into` writes a header in front of payload that the caller has already
put in place. Everything else goes through the table in
`tunnelkit.core.lstp_channel`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from tunnelkit.core import types as t
from tunnelkit.core.credit import Budget
from tunnelkit.core.datagram_body import ANYWHERE
from tunnelkit.core.lstp_actions import read, unexpected
from tunnelkit.core.lstp_channel import DISCARDING, SENDING, Channel, State
from tunnelkit.core.lstp_datagrams import DatagramActions
from tunnelkit.core.lstp_frames import FrameCutter
from tunnelkit.core.path import Path
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import (
    ALPN,
    FLAG_COMPRESSED,
    FLAG_LAST,
    HEADER,
    HEADER_SIZE,
    check_header,
)
from tunnelkit.wire.lstp import MessageType as M

_SHORTEST_KEEPALIVE = 1.0
"""A peer that announces less seconds than this is taken at this many."""
_MAX_UNSENT = 65_536
"""Messages waiting to be sent that end the tunnel: the peer asks and asks, and does not read."""
_LATE = frozenset({M.SERVICE_DATA_PAUSE, M.SERVICE_DATA_RESUME, M.SERVICE_FREE_ACK, M.ERROR})
"""Messages that may have been on their way when their channel ended."""


@attrs.frozen
class MuxConfig:
    """What this end says of itself in its PROPERTY_EXCHANGE."""

    window: int = 262_144
    """Bytes the peer may send on a new channel before the first grant."""
    max_channels: int = 1024
    """Channels that the peer may have open at once."""
    keepalive: float = 10.0
    """This end sends something at least every so many seconds."""
    software: str = ""


@attrs.define
class _Peer:
    """What the other end said of itself; absent fields keep their value."""

    window: int = 262_144
    max_channels: int = 1024
    keepalive: float = 10.0


class LstpMux(DatagramActions):
    """Sans-IO multiplexer for one tunnel connection.

    ``master`` is this end's part by election: it allocates odd ids. ``parent``
    is the mux of the tunnel's first connection where this one is a further
    connection: limits come from there and its PROPERTY_EXCHANGE is empty.
    """

    header_size = HEADER_SIZE
    max_frame = lstp.MAX_DATA
    addressed_datagrams = False

    def __init__(
        self,
        master: bool,
        config: MuxConfig,
        now: float,
        *,
        budget: Budget | None = None,
        parent: LstpMux | None = None,
    ) -> None:
        super().__init__(budget if budget is not None else Budget(), now)
        self.config = config
        self._peer: _Peer = _Peer() if parent is None else attrs.evolve(parent._peer)
        self._window_known = parent is not None
        self._master = master
        self._next_id = 1 if master else 2
        self._joins: set[int] = set()
        """Ids under which further connections have been asked for."""
        self._heard = now
        self._said = now
        self._up = False
        self._drained_by: float | None = None
        self._cutter = FrameCutter(HEADER, M.SERVICE_DATA, check_header)
        self._events: list[t.Event] = []
        self._stream: Channel | None = None
        """Whose data is arriving; None: it is discarded."""
        self._stream_last = False
        own = lstp.PropertyExchange()
        if parent is None:
            own = lstp.PropertyExchange(
                software=config.software or None,
                window=config.window,
                max_channels=config.max_channels,
                keepalive=config.keepalive,
            )
        self._put(lstp.encode(own))

    @property
    def path(self) -> Path:
        """What is known of the way to the other end."""
        return self.flow.path

    @property
    def budget(self) -> Budget:
        """What all channels of the process may hold."""
        return self.flow.budget

    # -- verbs ------------------------------------------------------------

    def open(self, destination: str, now: float) -> int:
        """Ask for a channel to ``destination``; raises `LimitReached` when no more are possible."""
        if destination.startswith("service:"):
            request = lstp.ConnectionRequest(service=destination.partition(":")[2])
        else:
            request = lstp.ConnectionRequest(destination=destination)
        ch = self._ask(request, now)
        ch.leads_to(destination)
        return ch.id

    def open_datagrams(self, now: float, destination: str = ANYWHERE) -> int:
        """A channel for one local peer's datagrams, see `DatagramMux`."""
        return self.open(destination, now)

    def open_accepted(self, listener: int, origin: str, now: float) -> int:
        """Hand over a connection accepted for the far side, see `ListeningMux`."""
        if not self._may_accept(listener):
            raise LocalProtocolError(f"channel {listener} is no listener of the far side")
        return self._ask(lstp.ConnectionRequest(listener=listener, origin=origin), now).id

    def _ask(self, request: lstp.ConnectionRequest, now: float) -> Channel:
        self._now = now
        self._check_open()
        if self._opened_here >= self._peer.max_channels:
            raise t.LimitReached(
                f"the far side allows {self._peer.max_channels} channels at once", Code.LIMIT
            )
        number = self._allocate()
        self._put(lstp.encode(request, number))
        self._put(lstp.encode(lstp.ServiceBeginRequest(), number))
        ch = self._new(number, State.REQUESTED, opener=True)
        ch.requested_at = now
        self._opened_here += 1
        return ch

    def opened(self, channel: int, bound: str) -> Sequence[t.Event]:
        """The destination of a requested channel is connected."""
        ch = self._in(channel, State.DIALLING)
        ch.state = State.OPEN
        self._put(lstp.encode(lstp.ServiceBeginAck(bound), channel))
        if ch.outbound.credit > 0 and not ch.paused:
            return [t.Writable(channel)]
        return t.NO_EVENTS

    def refuse(self, channel: int, code: Code, reason: str) -> Sequence[t.Event]:
        """The destination of a requested channel cannot be had."""
        ch = self._in(channel, State.DIALLING)
        self._put(lstp.encode(lstp.ServiceBeginNack(code, reason), channel))
        return self._ends(ch, State.REFUSED, code, reason, refused=True)

    def sendable(self, channel: int) -> int:
        """Payload bytes that may be sent on this channel now."""
        ch = self._channels[channel]
        if ch.paused or ch.near_finished or ch.state not in SENDING:
            return 0
        return self.flow.sendable(ch)

    def waits_for_path(self, channel: int) -> bool:
        """True if only bytes in flight keep this channel from sending: no `Writable` will come."""
        ch = self._channels[channel]
        if ch.paused or ch.near_finished or ch.state not in SENDING:
            return False
        return ch.outbound.credit > 0

    def frame_into(
        self, buffer: bytearray | memoryview, offset: int, channel: int, size: int, now: float
    ) -> None:
        """Account for a frame of ``size`` bytes and write its header, see `types.Mux`."""
        HEADER.pack_into(buffer, offset, size, M.SERVICE_DATA, 0, 0, channel)
        self.flow.sent(self._channels[channel], size, now)
        self._said = now

    def send(self, channel: int, data: bytes, now: float) -> None:
        """Queue one frame."""
        if len(data) > min(self.sendable(channel), self.max_frame):
            raise LocalProtocolError(f"{len(data)} bytes are more than channel {channel} may send")
        frame = bytearray(HEADER_SIZE) + data
        self.frame_into(frame, 0, channel, len(data), now)
        self._put(bytes(frame))

    def finish(self, channel: int, now: float) -> Sequence[t.Event]:
        """Half-close: an empty last-data message, which needs no credit."""
        self._now = now
        ch = self._channels.get(channel)
        if ch is None or ch.near_finished or ch.state not in SENDING:
            raise LocalProtocolError(f"channel {channel} cannot finish")
        ch.near_finished = True
        self._put(HEADER.pack(0, M.SERVICE_DATA, FLAG_LAST, 0, channel))
        return self._maybe_free(ch)

    def consumed(self, channel: int, size: int, now: float) -> Sequence[t.Event]:
        """The near application has taken ``size`` bytes."""
        self._now = now
        ch = self._channels.get(channel)
        # What the application of a channel that is over still takes was given up with it.
        if ch is None or ch.reported_end:
            return t.NO_EVENTS
        urgent = self.flow.consumed(ch, size, now)
        if ch.far_finished:
            return self._maybe_free(ch)
        if urgent:
            self._report(ch)
        return t.NO_EVENTS

    def abort(self, channel: int, code: Code, reason: str, now: float) -> Sequence[t.Event]:
        """Reset the channel; whatever still comes for it is discarded."""
        self._now = now
        ch = self._channels.get(channel)
        if ch is None or ch.state in DISCARDING:
            return t.NO_EVENTS
        if ch.state is State.DIALLING:
            return self.refuse(channel, code, reason)
        self._put(lstp.encode(lstp.ServiceFreeRequest(code, reason), channel))
        if ch.state is State.LINGERING:
            # It has been waiting for the answer to its own request.
            self._put(lstp.encode(lstp.ServiceFreeAck(), channel))
        return self._ends(ch, State.ABORTING, code, reason)

    def request_connection(self, join: str, now: float) -> int:
        """Ask for a further tunnel connection that meets under ``join``; raises `LimitReached`.

        The answer is `ChannelOpened` or `ChannelEnded` for the id that is returned.
        """
        self._now = now
        self._check_open()
        number = self._allocate()
        self._joins.add(number)
        self._put(lstp.encode(lstp.ConnectionRequest("connection", join=join), number))
        return number

    def accept_connection(self, channel: int) -> None:
        """Answer `ConnectionRequested`: this end dials too."""
        self._put(lstp.encode(lstp.ConnectionAck(), channel))

    def refuse_connection(self, channel: int, code: Code, reason: str) -> None:
        """Answer `ConnectionRequested`: it does not."""
        self._put(lstp.encode(lstp.ConnectionNack(code, reason), channel))
        self._remember(channel)

    def shutdown(self, grace: float, reason: str, now: float) -> Sequence[t.Event]:
        """Drain: no new channels, the end when the open ones are over or after ``grace``.

        Said again, or after the far side has said it, it can only shorten the time.
        """
        self._now = now
        if self._over or (self._drained_by is not None and self._drained_by <= now + grace):
            return t.NO_EVENTS
        self._draining = True
        self._drained_by = now + grace
        self._put(lstp.encode(lstp.Shutdown(grace, reason)))
        return self._maybe_over()

    def connection_lost(self, clean: bool, now: float) -> Sequence[t.Event]:
        """The connection is gone; every channel still open is reset."""
        self._now = now
        if self._over:
            return t.NO_EVENTS
        # A tunnel whose last channel has ended is over already, so this is no clean end for anyone.
        if clean and self._draining:
            return self._all_over(Code.SHUTDOWN, "the far side has shut down")
        return self._all_over(Code.RESET, "the tunnel connection was lost")

    def fail(self, code: Code, reason: str) -> Sequence[t.Event]:
        """End the tunnel with a fatal ERROR."""
        if self._over:
            return t.NO_EVENTS
        self._put(lstp.encode(lstp.Error(code, reason, fatal=True)))
        return self._all_over(code, reason)

    # -- output and time --------------------------------------------------

    def data_to_send(self) -> bytes:
        """Everything due except payload."""
        out = self._out
        if self._granting:
            for ch in self._granting.values():
                ch.report_at = 0.0
                if not ch.far_finished and not ch.reported_end:
                    out.append(lstp.encode(lstp.ServiceDataResume(*ch.inbound.report()), ch.id))
            self._granting.clear()
        if not out:
            return b""
        self._said = self._now
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._datagrams_waiting = 0
        return data

    def next_deadline(self) -> float | None:
        """See `types.Mux`."""
        if self._over:
            return None
        due = min(self._said + self.config.keepalive, self._heard + 3 * self._peer.keepalive)
        if self._drained_by is not None:
            due = min(due, self._drained_by)
        flow_due = self.flow.next_deadline(self._now)
        return due if flow_due is None else min(due, flow_due)

    def deadline_passed(self, now: float) -> Sequence[t.Event]:
        """See `types.Mux`."""
        self._now = now
        if self._over:
            return t.NO_EVENTS
        if now >= self._heard + 3 * self._peer.keepalive:
            return self.fail(Code.TIMED_OUT, "nothing was heard of the far side")
        if self._drained_by is not None and now >= self._drained_by:
            return self._all_over(Code.SHUTDOWN, "the time to drain is over")
        for channel in self.flow.due_reports(now):
            assert isinstance(channel, Channel)
            self._report(channel)
        if now >= self._said + self.config.keepalive:
            # One is enough while the connection takes nothing.
            self._said = now
            if not self._out:
                self._put(lstp.encode(lstp.PropertyExchange()))
        self.flow.find_stalled(self._channels.values(), now)
        return t.NO_EVENTS

    def channels(self) -> Iterable[int]:
        """Ids of the channels that are not over."""
        return list(self._channels)

    # -- input ------------------------------------------------------------

    def receive(self, data: memoryview, now: float) -> Sequence[t.Event]:
        """Take bytes from the peer, cut anywhere; see `types.Mux`."""
        self._now = self._heard = now
        if self._over:
            return t.NO_EVENTS
        events = self._events = []
        try:
            self._cutter.cut(data, self)
        except RemoteProtocolError as error:
            events.extend(self.fail(error.code, str(error)))
        if len(self._out) > _MAX_UNSENT:
            self._out.clear()
            events.extend(self.fail(Code.LIMIT, "the far side does not take its answers"))
        return events

    def data_begins(self, length: int, flags: int, channel: int) -> None:
        """See `FrameSink`: everything is checked before the first byte is taken."""
        self._stream = None
        ch = self._channels.get(channel)
        if ch is None:
            # Nothing of it can be right, so the header is all there is to know.
            self.message(M.SERVICE_DATA, flags, channel, b"")
            return
        state = ch.state
        if state is not State.OPEN and state is not State.DIALLING:
            if state not in DISCARDING:
                self._events.extend(self._channel_error(ch, unexpected(ch, M.SERVICE_DATA)))
            return
        try:
            if flags & FLAG_COMPRESSED:
                raise RemoteProtocolError("compressed data, but no compression was agreed on")
            if ch.far_finished:
                raise RemoteProtocolError("data after the last data")
            if ch.datagrams is not None:
                ch.datagrams.begins(length)
            ch.inbound.arrived(length)
        except RemoteProtocolError as error:
            self._events.extend(self._channel_error(ch, error))
            return
        self._stream = ch
        self._stream_last = bool(flags & FLAG_LAST)

    def data(self, piece: memoryview) -> None:
        """See `FrameSink`."""
        ch = self._stream
        if ch is not None and not ch.reported_end:
            if ch.datagrams is None:
                self._events.append(t.Data(ch.id, piece))
            else:
                ch.datagrams.piece(piece)

    def data_ended(self) -> None:
        """See `FrameSink`."""
        ch, self._stream = self._stream, None
        if ch is not None and ch.datagrams is not None and not ch.reported_end:
            self._events.extend(self._datagram_ended(ch, self._stream_last))
        if ch is not None and self._stream_last and not ch.reported_end:
            ch.far_finished = True
            self._events.append(t.Finished(ch.id))
            self._events.extend(self._maybe_free(ch))

    def message(self, kind: int, flags: int, channel: int, body: bytes) -> None:
        """See `FrameSink`: any message except data of a channel."""
        events = self._events
        if channel == 0:
            events.extend(self._tunnel_message(kind, read(kind, flags, body)))
        elif not self._up:
            raise RemoteProtocolError(f"{M(kind).name} before the PROPERTY_EXCHANGE")
        elif kind == M.CONNECTION_REQUEST:
            events.extend(self._requested(channel, body))
        elif channel in self._joins:
            events.extend(self._join_answered(channel, kind, flags, body))
        elif (ch := self._channels.get(channel)) is None:
            self._stray(kind, channel)
        else:
            events.extend(self._act(ch, kind, flags, body))

    def _tunnel_message(self, kind: int, message: lstp.Message) -> Sequence[t.Event]:
        if isinstance(message, lstp.PropertyExchange):
            return self._properties(message)
        if isinstance(message, lstp.Error):
            if message.fatal:
                return self._all_over(message.code, message.reason)
            return t.NO_EVENTS
        if self._up and isinstance(message, lstp.Shutdown):
            self._draining = True
            by = self._now + message.grace
            self._drained_by = by if self._drained_by is None else min(by, self._drained_by)
            return [t.Draining(message.grace, message.reason), *self._maybe_over()]
        when = "after the setup" if self._up else "before the PROPERTY_EXCHANGE"
        raise RemoteProtocolError(f"{M(kind).name} on channel 0 {when}")

    def _properties(self, message: lstp.PropertyExchange) -> Sequence[t.Event]:
        peer = self._peer
        if message.window is not None and not self._window_known:
            peer.window = message.window
        self._window_known = True
        if message.max_channels is not None:
            peer.max_channels = message.max_channels
        if message.keepalive is not None:
            peer.keepalive = max(message.keepalive, _SHORTEST_KEEPALIVE)
        if self._up:
            return t.NO_EVENTS
        self._up = True
        return [t.TunnelUp(message.software or "")]

    def _requested(self, number: int, body: bytes) -> Sequence[t.Event]:
        if bool(number & 1) == self._master:
            raise RemoteProtocolError(f"channel id {number} is not the far side's to allocate")
        if number in self._channels:
            raise RemoteProtocolError(f"channel id {number} is in use")
        self._ended.pop(number, None)
        try:
            message = lstp.decode(M.CONNECTION_REQUEST, 0, body)
        except RemoteProtocolError as error:
            return self._nack(number, error.code, str(error))
        assert isinstance(message, lstp.ConnectionRequest)
        if self._draining:
            return self._nack(number, Code.SHUTDOWN, "this end is shutting down")
        if message.join is not None:
            return [t.ConnectionRequested(number, message.join)]
        if message.listener is not None and not self._listens(message.listener):
            return self._nack(number, Code.NO_SUCH_SERVICE, "there is no such listener")
        if number in self._just_over and self._now == self._just_over_at:
            # Events of the old channel have not been dealt with; they name it by its id.
            return self._nack(number, Code.LIMIT, f"channel id {number} was in use until now")
        if self._opened_there >= self.config.max_channels:
            return self._nack(number, Code.LIMIT, f"{self.config.max_channels} channels are open")
        if not self.budget.accepts_channels:
            return self._nack(number, Code.LIMIT, "too much data is waiting for applications")
        ch = self._new(number, State.ADMITTED, opener=False)
        ch.request = message
        self._opened_there += 1
        self._put(lstp.encode(lstp.ConnectionAck(), number))
        return t.NO_EVENTS

    def _nack(self, number: int, code: Code, reason: str) -> Sequence[t.Event]:
        self.refuse_connection(number, code, reason)
        return t.NO_EVENTS

    def _join_answered(self, number: int, kind: int, flags: int, body: bytes) -> list[t.Event]:
        self._joins.discard(number)
        try:
            message = read(kind, flags, body)
            if isinstance(message, lstp.ConnectionAck):
                return [t.ChannelOpened(number)]
            if not isinstance(message, lstp.ConnectionNack | lstp.Error):
                raise RemoteProtocolError(f"{M(kind).name} in answer to a CONNECTION_REQUEST")
        except RemoteProtocolError as error:
            self._put_error(number, error.code, str(error))
            return [t.ChannelEnded(number, error.code, str(error), refused=True)]
        return [t.ChannelEnded(number, message.code, message.reason, refused=True)]

    def _stray(self, kind: int, number: int) -> None:
        """A message for no live channel: late ones are harmless, others get ERROR."""
        if number not in self._ended and kind not in _LATE:
            reason = f"{M(kind).name} on channel {number}, which is not open"
            self._put_error(number, Code.PROTOCOL, reason)

    def _new(self, number: int, state: State, *, opener: bool) -> Channel:
        ch = Channel(number, state, opener, self.config.window, self._peer.window, self.budget)
        self._channels[number] = ch
        return ch

    def _check_open(self) -> None:
        if not self._up or self._over or self._draining:
            raise t.LimitReached("the tunnel takes no new channels now", Code.SHUTDOWN)

    def _all_over(self, code: Code | None, reason: str) -> list[t.Event]:
        self._cutter.closed = True
        return super()._all_over(code, reason)

    def _allocate(self) -> int:
        while True:
            number = self._next_id
            self._next_id = number + 2 if number + 2 <= 0xFFFFFFFF else 2 - self._master
            if number not in self._channels and number not in self._joins:
                return number


@attrs.frozen
class LstpChannels:
    """LSTP's messages as an `IChannelProtocol`."""

    config: MuxConfig = attrs.field(factory=MuxConfig)
    budget: Budget = attrs.field(factory=Budget)
    alpn = ALPN

    def make_mux(self, master: bool, now: float, parent: LstpMux | None = None) -> LstpMux:
        """A mux for one new tunnel connection; ``parent`` as for `LstpMux`."""
        return LstpMux(master, self.config, now, budget=self.budget, parent=parent)
