"""LSTP after the setup: channels, flow control and life of one tunnel connection (rows L3, L5).

`LstpMux` meets `TunnelMux` of `tunnelkit.core.mux.contract`. It is put together of parts that can
be read, and mended, one by one:

- ``flow``: credit, path and reports (`tunnelkit.core.mux.flow_control`);
- ``live``: the channels and their table (`tunnelkit.core.lstp.channels`);
- ``receiver``: what comes in (`tunnelkit.core.lstp.receiver`);
- ``datagrams``, ``further``, ``trusted``: UDP, further connections, trusted sockets;
- ``properties``: what both ends said of themselves, and the compression they agreed on;
- ``life`` and ``outbox``: what all of these know of, and say to, the far side.

Payload takes a way of its own in both directions: `receive` reports slices of what it was given,
and `frame_into` writes a header in front of payload that the caller has already put in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunnelkit.core.lstp.channel import (
    ASKED,
    SENDING,
    SETTLING,
    UNCONNECTED,
    Input,
    LstpChannel,
)
from tunnelkit.core.lstp.channels import LiveChannels, find
from tunnelkit.core.lstp.compression import NONE
from tunnelkit.core.lstp.datagrams import Datagrams
from tunnelkit.core.lstp.events import ConnectionRequested
from tunnelkit.core.lstp.further import FurtherConnections
from tunnelkit.core.lstp.life import Life
from tunnelkit.core.lstp.outbox import MAX_FRAMES, Outbox
from tunnelkit.core.lstp.properties import MuxConfig as MuxConfig
from tunnelkit.core.lstp.properties import Properties
from tunnelkit.core.lstp.receiver import Receiver, listens
from tunnelkit.core.lstp.trusted import TrustedSockets
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.datagram_body import ANYWHERE
from tunnelkit.core.mux.flow_control import FlowControl
from tunnelkit.core.mux.keepalive import Keepalive
from tunnelkit.core.mux.path import Path
from tunnelkit.core.socket_table import SocketTable
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.checkpoint import Checkpoint
from tunnelkit.wire.lstp import FLAG_COMPRESSED, HEADER, HEADER_SIZE
from tunnelkit.wire.lstp import MessageType as M

_TYPE_AT = 4
"""Where the type is in a header."""
_SERVICE_DATA = int(M.SERVICE_DATA)


class LstpMux:
    """Sans-IO multiplexer for one tunnel connection.

    ``master`` is this end's part by election: it allocates odd ids. ``parent``
    is the mux of the tunnel's first connection where this one is a further
    connection: limits come from there and its PROPERTY_EXCHANGE is empty.
    ``published`` is what this end publishes, see `TrustedSockets.announce`.
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
        keepalive: Keepalive | None = None,
    ) -> None:
        self.config = config
        self.keepalive = Keepalive(config.keepalive) if keepalive is None else keepalive
        self.life = Life(now)
        self.outbox = Outbox(self.life)
        self.flow = FlowControl(budget if budget is not None else Budget())
        self.path: Path = self.flow.path
        self.properties: Properties = Properties(
            master, config, None if parent is None else parent.properties
        )
        self.live = LiveChannels(master, self.life, self.outbox, self.flow, self.properties)
        self.datagrams = Datagrams(self.life, self.outbox, self.flow, self.live.by_id)
        self.trusted: TrustedSockets = TrustedSockets(
            self.life, self.outbox, published, None if parent is None else parent.trusted
        )
        self.further = FurtherConnections(self.life, self.outbox, self.live, parent is not None)
        self.receiver = Receiver(
            self.life,
            self.flow,
            self.properties,
            self.live,
            self.datagrams,
            self.trusted,
            self.further,
        )
        self.send_datagram = self.datagrams.send
        self.data_to_send = self.outbox.take
        self._by_id = self.live.by_id
        self.outbox.put(self.properties.said(self.trusted.first_announcement(now)))

    @property
    def budget(self) -> Budget:
        """What all channels of the process may hold."""
        return self.flow.budget

    def channels(self) -> Iterable[int]:
        """Ids of the channels that are not over."""
        return list(self._by_id)

    # -- opening ----------------------------------------------------------

    def open(self, destination: str, now: float) -> int:
        """Ask for a channel to ``destination``; raises `LimitReached` when no more are possible,
        or for a service that the far side has not published (row T2)."""
        self.life.now = now
        kind, _, service = destination.partition(":")
        if kind == "service":
            self.live.check_open()
            self.trusted.check(service, now)
            request = lstp.ConnectionRequest(service=service)
        else:
            request = lstp.ConnectionRequest(destination=destination)
        ch = self.live.ask(request, self.further.asked)
        ch.leads_to(destination)
        return ch.id

    def lacks(self, destination: str) -> str:
        """See `Mux`: LSTP has everything."""
        return ""

    def open_datagrams(self, now: float, destination: str = ANYWHERE) -> int:
        """A channel for one local peer's datagrams, see `DatagramMux`."""
        return self.open(destination, now)

    def open_accepted(self, listener: int, origin: str, now: float) -> int:
        """Hand over a connection accepted for the far side, see `ListeningMux`."""
        if not listens(self._by_id.get(listener), here=True):
            raise LocalProtocolError(f"channel {listener} is no listener of the far side")
        self.life.now = now
        request = lstp.ConnectionRequest(listener=listener, origin=origin)
        return self.live.ask(request, self.further.asked).id

    def opened(self, channel: int, bound: str) -> Sequence[t.Event]:
        """The destination of a requested channel is connected."""
        ch = self._by_id.get(channel) or find(self.live, channel)
        return self.live.own(ch, Input.OWN_ANSWER, lstp.ServiceBeginAck(bound))

    def refuse(self, channel: int, code: Code, reason: str) -> Sequence[t.Event]:
        """The destination of a requested channel cannot be had."""
        ch = find(self.live, channel)
        return self.live.own(ch, Input.OWN_REFUSAL, lstp.ServiceBeginNack(code, reason))

    # -- data -------------------------------------------------------------

    def sendable(self, channel: int) -> int:
        """Payload bytes that may be sent on this channel now."""
        ch = self._by_id[channel]
        if ch.paused or ch.state not in SENDING:
            return 0
        if ch.state in UNCONNECTED:
            return min(self.flow.sendable(ch), max(0, t.EARLY_DATA - ch.outbound.sent))
        return self.flow.sendable(ch)

    def waits_for_path(self, channel: int) -> bool:
        """True if only bytes in flight keep this channel from sending: no `Writable` will come."""
        return self._by_id[channel].may_send

    def frame_into(
        self, buffer: bytearray | memoryview, offset: int, channel: int, size: int, now: float
    ) -> int:
        """Account for a frame of ``size`` bytes and write its header, see `contract.Mux`."""
        ch = self._by_id[channel]
        flags, written = 0, size
        compression = self.properties.compression
        if compression.method != NONE:
            start = offset + HEADER_SIZE
            packed = compression.pack(ch, memoryview(buffer)[start : start + size])
            if packed is not None:
                flags, written = FLAG_COMPRESSED, len(packed)
                buffer[start : start + written] = packed
        HEADER.pack_into(buffer, offset, written, M.SERVICE_DATA, flags, 0, channel)
        self.flow.sent(ch, size, now)
        self.life.said = now
        return written

    def send(self, channel: int, data: bytes, now: float) -> None:
        """Queue one frame."""
        if len(data) > min(self.sendable(channel), self.max_frame):
            raise LocalProtocolError(f"{len(data)} bytes are more than channel {channel} may send")
        frame = bytearray(HEADER_SIZE) + data
        written = self.frame_into(frame, 0, channel, len(data), now)
        self.outbox.frames.append(bytes(frame[: HEADER_SIZE + written]))

    def consumed(self, channel: int, size: int, now: float) -> Sequence[t.Event]:
        """The near application has taken ``size`` bytes."""
        self.life.now = now
        ch = self._by_id.get(channel)
        # What the application of a channel that is over still takes was given up with it.
        if ch is None or ch.reported_end:
            return t.NO_EVENTS
        if self.flow.consumed(ch, size, now):
            self.outbox.grant(ch)
        return self.live.settle(ch) if ch.state in SETTLING else t.NO_EVENTS

    # -- ending -----------------------------------------------------------

    def finish(self, channel: int, now: float) -> Sequence[t.Event]:
        """Half-close: an empty last-data message, which needs no credit."""
        self.life.now = now
        ch = self._by_id.get(channel) or find(self.live, channel)
        return self.live.own(ch, Input.OWN_END)

    def abort(self, channel: int, code: Code, reason: str, now: float) -> Sequence[t.Event]:
        """Reset the channel, whatever its credit; what still comes for it is discarded."""
        self.life.now = now
        ch = self._by_id.get(channel)
        if ch is None:
            return t.NO_EVENTS
        if ch.state in ASKED:
            return self.refuse(channel, code, reason)
        return self.live.own(ch, Input.OWN_ABORT, lstp.ServiceFreeRequest(code, reason))

    def shutdown(self, grace: float, reason: str, now: float) -> Sequence[t.Event]:
        """Drain: no new channels, the end when the open ones are over or after ``grace``.

        Said again, or after the far side has said it, it can only shorten the time.
        """
        life = self.life
        life.now = now
        if life.over or (life.drained_by is not None and life.drained_by <= now + grace):
            return t.NO_EVENTS
        life.drain(now + grace)
        self.flow.soonest = 0.0
        self.outbox.put(lstp.Shutdown(grace, reason))
        return self.live.maybe_over()

    def connection_lost(self, clean: bool, now: float) -> Sequence[t.Event]:
        """The connection is gone; every channel still open is reset."""
        life = self.life
        life.now = now
        if life.over:
            return t.NO_EVENTS
        self.keepalive.connection_lost(clean, now - max(life.said, life.heard))
        # A tunnel whose last channel has ended is over already, so this is no clean end for anyone.
        if clean and life.drained_by is not None:
            return self.live.all_over(Code.SHUTDOWN, "the far side has shut down")
        return self.live.all_over(Code.RESET, "the tunnel connection was lost")

    def fail(self, code: Code, reason: str) -> Sequence[t.Event]:
        """End the tunnel with a fatal ERROR."""
        if self.life.over:
            return t.NO_EVENTS
        self.outbox.put(lstp.Error(code, reason, fatal=True))
        return self.live.all_over(code, reason)

    def say_checkpoint(self, checkpoint: Checkpoint, now: float) -> None:
        """See `VouchingMux`."""
        self.life.now = now
        if not self.life.over:
            self.outbox.put(lstp.PropertyExchange(audit=checkpoint))

    # -- input ------------------------------------------------------------

    def receive_data(self, data: memoryview, now: float) -> int:
        """See `contract.Mux`."""
        life = self.life
        # What begins with another message is nothing for the fast path.
        if life.over or len(data) <= HEADER_SIZE or data[_TYPE_AT] != _SERVICE_DATA:
            return 0
        receiver = self.receiver
        channel = receiver.cutter.only_data(data, receiver)
        if channel:
            life.now = life.heard = now
        return channel

    def receive(self, data: memoryview, now: float) -> Sequence[t.Event]:
        """Take bytes from the peer, cut anywhere; see `contract.Mux`."""
        life = self.life
        life.now = life.heard = now
        if life.over:
            return t.NO_EVENTS
        receiver = self.receiver
        events: list[t.Event] = []
        receiver.events = events
        try:
            receiver.cutter.cut(data, receiver, events)
        except RemoteProtocolError as error:
            events.extend(self.fail(error.code, str(error)))
        if len(self.outbox.frames) > MAX_FRAMES:
            self.outbox.frames.clear()
            events.extend(self.fail(Code.LIMIT, "the far side does not take its answers"))
        return events

    def decline(self, event: t.ExtensionEvent) -> Sequence[t.Event]:
        """See `contract.Mux`: only a further connection wants an answer."""
        if isinstance(event, ConnectionRequested):
            reason = "no further connection can be made here"
            self.further.refuse(event.channel, Code.NOT_ALLOWED, reason)
        return t.NO_EVENTS

    # -- time --------------------------------------------------

    def next_deadline(self) -> float | None:
        """See `contract.Mux`."""
        life = self.life
        if life.over:
            return None
        due = life.said + self.keepalive.seconds
        dead = life.heard + 3 * self.properties.peer.keepalive
        if dead < due:
            due = dead
        for other in (
            life.drained_by,
            self.trusted.deadline,
            self.flow.next_deadline(life.now),
        ):
            if other is not None and other < due:
                due = other
        return due

    def deadline_passed(self, now: float) -> Sequence[t.Event]:
        """See `contract.Mux`."""
        life = self.life
        if t.has_slept(life.now, self.next_deadline(), now):
            # Whether the far side lives is asked anew: it speaks within its keepalive.
            life.heard = max(life.heard, now - 1.5 * self.properties.peer.keepalive)
        life.now = now
        if life.over:
            return t.NO_EVENTS
        if now >= life.heard + 3 * self.properties.peer.keepalive:
            return self.fail(Code.TIMED_OUT, "nothing was heard of the far side")
        if life.drained_by is not None and now >= life.drained_by:
            return self.live.all_over(Code.SHUTDOWN, "the time to drain is over")
        for channel in self.flow.due_reports(now):
            assert isinstance(channel, LstpChannel)
            self.outbox.grant(channel)
        if now >= life.said + self.keepalive.seconds:
            # One is enough while the connection takes nothing.
            life.said = now
            if not self.outbox.frames:
                self.outbox.put(lstp.PropertyExchange())
        self.flow.deadline_passed(self._by_id.values(), now)
        return self.trusted.expire(now)
