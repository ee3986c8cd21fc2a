"""What comes in on a connection: data to its channel, messages to the channel or the tunnel.

Data takes a way of its own: its header is checked before the first byte of it is taken, and what
is reported are slices of what came in. See `FrameSink` for the order of the calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnelkit.core.lstp.channel import DISCARDING, RECEIVING, LstpChannel, State
from tunnelkit.core.lstp.channels import LiveChannels
from tunnelkit.core.lstp.compression import NONE
from tunnelkit.core.lstp.datagrams import Datagrams
from tunnelkit.core.lstp.further import FurtherConnections
from tunnelkit.core.lstp.life import Life
from tunnelkit.core.lstp.properties import Properties
from tunnelkit.core.lstp.trusted import TrustedSockets
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.flow_control import FlowControl
from tunnelkit.core.mux.framing import FrameCutter
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import FLAG_COMPRESSED, FLAG_LAST, HEADER, check_header
from tunnelkit.wire.lstp import MessageType as M

_LATE = frozenset({M.SERVICE_DATA_PAUSE, M.SERVICE_DATA_RESUME, M.SERVICE_FREE_ACK, M.ERROR})
"""Messages that may have been on their way when their channel ended."""
_KNOWN_FLAGS = FLAG_COMPRESSED | FLAG_LAST
_OPEN = State.OPEN


class Receiver:
    """The receiving half of `LstpMux`; a `FrameSink`."""

    def __init__(
        self,
        life: Life,
        flow: FlowControl,
        properties: Properties,
        channels: LiveChannels,
        datagrams: Datagrams,
        trusted: TrustedSockets,
        further: FurtherConnections,
    ) -> None:
        self.cutter = FrameCutter(HEADER, M.SERVICE_DATA, lstp.MAX_DATA, check_header, lstp.LIMITS)
        self._life = life
        self._flow = flow
        self._properties = properties
        self._channels = channels
        self._by_id = channels.by_id
        self._datagrams = datagrams
        self._trusted = trusted
        self._further = further
        self.events: list[t.Event] = []
        """Where what has happened is added."""
        self._stream: LstpChannel | None = None
        """Whose data is arriving; None: it is discarded."""
        self._stream_last = False
        self._packed: bytearray | None = None
        """What has come of a compressed message; None: it is not compressed."""

    # -- data -------------------------------------------------------------

    def takes(self, size: int, flags: int, channel: int) -> bool:
        """See `FrameSink`: plain data of an open channel within its credit."""
        ch = self._by_id.get(channel)
        if ch is None or ch.state is not _OPEN or flags & _KNOWN_FLAGS or ch.datagrams is not None:
            return False
        return ch.inbound.takes(size)

    def data_begins(self, length: int, flags: int, channel: int) -> None:
        """SERVICE_DATA::

        flag 1   compressed
        flag 2   last data in this direction; there may be none
        bytes of the application, or one datagram
        """
        self._stream = None
        ch = self._by_id.get(channel)
        if ch is None or ch.state not in RECEIVING:
            if ch is None or ch.state not in DISCARDING:
                # Nothing of it can be right, so the header is all there is to know.
                self.message(M.SERVICE_DATA, flags, channel, b"")
            return
        try:
            if flags & FLAG_COMPRESSED:
                self._check_compressed(ch)
                self._packed = bytearray()
            else:
                if ch.datagrams is not None:
                    ch.datagrams.begins(length)
                self._packed = None
                if length:  # most last data is nothing else
                    self._arrived(ch, length)
        except RemoteProtocolError as error:
            self._fail(ch, error)
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
                self.events.append(t.Data(ch.id, piece))
            else:
                ch.datagrams.piece(piece)

    def data_ended(self) -> None:
        """See `FrameSink`."""
        ch, self._stream = self._stream, None
        packed, self._packed = self._packed, None
        if ch is None or ch.reported_end:
            return
        try:
            if packed is not None:
                plain = self._properties.compression.unpack(ch, packed)
                # Only now it is known how much credit it takes.
                self._arrived(ch, len(plain))
                self.events.append(t.Data(ch.id, memoryview(plain)))
            elif ch.datagrams is not None and not (self._stream_last and ch.datagrams.is_empty):
                self.events.append(self._datagrams.received(ch))
        except RemoteProtocolError as error:
            self._fail(ch, error)
            return
        if self._stream_last:
            self.events.extend(self._channels.hear_end(ch))
            self.cutter.closed = self._life.over

    def _fail(self, ch: LstpChannel, error: RemoteProtocolError) -> None:
        self.events.extend(self._channels.fail(ch, error))
        self.cutter.closed = self._life.over

    def _arrived(self, ch: LstpChannel, size: int) -> None:
        """Account for data; raises `RemoteProtocolError` for more than is allowed."""
        inbound = ch.inbound
        if ch.state is State.DIALLING:
            most = min(t.EARLY_DATA, inbound.limit)
            if inbound.received + size > most:
                raise RemoteProtocolError(
                    f"more than {most} bytes before the channel is connected", code=Code.LIMIT
                )
        inbound.arrived(size)

    def _check_compressed(self, ch: LstpChannel) -> None:
        """Whether data may come compressed; raises `RemoteProtocolError`."""
        if self._properties.compression.method == NONE:
            raise RemoteProtocolError("compressed data, but no compression was agreed on")
        if ch.datagrams is not None:
            raise RemoteProtocolError("a compressed datagram")

    # -- messages ---------------------------------------------------------

    def message(self, kind: int, flags: int, channel: int, body: bytes) -> None:
        """See `FrameSink`: any message except data of a channel."""
        if channel == 0:
            self.events.extend(self._tunnel_message(kind, flags, body))
        elif not self._life.up:
            raise RemoteProtocolError(f"{M(kind).name} before the PROPERTY_EXCHANGE")
        elif kind == M.CONNECTION_REQUEST:
            self.events.extend(self._requested(channel, body))
        elif (ch := self._by_id.get(channel)) is not None:
            self.events.extend(self._channels.hear(ch, kind, flags, body))
        elif channel in self._further.asked:
            self.events.extend(self._further.answered(channel, kind, flags, body))
        else:
            self._stray(kind, channel)
        # What else has come with the message that ended the tunnel is not looked at.
        self.cutter.closed = self._life.over

    def _stray(self, kind: int, number: int) -> None:
        """A message for no live channel: late ones are harmless, others get ERROR."""
        if kind not in _LATE and not self._channels.ids.is_late(number):
            reason = f"{M(kind).name} on channel {number}, which is not open"
            self._channels.put_error(number, Code.PROTOCOL, reason)

    def _requested(self, number: int, body: bytes) -> Sequence[t.Event]:
        """CONNECTION_REQUEST, one of::

        {"destination": TEXT}
        {"service": NAME}
        {"listener": CHANNEL, "from": TEXT}
        {"resource": "connection", "join": ID}
        """
        channels, life = self._channels, self._life
        if channels.ids.is_own(number):
            raise RemoteProtocolError(f"channel id {number} is not the far side's to allocate")
        if number in self._by_id:
            raise RemoteProtocolError(f"channel id {number} is in use")
        free = channels.ids.used_again(number, life.now)
        try:
            message = lstp.ConnectionRequest.read(body)
            if life.drained_by is not None:
                raise RemoteProtocolError("this end is shutting down", code=Code.SHUTDOWN)
            if message.join is not None:
                return self._further.requested(number, message.join)
            self._check_admitted(number, message, free)
        except RemoteProtocolError as error:
            channels.nack(number, error.code, str(error))
            return t.NO_EVENTS
        channels.admit(number, message)
        return t.NO_EVENTS

    def _check_admitted(self, number: int, message: lstp.ConnectionRequest, free: bool) -> None:
        """Raises `RemoteProtocolError` with the code and reason of the refusal."""
        listener = message.listener
        if listener is not None and not listens(self._by_id.get(listener), here=False):
            raise RemoteProtocolError("there is no such listener", code=Code.NO_SUCH_SERVICE)
        if not free:
            raise RemoteProtocolError(f"channel id {number} was in use until now", code=Code.LIMIT)
        most = self._properties.own.max_channels
        if self._channels.opened_there >= most:
            raise RemoteProtocolError(f"{most} channels are open", code=Code.LIMIT)
        if not self._flow.budget.accepts_channels:
            raise RemoteProtocolError("too much data is waiting for applications", code=Code.LIMIT)

    # -- messages on channel 0 --------------------------------------------

    def _tunnel_message(self, kind: int, flags: int, body: bytes) -> Sequence[t.Event]:
        """ERROR and SHUTDOWN::

        {"code": CODE, "reason": TEXT, "fatal": true}
        {"grace": SECONDS, "reason": TEXT}
        """
        try:
            # What is said of the tunnel changes how long it waits for what.
            self._flow.soonest = 0.0
            message = lstp.decode(kind, flags, body)
        except RemoteProtocolError as error:
            if kind != M.ERROR:
                raise
            # It ends the tunnel all the same, because ERROR is never answered with ERROR.
            return self._channels.all_over(error.code, str(error))
        if isinstance(message, lstp.PropertyExchange):
            return self._properties_came(message)
        if isinstance(message, lstp.Error):
            if message.fatal:
                return self._channels.all_over(message.code, message.reason)
            return t.NO_EVENTS
        life = self._life
        if life.up and isinstance(message, lstp.Shutdown):
            life.drain(life.now + message.grace)
            return [
                t.Draining(message.grace, message.reason),
                *self._channels.maybe_over(),
            ]
        when = "after the setup" if life.up else "before the PROPERTY_EXCHANGE"
        raise RemoteProtocolError(f"{M(kind).name} on channel 0 {when}")

    def _properties_came(self, message: lstp.PropertyExchange) -> Sequence[t.Event]:
        """PROPERTY_EXCHANGE, all of it optional::

        {"software": TEXT, "compression": [NAME, ...], "max_channels": COUNT, "window": BYTES,
         "services": [{"name": NAME, "ttl": SECONDS, "listen": PORT}, ...],
         "keepalive": SECONDS, "audit": {"chain": HEX, "seq": LINE, "hash": HEX}}
        """
        self._properties.heard(message)
        events: list[t.Event] = []
        if not self._life.up:
            self._life.up = True
            events.append(t.TunnelUp(message.software or ""))
        if message.services is not None:
            events.extend(self._trusted.take(message.services, self._life.now))
        if message.audit is not None:
            events.append(t.CheckpointCame(message.audit))
        return events


def listens(ch: LstpChannel | None, *, here: bool) -> bool:
    """Whether over that channel the far side has this side listen (``here``), or the reverse."""
    return ch is not None and ch.listens and ch.state in _LISTENING and ch.opener is not here


_LISTENING = frozenset({State.OPEN, State.NEAR_ENDED, State.FAR_ENDED, State.ENDED})
