"""Usher: sessions, flow control and life of one tunnel (rows U1, U3, U5, U6).

`UsherMux` meets `Mux`, `DatagramMux`, `ListeningMux`, `VouchingMux` and
`OnwardMux` of `tunnelkit.core.mux.contract`. A channel's number is this side's
id of the session. Payload takes a way of its own in both directions, as in
LSTP: `receive` reports slices of what it was given, and `frame_into` writes a
header in front of payload that the caller has already put in place. Everything
else goes through the table in `tunnelkit.core.usher.session`.

A broken rule ends the tunnel with UsherEnd. Only data beyond the window is
the fault of one session, which is reset.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.keepalive import Keepalive
from tunnelkit.core.mux.path import Path
from tunnelkit.core.usher.receiver import UsherConfig, UsherReceiver
from tunnelkit.core.usher.session import (
    ASKED,
    ESTABLISHED,
    FAR_ENDED,
    OPEN_TO_SEND,
    Input,
    Session,
    State,
)
from tunnelkit.core.usher.texts import (
    NotInUsher1,
    onward_record,
    open_record,
    reason_text,
    shortened,
)
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.wire import usher
from tunnelkit.wire.checkpoint import Checkpoint
from tunnelkit.wire.usher import HEADER, HEADER_SIZE, Address, AddressType, RecordType, Version

NO_OTHER_DATAGRAMS = "datagrams but between IPv4 addresses"
MAX_DATAGRAMS = 256 * 1024
"""Bytes of datagrams that wait for the tunnel; what comes beyond is dropped."""


class UsherMux(UsherReceiver):
    """Sans-IO multiplexer for one tunnel; both ends are alike.

    Under `Version.V1` nothing needs to be heard before sessions are opened, and
    an opener waits for the reply before it sends. Under `Version.V1_1` both begin
    with their settings, and data may follow an open at once.
    """

    header_size = HEADER_SIZE
    max_frame = usher.MAX_DATA
    addressed_datagrams = True

    def __init__(
        self,
        version: Version,
        config: UsherConfig,
        now: float,
        *,
        budget: Budget | None = None,
        keepalive: Keepalive | None = None,
    ) -> None:
        self.keepalive = Keepalive(config.keepalive) if keepalive is None else keepalive
        super().__init__(version, config, budget if budget is not None else Budget(), now)
        self.path: Path = self.flow.path
        self._said = now
        self._datagrams = 0
        self._sending = OPEN_TO_SEND if self._plain else OPEN_TO_SEND | {State.PENDING}
        """States in which data may be sent."""
        if not self._plain:
            settings = usher.UsherSettings(
                config.window, config.max_sessions, config.keepalive, config.software
            )
            self._put(settings, 0)

    @property
    def budget(self) -> Budget:
        """What all channels of the process may hold."""
        return self.flow.budget

    # -- opening ----------------------------------------------------------

    def open(self, destination: str, now: float) -> int:
        """Ask for a session to ``destination``.

        Raises `LimitReached` when no more are possible, `NotInUsher1` for what only
        `usher/1.1` can reach.
        """
        return self._open(open_record(destination, self.version), now)

    def open_onward(self, destination: str, via: tuple[str, ...], now: float) -> int:
        """See `OnwardMux`; over `usher/1` what came from a gate is not sent onward."""
        if self._plain:
            if len(via) > 1:
                raise NotInUsher1("sessions that have come by several gates")
            return self.open(destination, now)
        return self._open(onward_record(destination, via), now)

    def lacks(self, destination: str) -> str:
        """See `Mux`: `usher/1` reaches little else than TCP."""
        kind, _, rest = destination.partition(":")
        try:
            if kind == "udp":
                host = rest.rpartition(":")[0]
                if host and self._plain and usher.address_type_of(host) is not AddressType.IPV4:
                    raise NotInUsher1(NO_OTHER_DATAGRAMS)
            else:
                open_record(destination, self.version)
        except LocalProtocolError as error:
            return str(error)
        return ""

    def open_accepted(self, listener: int, origin: str, now: float) -> int:
        """Hand over a connection accepted for the far side, see `ListeningMux`."""
        if self._plain:
            raise NotInUsher1("listening at the far side")
        ch = self._sessions.get(listener)
        if ch is None or ch.opener or ch.state in ASKED:
            raise LocalProtocolError(f"session {listener} is no listener of the far side")
        return self._open(usher.UsherOpen(AddressType.ACCEPTED, origin, listener=ch.far_id), now)

    def _open(self, record: usher.UsherOpen, now: float) -> int:
        self._now = now
        if not self._up or self._over or self._draining:
            raise t.LimitReached("the tunnel takes no new sessions now", Code.SHUTDOWN)
        if self._opened_here >= self._peer.max_sessions:
            raise t.LimitReached(
                f"the far side allows {self._peer.max_sessions} sessions at once", Code.LIMIT
            )
        number = self._ids.take(now)
        if number is None:
            raise t.LimitReached("no session id is left", Code.LIMIT)
        self._new(number, 0 if self._plain else -number, State.PENDING)
        self._opened_here += 1
        self._told.add(number)
        self._put(record, number)
        return number

    def opened(self, channel: int, bound: str) -> Sequence[t.Event]:
        """The destination of a requested session is connected; ``bound`` travels in `usher/1.1`."""
        reply = usher.UsherOpenReply(channel, None if self._plain else bound)
        return self._own(self._live(channel), Input.OWN_REPLY, reply)

    def refuse(self, channel: int, code: Code, reason: str) -> Sequence[t.Event]:
        """The destination of a requested session cannot be had."""
        reply = usher.UsherOpenReply(usher.FAILED, reason_text(code, reason))
        return self._own(self._live(channel), Input.OWN_REFUSAL, reply)

    def _live(self, channel: int) -> Session:
        ch = self._sessions.get(channel)
        if ch is None:
            raise LocalProtocolError(f"session {channel} is not open")
        return ch

    # -- data -------------------------------------------------------------

    def decline(self, event: t.ExtensionEvent) -> Sequence[t.Event]:
        """See `Mux`: there are no such events."""
        return t.NO_EVENTS

    def sendable(self, channel: int) -> int:
        """Payload bytes that may be sent on this session now."""
        ch = self._sessions[channel]
        state = ch.state
        if state not in self._sending:
            return 0
        if state is State.PENDING:
            return min(self.flow.sendable(ch), max(0, t.EARLY_DATA - ch.outbound.sent))
        return self.flow.sendable(ch)

    def waits_for_path(self, channel: int) -> bool:
        """True if only bytes in flight keep this session from sending: no `Writable` will come."""
        ch = self._sessions[channel]
        if ch.state is State.PENDING and ch.outbound.sent >= t.EARLY_DATA:
            return False
        return ch.state in self._sending and ch.outbound.credit > 0

    def frame_into(
        self, buffer: bytearray | memoryview, offset: int, channel: int, size: int, now: float
    ) -> int:
        """Account for ``size`` bytes of payload and write their header, see `types.Mux`."""
        ch = self._sessions[channel]
        HEADER.pack_into(buffer, offset, size, RecordType.SEND, ch.far_id)
        self.flow.sent(ch, size, now)
        self._said = now
        return size

    def send(self, channel: int, data: bytes, now: float) -> None:
        """Queue one UsherSend."""
        if len(data) > min(self.sendable(channel), self.max_frame):
            raise LocalProtocolError(f"{len(data)} bytes are more than session {channel} may send")
        frame = bytearray(HEADER_SIZE) + data
        self.frame_into(frame, 0, channel, len(data), now)
        self._out.append(bytes(frame))

    def finish(self, channel: int, now: float) -> Sequence[t.Event]:
        """Half-close: no more data will come from this side (CLOSE READ)."""
        self._now = now
        return self._own(self._live(channel), Input.OWN_EOF)

    def consumed(self, channel: int, size: int, now: float) -> Sequence[t.Event]:
        """The near application has taken ``size`` bytes."""
        self._now = now
        ch = self._sessions.get(channel)
        # What the application of a session that is over still takes was given up with it.
        if ch is None or ch.reported_end:
            return t.NO_EVENTS
        at_once = self.flow.consumed(ch, size, now)
        if at_once:
            self._report(ch)
        if ch.state in ESTABLISHED:
            return t.NO_EVENTS
        if not at_once and ch.state in FAR_ENDED:
            self._report_if_done(ch)
        return self._maybe_settled(ch)

    def abort(self, channel: int, code: Code, reason: str, now: float) -> Sequence[t.Event]:
        """Reset the session; whatever still comes for it is discarded."""
        self._now = now
        ch = self._sessions.get(channel)
        if ch is None or ch.state is State.ABANDONED:
            return t.NO_EVENTS
        if ch.state in ASKED:
            return self.refuse(channel, code, reason)
        return self._reset(ch, code, reason)

    # -- datagrams --------------------------------------------------------

    def open_datagrams(self, now: float, destination: str = "udp:*") -> int:
        """See `DatagramMux`: in Usher every datagram carries both addresses, so the flow is 0."""
        return 0

    def send_datagram(
        self,
        flow: int,
        source: tuple[str, int],
        destination: tuple[str, int],
        data: bytes | memoryview,
        now: float,
    ) -> bool:
        """See `DatagramMux`. IPv6 addresses and names raise `NotInUsher1` where they cannot be."""
        if not self._up or self._over or self._datagrams + len(data) > MAX_DATAGRAMS:
            return False
        near, far = Address(*source), Address(*destination)
        if len(data) > usher.MAX_DATAGRAM:
            raise LocalProtocolError(f"a datagram of {len(data)} bytes")
        record: usher.UsherSendUdp | usher.UsherSendUdpAny
        if all(usher.address_type_of(end.host) is AddressType.IPV4 for end in (near, far)):
            record = usher.UsherSendUdp(near, far, bytes(data))
        elif self._plain:
            raise NotInUsher1(NO_OTHER_DATAGRAMS)
        else:
            record = usher.UsherSendUdpAny(near, far, bytes(data))
        raw = usher.encode(record, 0, self.version)
        self._out.append(raw)
        self._datagrams += len(raw)
        self._now = now
        return True

    # -- life -------------------------------------------------------------

    def shutdown(self, grace: float, reason: str, now: float) -> Sequence[t.Event]:
        """Drain: no new sessions, the end when the open ones are over or after ``grace``."""
        self._now = now
        if self._over or self._drained_by is not None:
            return t.NO_EVENTS
        self._draining = True
        self._drained_by = now + grace
        self.flow.soonest = 0.0
        self._end_reason = reason
        if not self._plain:
            self._put(usher.UsherShutdown(math.ceil(grace), shortened(reason)), 0)
        return self._maybe_over()

    def say_checkpoint(self, checkpoint: Checkpoint, now: float) -> None:
        """See `VouchingMux`; `usher/1` cannot say it."""
        self._now = now
        if self._up and not self._over and not self._plain:
            self._put(usher.UsherCheckpoint(checkpoint), 0)

    def connection_lost(self, clean: bool, now: float) -> Sequence[t.Event]:
        """The connection is gone; every session still open is reset."""
        self._now = now
        if self._over:
            return t.NO_EVENTS
        if not self._plain:
            self.keepalive.connection_lost(clean, now - max(self._said, self._heard))
        if clean and self._draining and not self._in_use:
            return self._all_over(None, "")
        return self._all_over(Code.RESET, "the tunnel connection was lost")

    def channels(self) -> Iterable[int]:
        """Ids of the sessions that are not over."""
        return [ch.id for ch in self._sessions.values() if not ch.reported_end]

    # -- output and time --------------------------------------------------

    def data_to_send(self) -> bytes:
        """Everything due except payload."""
        if self._pong is not None:
            self._put(usher.UsherPing(self._pong, answer=True), 0)
            self._pong = None
        out = self._out
        if not out:
            return b""
        self._said = self._now
        self._datagrams = self._control = 0
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def next_deadline(self) -> float | None:
        """See `types.Mux`."""
        if self._over:
            return None
        dues = [self._drained_by, self.flow.next_deadline(self._now)]
        if not self._plain:
            dues.append(self._said + self.keepalive.seconds)
            dues.append(self._heard + 3 * self._peer.keepalive)
        elif not self._up_told:
            # Nothing has to come first under usher/1, but events are only returned.
            return self._now
        return min((due for due in dues if due is not None), default=None)

    def deadline_passed(self, now: float) -> Sequence[t.Event]:
        """See `types.Mux`."""
        if t.has_slept(self._now, self.next_deadline(), now):
            # Whether the far side lives is asked anew: it answers a ping.
            self._heard = max(self._heard, now - 1.5 * self._peer.keepalive)
        self._now = now
        if self._over:
            return t.NO_EVENTS
        if not self._plain and now >= self._heard + 3 * self._peer.keepalive:
            return self._fail(Code.TIMED_OUT, "nothing was heard of the far side")
        if self._drained_by is not None and now >= self._drained_by:
            return self._fail(Code.SHUTDOWN, "the time to drain is over")
        for channel in self.flow.due_reports(now):
            assert isinstance(channel, Session)
            self._report(channel)
        if not self._plain and now >= self._said + self.keepalive.seconds:
            self._ping(now)
        self.flow.deadline_passed(self._sessions.values(), now)
        return self._say_up()
