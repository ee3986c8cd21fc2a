"""LSTP after the setup: channels, flow control and life of one tunnel connection (rows L3, L5).

`LstpMux` meets `tunnelkit.core.types.Mux`. Payload takes a path of its own in
both directions: `receive` reports slices of what it was given, and
`frame_into` writes a header in front of payload that the caller has already
put in place. Everything else goes through the table in
`tunnelkit.core.lstp_channel`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence

import attrs

from tunnelkit.core import types as t
from tunnelkit.core.credit import Budget
from tunnelkit.core.lstp_channel import SENDING, TABLE, Channel, State
from tunnelkit.core.path import Path
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import FLAG_COMPRESSED, FLAG_LAST, HEADER, HEADER_SIZE
from tunnelkit.wire.lstp import MessageType as M

ALPN = b"lstp/1"

_FREE_PASS = 16 * 1024
"""A channel with less than this in flight may send even while the path is full."""
_ACK_DELAY = 0.020
"""Latest answer to data, seconds (SERVICE_DATA_RESUME)."""
_ACK_DELAY_BULK = 0.004
"""The same where data flows in quantity: the sender's estimate of the path lives on it."""
_STALL = 0.25
"""Seconds without an acknowledgement, beyond two round trips, that make a channel a stalled one."""
_REMEMBERED = 1024
"""Ids of ended channels whose late messages are ignored."""


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


class LstpMux:
    """Sans-IO multiplexer for one tunnel connection.

    ``master`` is this end's part by election: it allocates odd ids. ``parent``
    is the mux of the tunnel's first connection where this one is a further
    connection: limits come from there and its PROPERTY_EXCHANGE is empty.
    """

    header_size = HEADER_SIZE
    max_frame = lstp.MAX_DATA

    def __init__(
        self,
        master: bool,
        config: MuxConfig,
        now: float,
        *,
        budget: Budget | None = None,
        parent: LstpMux | None = None,
    ) -> None:
        self.config = config
        self.budget = budget if budget is not None else Budget()
        self.path = Path()
        self._peer: _Peer = _Peer() if parent is None else attrs.evolve(parent._peer)
        self._window_known = parent is not None
        self._master = master
        self._next_id = 1 if master else 2
        self._channels: dict[int, Channel] = {}
        self._opened_here = 0
        self._opened_there = 0
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._joins: dict[int, bool] = {}
        self._out: list[bytes] = []
        self._acks: deque[tuple[float, Channel]] = deque()
        self._bulk_acks: deque[tuple[float, Channel]] = deque()
        self._now = now
        self._heard = now
        self._said = now
        self._up = False
        self._over = False
        self._draining = False
        self._drained_by: float | None = None
        # A message that has arrived in part: its header, then its body.
        self._header = bytearray()
        self._body: bytearray | None = None
        self._body_head = (0, 0, 0, 0)
        self._stream: Channel | None = None
        self._stream_left = 0
        self._stream_last = False
        self._actions: dict[str, Callable[[Channel, object], Sequence[t.Event]]] = {
            name: getattr(self, "_on_" + name)
            for name, _ in TABLE.values()
            if name not in ("data", "ignored")
        }
        own = lstp.PropertyExchange()
        if parent is None:
            own = lstp.PropertyExchange(
                software=config.software or None,
                window=config.window,
                max_channels=config.max_channels,
                keepalive=config.keepalive,
            )
        self._put(lstp.encode(own))

    # -- verbs ------------------------------------------------------------

    def open(self, destination: str, now: float) -> int:
        """Ask for a channel to ``destination``; raises `LimitReached` when no more are possible."""
        self._now = now
        if not self._up or self._over or self._draining:
            raise LimitReached("the tunnel takes no new channels now", Code.SHUTDOWN)
        if self._opened_here >= self._peer.max_channels:
            raise LimitReached(
                f"the far side allows {self._peer.max_channels} channels at once", Code.LIMIT
            )
        channel = self._new(self._allocate(), State.REQUESTED, opener=True)
        channel.requested_at = now
        self._opened_here += 1
        if destination.startswith("service:"):
            request = lstp.ConnectionRequest(service=destination.partition(":")[2])
        else:
            request = lstp.ConnectionRequest(destination=destination)
        self._put(lstp.encode(request, channel.id))
        self._put(lstp.encode(lstp.ServiceBeginRequest(), channel.id))
        return channel.id

    def opened(self, channel: int, bound: str) -> Sequence[t.Event]:
        """The destination of a requested channel is connected."""
        ch = self._in(channel, State.DIALLING)
        ch.state = State.OPEN
        self._put(lstp.encode(lstp.ServiceBeginAck(bound=bound), channel))
        if ch.outbound.credit > 0 and not ch.paused:
            return [t.Writable(channel)]
        return t.NO_EVENTS

    def refuse(self, channel: int, code: Code, reason: str) -> Sequence[t.Event]:
        """The destination of a requested channel cannot be had."""
        ch = self._in(channel, State.DIALLING)
        self._put(lstp.encode(lstp.ServiceBeginNack(code=code, reason=reason), channel))
        return self._ends(ch, State.REFUSED, code, reason, refused=True)

    def sendable(self, channel: int) -> int:
        """Payload bytes that may be sent on this channel now."""
        ch = self._channels[channel]
        if ch.paused or ch.near_finished or ch.state not in SENDING:
            return 0
        if ch.state is State.DIALLING:
            return 0
        out = ch.outbound
        credit = out.limit - out.sent
        path = self.path
        room = path.target - path.in_flight
        if room < credit:
            room = max(room, _FREE_PASS - (out.sent - out.taken))
            return max(0, min(room, credit))
        return credit

    def waits_for_path(self, channel: int) -> bool:
        """True if only bytes in flight keep this channel from sending: no `Writable` will come."""
        ch = self._channels[channel]
        return ch.outbound.credit > 0 and not ch.paused and ch.state is not State.DIALLING

    def frame_into(
        self, buffer: bytearray | memoryview, offset: int, channel: int, size: int, now: float
    ) -> None:
        """Account for a frame of ``size`` bytes and write its header, see `types.Mux`."""
        ch = self._channels[channel]
        HEADER.pack_into(buffer, offset, size, M.SERVICE_DATA, 0, 0, channel)
        out = ch.outbound
        if out.sent == out.taken:
            ch.progress = now
        out.sent += size
        if not ch.stalled:
            self.path.in_flight += size
        if ch.mark is None:
            ch.mark = self.path.mark(out.sent, now)
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
        ch = self._channels[channel]
        if ch.near_finished or ch.state not in SENDING or ch.state is State.DIALLING:
            raise LocalProtocolError(f"channel {channel} cannot finish ({ch.state.value})")
        ch.near_finished = True
        self._put(HEADER.pack(0, M.SERVICE_DATA, FLAG_LAST, 0, channel))
        return self._maybe_free(ch)

    def consumed(self, channel: int, size: int, now: float) -> Sequence[t.Event]:
        """The near application has taken ``size`` bytes."""
        self._now = now
        ch = self._channels.get(channel)
        if ch is None:
            return t.NO_EVENTS
        urgent = ch.inbound.consumed(size)
        if ch.far_finished:
            return self._maybe_free(ch)
        if urgent:
            self._grant(ch)
        elif ch.inbound.unreported >= _FREE_PASS:
            due = now + _ACK_DELAY_BULK
            if not ch.ack_at or ch.ack_at > due:
                ch.ack_at = due
                self._bulk_acks.append((due, ch))
        elif not ch.ack_at:
            ch.ack_at = now + _ACK_DELAY
            self._acks.append((ch.ack_at, ch))
        return t.NO_EVENTS

    def abort(self, channel: int, code: Code, reason: str, now: float) -> Sequence[t.Event]:
        """Reset the channel; whatever still comes for it is discarded."""
        self._now = now
        ch = self._channels.get(channel)
        if ch is None or ch.state in (State.ABORTING, State.REFUSED):
            return t.NO_EVENTS
        if ch.state is State.DIALLING:
            return self.refuse(channel, code, reason)
        self._put(lstp.encode(lstp.ServiceFreeRequest(code=code, reason=reason), channel))
        return self._ends(ch, State.ABORTING, code, reason)

    def request_connection(self, join: str, now: float) -> int:
        """Ask for a further tunnel connection that meets under ``join``; an id for the answer."""
        self._now = now
        number = self._allocate()
        self._joins[number] = True
        self._put(lstp.encode(lstp.ConnectionRequest(resource="connection", join=join), number))
        return number

    def accept_connection(self, channel: int) -> None:
        """Answer `ConnectionRequested`: this end dials too."""
        self._put(lstp.encode(lstp.ConnectionAck(), channel))

    def refuse_connection(self, channel: int, code: Code, reason: str) -> None:
        """Answer `ConnectionRequested`: it does not."""
        self._put(lstp.encode(lstp.ConnectionNack(code=code, reason=reason), channel))
        self._remember(channel)

    def shutdown(self, grace: float, reason: str, now: float) -> Sequence[t.Event]:
        """Drain: no new channels, the end when the open ones are over or after ``grace``."""
        self._now = now
        if self._over or self._drained_by is not None:
            return t.NO_EVENTS
        self._draining = True
        self._drained_by = now + grace
        self._put(lstp.encode(lstp.Shutdown(grace=grace, reason=reason)))
        return self._maybe_over()

    def connection_lost(self, clean: bool, now: float) -> Sequence[t.Event]:
        """The connection is gone; every channel still open is reset."""
        self._now = now
        if self._over:
            return t.NO_EVENTS
        if clean and self._draining and not self._channels:
            return self._all_over(None, "")
        return self._all_over(Code.RESET, "the tunnel connection was lost")

    def fail(self, code: Code, reason: str) -> Sequence[t.Event]:
        """End the tunnel with a fatal ERROR."""
        if self._over:
            return t.NO_EVENTS
        self._put(lstp.encode(lstp.Error(code=code, reason=reason, fatal=True)))
        return self._all_over(code, reason)

    # -- output and time --------------------------------------------------

    def data_to_send(self) -> bytes:
        """Everything due except payload."""
        out = self._out
        if not out:
            return b""
        self._said = self._now
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def next_deadline(self) -> float | None:
        """See `types.Mux`."""
        if self._over:
            return None
        due = min(self._said + self.config.keepalive, self._heard + 3 * self._peer.keepalive)
        for acks in (self._acks, self._bulk_acks):
            # An entry counts only while it is its channel's latest.
            while acks and acks[0][1].ack_at != acks[0][0]:
                acks.popleft()
            if acks and acks[0][0] < due:
                due = acks[0][0]
        if self._drained_by is not None and self._drained_by < due:
            due = self._drained_by
        if self.path.room <= 0:
            due = min(due, self._now + _STALL)
        return due

    def deadline_passed(self, now: float) -> Sequence[t.Event]:
        """See `types.Mux`."""
        self._now = now
        if self._over:
            return t.NO_EVENTS
        if now >= self._heard + 3 * self._peer.keepalive:
            return self.fail(Code.TIMED_OUT, "nothing was heard of the far side")
        if self._drained_by is not None and now >= self._drained_by:
            return self._all_over(Code.SHUTDOWN, "the time to drain is over")
        for acks in (self._acks, self._bulk_acks):
            while acks and acks[0][0] <= now:
                due, ch = acks.popleft()
                if ch.ack_at == due:
                    self._grant(ch)
        if now >= self._said + self.config.keepalive:
            self._put(lstp.encode(lstp.PropertyExchange()))
        if self.path.room <= 0:
            self._find_stalled(now)
        return t.NO_EVENTS

    def channels(self) -> Iterable[int]:
        """Ids of the channels that are not over."""
        return list(self._channels)

    def queued(self, channel: int) -> int:
        """Received bytes of ``channel`` that its application has not taken."""
        ch = self._channels.get(channel)
        return 0 if ch is None else ch.inbound.queued

    @property
    def up(self) -> bool:
        """True while channels may be opened."""
        return self._up and not self._over and not self._draining

    # -- input ------------------------------------------------------------

    def receive(self, data: memoryview, now: float) -> Sequence[t.Event]:
        """Take bytes from the peer, cut anywhere; see `types.Mux`."""
        self._now = self._heard = now
        events: list[t.Event] = []
        if self._over:
            return events
        try:
            self._parse(data, events)
        except RemoteProtocolError as error:
            events.extend(self.fail(error.code, str(error)))
        return events

    def _parse(self, data: memoryview, events: list[t.Event]) -> None:
        position, end = 0, len(data)
        while position < end and not self._over:
            if self._stream_left:
                size = min(self._stream_left, end - position)
                self._stream_left -= size
                if self._stream is not None and self._stream.state is not State.OVER:
                    events.append(t.Data(self._stream.id, data[position : position + size]))
                position += size
                if not self._stream_left:
                    self._end_of_stream(events)
                continue
            if self._body is not None:
                length, kind, flags, number = self._body_head
                size = min(length - len(self._body), end - position)
                self._body += data[position : position + size]
                position += size
                if len(self._body) == length:
                    body = bytes(self._body)
                    self._body = None
                    self._message(kind, flags, number, body, events)
                continue
            if self._header or end - position < HEADER_SIZE:
                size = min(HEADER_SIZE - len(self._header), end - position)
                self._header += data[position : position + size]
                position += size
                if len(self._header) < HEADER_SIZE:
                    return
                length, kind, flags, _, number = HEADER.unpack(self._header)
                self._header.clear()
            else:
                length, kind, flags, _, number = HEADER.unpack_from(data, position)
                position += HEADER_SIZE
            if kind == M.SERVICE_DATA:
                self._data(length, flags, number, events)
                if not self._stream_left:
                    self._end_of_stream(events)
                continue
            lstp.check_header(length, kind)
            if length <= end - position:
                body = bytes(data[position : position + length])
                position += length
                self._message(kind, flags, number, body, events)
            else:
                self._body_head = (length, kind, flags, number)
                self._body = bytearray()

    def _data(self, length: int, flags: int, number: int, events: list[t.Event]) -> None:
        """The header of a SERVICE_DATA: everything is checked before its first byte is taken."""
        if length > lstp.MAX_DATA:
            lstp.check_header(length, M.SERVICE_DATA)
        self._stream = None
        self._stream_left = length
        self._stream_last = False
        ch = self._channels.get(number)
        if ch is None:
            self._stray(M.SERVICE_DATA, number, events)
            return
        state = ch.state
        if state is State.OPEN or state is State.DIALLING:
            try:
                if flags & FLAG_COMPRESSED:
                    raise RemoteProtocolError("compressed data, but no compression was agreed on")
                if ch.far_finished:
                    raise RemoteProtocolError("data after the last data")
                ch.inbound.arrived(length)
            except RemoteProtocolError as error:
                events.extend(self._channel_error(ch, error))
                return
            self._stream = ch
            self._stream_last = bool(flags & FLAG_LAST)
        elif (state, M.SERVICE_DATA) not in TABLE:
            events.extend(self._channel_error(ch, _unexpected(ch, M.SERVICE_DATA)))

    def _end_of_stream(self, events: list[t.Event]) -> None:
        ch = self._stream
        self._stream = None
        if ch is None or not self._stream_last or ch.state is State.OVER:
            return
        ch.far_finished = True
        events.append(t.Finished(ch.id))
        events.extend(self._maybe_free(ch))

    def _message(
        self, kind: int, flags: int, number: int, body: bytes, events: list[t.Event]
    ) -> None:
        if number == 0:
            events.extend(self._tunnel_message(kind, lstp.decode(kind, flags, body)))
            return
        if not self._up:
            raise RemoteProtocolError(f"{M(kind).name} before the PROPERTY_EXCHANGE")
        if kind == M.CONNECTION_REQUEST:
            events.extend(self._requested(number, lstp.decode(kind, flags, body)))
            return
        ch = self._channels.get(number)
        if ch is None:
            if number in self._joins:
                events.extend(self._join_answered(number, kind, lstp.decode(kind, flags, body)))
            else:
                self._stray(kind, number, events)
            return
        entry = TABLE.get((ch.state, M(kind)))
        if entry is None:
            events.extend(self._channel_error(ch, _unexpected(ch, kind)))
            return
        action, state = entry
        if action == "ignored":
            return
        try:
            message = lstp.decode(kind, flags, body)
            before = ch.state
            ch.state = state
            events.extend(self._actions[action](ch, message))
        except RemoteProtocolError as error:
            ch.state = before
            events.extend(self._channel_error(ch, error))

    def _tunnel_message(self, kind: int, message: object) -> Sequence[t.Event]:
        if isinstance(message, lstp.PropertyExchange):
            return self._properties(message)
        if isinstance(message, lstp.Error):
            if message.fatal:
                return self._all_over(message.code, message.reason)
            return t.NO_EVENTS
        if not self._up:
            raise RemoteProtocolError(f"{M(kind).name} before the PROPERTY_EXCHANGE")
        if isinstance(message, lstp.Shutdown):
            self._draining = True
            by = self._now + message.grace
            self._drained_by = by if self._drained_by is None else min(by, self._drained_by)
            return [t.Draining(message.grace, message.reason), *self._maybe_over()]
        raise RemoteProtocolError(f"{M(kind).name} is not for the tunnel after its setup")

    def _properties(self, message: lstp.PropertyExchange) -> Sequence[t.Event]:
        peer = self._peer
        if message.window is not None and not self._window_known:
            peer.window = message.window
        self._window_known = True
        if message.max_channels is not None:
            peer.max_channels = message.max_channels
        if message.keepalive is not None:
            peer.keepalive = message.keepalive
        if self._up:
            return t.NO_EVENTS
        self._up = True
        return [t.TunnelUp(message.software or "")]

    def _requested(self, number: int, message: object) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ConnectionRequest)
        if bool(number & 1) == self._master:
            raise RemoteProtocolError(f"channel id {number} is not the far side's to allocate")
        if number in self._channels:
            raise RemoteProtocolError(f"channel id {number} is in use")
        self._ended.pop(number, None)
        if self._draining:
            return self._nack(number, Code.SHUTDOWN, "this end is shutting down")
        if message.resource == "connection":
            if message.join is None:
                return self._nack(number, Code.PROTOCOL, "join is missing")
            return [t.ConnectionRequested(number, message.join)]
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

    def _join_answered(self, number: int, kind: int, message: object) -> Sequence[t.Event]:
        if isinstance(message, lstp.ConnectionAck):
            del self._joins[number]
            return [t.ChannelOpened(number)]
        if isinstance(message, lstp.ConnectionNack):
            del self._joins[number]
            code = message.code
            return [t.ChannelEnded(number, code, message.reason, refused=True)]
        raise RemoteProtocolError(f"{M(kind).name} in answer to a request for a connection")

    def _stray(self, kind: int, number: int, events: list[t.Event]) -> None:
        """A message for no live channel: late ones are harmless, others get ERROR."""
        if number in self._ended or kind in (
            M.SERVICE_DATA_PAUSE,
            M.SERVICE_DATA_RESUME,
            M.SERVICE_FREE_ACK,
            M.ERROR,
        ):
            return
        name = M(kind).name
        self._put_error(number, Code.PROTOCOL, f"{name} on channel {number}, which is not open")
        self._remember(number)

    # -- actions of the table ---------------------------------------------

    def _on_admitted(self, ch: Channel, message: object) -> Sequence[t.Event]:
        self.path.round_trip_seen(self._now - ch.requested_at)
        return t.NO_EVENTS

    def _on_not_admitted(self, ch: Channel, message: object) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ConnectionNack)
        return self._ends(ch, State.OVER, message.code, message.reason, refused=True)

    def _on_begin(self, ch: Channel, message: object) -> Sequence[t.Event]:
        request = ch.request
        ch.request = None
        assert isinstance(request, lstp.ConnectionRequest)
        return [t.ChannelRequested(ch.id, request.destination or f"service:{request.service}")]

    def _on_begun(self, ch: Channel, message: object) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceBeginAck)
        return [t.ChannelOpened(ch.id, message.bound or ""), *self._maybe_free(ch)]

    def _on_not_begun(self, ch: Channel, message: object) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceBeginNack)
        self._put(lstp.encode(lstp.ServiceFreeRequest(), ch.id))
        code = message.code
        return self._ends(ch, State.ABORTING, code, message.reason, refused=True)

    def _on_paused(self, ch: Channel, message: object) -> Sequence[t.Event]:
        ch.paused = True
        return t.NO_EVENTS

    def _on_resumed(self, ch: Channel, message: object) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceDataResume)
        out = ch.outbound
        before = out.limit - out.sent if not ch.paused else 0
        news = out.granted(message.taken, message.limit)
        ch.paused = False
        if news:
            self._delivered(ch, news)
        if before <= 0 < out.credit and ch.state is not State.DIALLING:
            return [t.Writable(ch.id)]
        return t.NO_EVENTS

    def _on_free(self, ch: Channel, message: object) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceFreeRequest)
        if message.code is not None:
            return self._on_aborted(ch, message)
        if not (ch.near_finished and ch.far_finished):
            raise RemoteProtocolError("SERVICE_FREE_REQUEST before both directions ended")
        return self._maybe_free(ch)

    def _on_aborted(self, ch: Channel, message: object) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceFreeRequest)
        self._put(lstp.encode(lstp.ServiceFreeAck(), ch.id))
        code = message.code or Code.RESET
        return self._ends(ch, State.OVER, code, message.reason or "")

    def _on_crossed(self, ch: Channel, message: object) -> Sequence[t.Event]:
        self._put(lstp.encode(lstp.ServiceFreeAck(), ch.id))
        return t.NO_EVENTS

    def _on_freed(self, ch: Channel, message: object) -> Sequence[t.Event]:
        return self._ends(ch, State.OVER, None, "")

    def _on_refusal_seen(self, ch: Channel, message: object) -> Sequence[t.Event]:
        self._put(lstp.encode(lstp.ServiceFreeAck(), ch.id))
        return self._ends(ch, State.OVER, None, "")

    def _on_failed(self, ch: Channel, message: object) -> Sequence[t.Event]:
        assert isinstance(message, lstp.Error)
        return self._ends(ch, State.OVER, message.code, message.reason)

    # -- shared steps -----------------------------------------------------

    def _new(self, number: int, state: State, *, opener: bool) -> Channel:
        ch = Channel(number, state, opener, self.config.window, self._peer.window, self.budget)
        self._channels[number] = ch
        return ch

    def _allocate(self) -> int:
        while True:
            number = self._next_id
            self._next_id = number + 2 if number + 2 <= 0xFFFFFFFF else 2 - self._master
            if number not in self._channels and number not in self._joins:
                return number

    def _in(self, channel: int, state: State) -> Channel:
        ch = self._channels.get(channel)
        if ch is None or ch.state is not state:
            raise LocalProtocolError(f"channel {channel} is not {state.value}")
        return ch

    def _put(self, frame: bytes) -> None:
        self._out.append(frame)

    def _put_error(self, number: int, code: Code, reason: str) -> None:
        self._put(lstp.encode(lstp.Error(code=code, reason=reason, fatal=False), number))

    def _remember(self, number: int) -> None:
        self._ended[number] = None
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def _grant(self, ch: Channel) -> None:
        ch.ack_at = 0.0
        if not ch.far_finished:
            message = lstp.ServiceDataResume(*ch.inbound.report())
            self._put(lstp.encode(message, ch.id))

    def _delivered(self, ch: Channel, size: int) -> None:
        path = self.path
        ch.progress = self._now
        path.delivered += size
        if ch.stalled:
            ch.stalled = False
            path.in_flight += ch.outbound.in_flight
        else:
            path.in_flight -= size
        mark = ch.mark
        if mark is not None and ch.outbound.taken >= mark.offset:
            ch.mark = None
            path.acknowledged(mark, self._now)

    def _find_stalled(self, now: float) -> None:
        """Take channels whose applications do not read out of the path's account."""
        patience = _STALL + 2 * self.path.round_trip
        for ch in self._channels.values():
            if not ch.stalled and ch.outbound.in_flight and now - ch.progress > patience:
                ch.stalled = True
                ch.mark = None
                self.path.in_flight -= ch.outbound.in_flight

    def _maybe_free(self, ch: Channel) -> Sequence[t.Event]:
        """Both directions have ended and everything is taken: the opener frees the channel, the
        other side acknowledges the request that it may have had already."""
        if not (ch.near_finished and ch.far_finished) or ch.inbound.queued:
            return t.NO_EVENTS
        if ch.state is State.LINGERING:
            self._put(lstp.encode(lstp.ServiceFreeAck(), ch.id))
            return self._ends(ch, State.OVER, None, "")
        if ch.opener and ch.state is State.OPEN:
            ch.state = State.CLOSING
            self._put(lstp.encode(lstp.ServiceFreeRequest(), ch.id))
        return t.NO_EVENTS

    def _channel_error(self, ch: Channel, error: RemoteProtocolError) -> Sequence[t.Event]:
        self._put_error(ch.id, error.code, str(error))
        self._remember(ch.id)
        return self._ends(ch, State.OVER, error.code, str(error))

    def _ends(
        self, ch: Channel, state: State, code: Code | None, reason: str, *, refused: bool = False
    ) -> list[t.Event]:
        """Move ``ch`` to a final state; its ChannelEnded is reported once."""
        ch.state = state
        if not ch.stalled:
            self.path.in_flight -= ch.outbound.in_flight
            ch.stalled = True
        ch.mark = None
        ch.ack_at = 0.0
        ch.inbound.discard()
        events: list[t.Event] = []
        if not ch.reported_end:
            ch.reported_end = True
            # A side that never heard of the channel need not hear of its end.
            if ch.request is None:
                events.append(t.ChannelEnded(ch.id, code, reason, refused))
        if state is State.OVER:
            del self._channels[ch.id]
            if ch.opener:
                self._opened_here -= 1
            else:
                self._opened_there -= 1
            events.extend(self._maybe_over())
        return events

    def _maybe_over(self) -> Sequence[t.Event]:
        if self._draining and not self._channels and not self._over:
            return self._all_over(None, "")
        return t.NO_EVENTS

    def _all_over(self, code: Code | None, reason: str) -> list[t.Event]:
        self._over = True
        events: list[t.Event] = []
        for ch in list(self._channels.values()):
            ended = Code.RESET if code is None else code
            events.extend(self._ends(ch, State.OVER, ended, reason))
        self._acks.clear()
        events.append(t.TunnelEnded(code, reason))
        return events


class LimitReached(LocalProtocolError):
    """No channel can be opened now; ``code`` says why."""

    def __init__(self, message: str, code: Code) -> None:
        super().__init__(message)
        self.code = code


def _unexpected(ch: Channel, kind: int) -> RemoteProtocolError:
    name = M(kind).name
    return RemoteProtocolError(
        f"{name} is not expected on channel {ch.id}, which is {ch.state.value}",
        state=ch.state.value,
    )


@attrs.frozen
class LstpChannels:
    """LSTP's messages as an `IChannelProtocol`."""

    config: MuxConfig = attrs.field(factory=MuxConfig)
    budget: Budget = attrs.field(factory=Budget)
    alpn = ALPN

    def make_mux(self, master: bool, now: float, parent: LstpMux | None = None) -> LstpMux:
        """A mux for one new tunnel connection; ``parent`` as for `LstpMux`."""
        return LstpMux(master, self.config, now, budget=self.budget, parent=parent)
