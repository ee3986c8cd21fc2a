"""LSTP after the setup: channels, flow control and life of one tunnel connection (rows L3, L5).

`LstpMux` meets `TunnelMux` of `tunnelkit.core.mux.contract`. Payload takes a way of its own in
both directions: `receive` reports slices of what it was given, and
`frame_into` writes a header in front of payload that the caller has already
put in place. Everything else goes through the table in
`tunnelkit.core.lstp.channel`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from tunnelkit.core.lstp.actions import read, unexpected
from tunnelkit.core.lstp.channel import DISCARDING, SENDING, LstpChannel, State
from tunnelkit.core.lstp.compression import NONE, Packer, Unpacker
from tunnelkit.core.lstp.socket_table import SocketTable
from tunnelkit.core.lstp.tunnel import MuxConfig as MuxConfig
from tunnelkit.core.lstp.tunnel import TunnelActions
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.datagram_body import ANYWHERE
from tunnelkit.core.mux.framing import FrameCutter
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

_MAX_UNSENT = 65_536
"""Messages waiting to be sent that end the tunnel: the peer asks and asks, and does not read."""
_LATE = frozenset({M.SERVICE_DATA_PAUSE, M.SERVICE_DATA_RESUME, M.SERVICE_FREE_ACK, M.ERROR})
"""Messages that may have been on their way when their channel ended."""


class LstpMux(TunnelActions):
    """Sans-IO multiplexer for one tunnel connection.

    ``master`` is this end's part by election: it allocates odd ids. ``parent``
    is the mux of the tunnel's first connection where this one is a further
    connection: limits come from there and its PROPERTY_EXCHANGE is empty.
    ``published`` is what this end publishes, see `announce`.
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
        published: SocketTable | None = None,
    ) -> None:
        super().__init__(master, config, now, budget, parent, published)
        self._cutter = FrameCutter(HEADER, M.SERVICE_DATA, check_header)
        self._events: list[t.Event] = []
        self._stream: LstpChannel | None = None
        """Whose data is arriving; None: it is discarded."""
        self._stream_last = False
        self._packed: bytearray | None = None
        """What has come of a compressed message; None: it is not compressed."""

    # -- verbs ------------------------------------------------------------

    def open(self, destination: str, now: float) -> int:
        """Ask for a channel to ``destination``; raises `LimitReached` when no more are possible,
        or for a service that the far side has not published (row T2)."""
        if destination.startswith("service:"):
            service = destination.partition(":")[2]
            self._now = now
            self._check_open()
            self._check_published(service)
            request = lstp.ConnectionRequest(service=service)
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

    def _ask(self, request: lstp.ConnectionRequest, now: float) -> LstpChannel:
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
    ) -> int:
        """Account for a frame of ``size`` bytes and write its header, see `types.Mux`."""
        ch = self._channels[channel]
        flags, written = 0, size
        if self._compression != NONE:
            packer = ch.packer
            if packer is None:
                packer = ch.packer = Packer(self._compression)
            start = offset + HEADER_SIZE
            packed = packer.pack(memoryview(buffer)[start : start + size])
            if packed is not None:
                flags, written = FLAG_COMPRESSED, len(packed)
                buffer[start : start + written] = packed
        HEADER.pack_into(buffer, offset, written, M.SERVICE_DATA, flags, 0, channel)
        self.flow.sent(ch, size, now)
        self._said = now
        return written

    def send(self, channel: int, data: bytes, now: float) -> None:
        """Queue one frame."""
        if len(data) > min(self.sendable(channel), self.max_frame):
            raise LocalProtocolError(f"{len(data)} bytes are more than channel {channel} may send")
        frame = bytearray(HEADER_SIZE) + data
        written = self.frame_into(frame, 0, channel, len(data), now)
        self._put(bytes(frame[: HEADER_SIZE + written]))

    def finish(self, channel: int, now: float) -> Sequence[t.Event]:
        """Half-close: an empty last-data message, which needs no credit."""
        self._now = now
        ch = self._channels.get(channel)
        if ch is None or ch.near_finished or ch.state not in SENDING:
            raise LocalProtocolError(f"channel {channel} cannot finish")
        ch.near_finished = True
        ch.packer = None
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
            if ch.far_finished:
                raise RemoteProtocolError("data after the last data")
            if flags & FLAG_COMPRESSED:
                self._check_compressed(ch)
                self._packed = bytearray()
            else:
                if ch.datagrams is not None:
                    ch.datagrams.begins(length)
                ch.inbound.arrived(length)
                self._packed = None
        except RemoteProtocolError as error:
            self._events.extend(self._channel_error(ch, error))
            return
        self._stream = ch
        self._stream_last = bool(flags & FLAG_LAST)

    def data(self, piece: memoryview) -> None:
        """See `FrameSink`."""
        ch = self._stream
        if ch is not None and not ch.reported_end:
            if self._packed is not None:
                self._packed += piece
            elif ch.datagrams is None:
                self._events.append(t.Data(ch.id, piece))
            else:
                ch.datagrams.piece(piece)

    def data_ended(self) -> None:
        """See `FrameSink`."""
        ch, self._stream = self._stream, None
        if ch is not None and self._packed is not None:
            body, self._packed = self._packed, None
            if not ch.reported_end:
                self._events.extend(self._unpack(ch, body))
        if ch is not None and ch.datagrams is not None and not ch.reported_end:
            self._events.extend(self._datagram_ended(ch, self._stream_last))
        if ch is not None and self._stream_last and not ch.reported_end:
            ch.far_finished = True
            ch.unpacker = None
            self._events.append(t.Finished(ch.id))
            self._events.extend(self._maybe_free(ch))

    def _check_compressed(self, ch: LstpChannel) -> None:
        """Whether data may come compressed; raises `RemoteProtocolError`."""
        if self._compression == NONE:
            raise RemoteProtocolError("compressed data, but no compression was agreed on")
        if ch.datagrams is not None:
            raise RemoteProtocolError("a compressed datagram")

    def _unpack(self, ch: LstpChannel, body: bytearray) -> Sequence[t.Event]:
        """A whole compressed message has come; only now it is known how much credit it takes."""
        unpacker = ch.unpacker
        if unpacker is None:
            unpacker = ch.unpacker = Unpacker(self._compression)
        try:
            plain = unpacker.unpack(body)
            ch.inbound.arrived(len(plain))
        except RemoteProtocolError as error:
            return self._channel_error(ch, error)
        return [t.Data(ch.id, memoryview(plain))]

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

    def _stray(self, kind: int, number: int) -> None:
        """A message for no live channel: late ones are harmless, others get ERROR."""
        if number not in self._ended and kind not in _LATE:
            reason = f"{M(kind).name} on channel {number}, which is not open"
            self._put_error(number, Code.PROTOCOL, reason)

    def _all_over(self, code: Code | None, reason: str) -> list[t.Event]:
        self._cutter.closed = True
        return super()._all_over(code, reason)


@attrs.frozen
class LstpChannels:
    """LSTP's messages as an `IChannelProtocol`."""

    config: MuxConfig = attrs.field(factory=MuxConfig)
    budget: Budget = attrs.field(factory=Budget)
    published: SocketTable | None = None
    """What this end publishes."""
    alpn = ALPN

    def make_mux(self, master: bool, now: float) -> LstpMux:
        """A mux for the first connection of a tunnel."""
        return LstpMux(master, self.config, now, budget=self.budget, published=self.published)
