"""What comes in on an Usher tunnel: records to their sessions, or to the tunnel itself.

`UsherReceiver` checks a record before anything else sees it. `UsherMux` adds
the verbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.framing import FrameCutter
from tunnelkit.core.usher.actions import SessionActions
from tunnelkit.core.usher.session import ASKED, ESTABLISHED, RECEIVING, Input, Session, State
from tunnelkit.core.usher.texts import destination_of, names_code, read_reason, reason_text
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire import usher
from tunnelkit.wire.usher import AddressType, Direction, RecordType, Version

MAX_CONTROL = 16 * 1024 * 1024
"""Bytes of answers, acknowledgements and the like that may wait for a far side that sends but
does not read."""

RING = "ring"
"""What is told of an open that has come by this end already."""

_HOSTS = (AddressType.IPV4, AddressType.NAME, AddressType.IPV6)
_CLOSES = {
    Direction.READ: Input.CLOSE_READ,
    Direction.WRITE: Input.CLOSE_WRITE,
    Direction.BOTH: Input.CLOSE_BOTH,
}


@attrs.frozen
class UsherConfig:
    """What this end grants. All but ``max_sessions`` matters only under `usher/1.1`."""

    window: int = 262_144
    """Bytes the peer may send on a new session before the first UsherCredit."""
    max_sessions: int = 10_000
    """Sessions that the peer may have opened at once."""
    keepalive: int = 10
    """This end sends something at least every so many seconds."""
    software: str = ""
    name: str = ""
    """This end's own: what has come by it already is refused (row U18)."""


@attrs.define
class Peer:
    """What the other end said of itself; absent settings keep their value."""

    window: int = 262_144
    max_sessions: int = usher.MAX_ID
    keepalive: int = 10


class UsherReceiver(SessionActions):
    """The receiving half of `UsherMux`."""

    def __init__(self, version: Version, config: UsherConfig, budget: Budget, now: float) -> None:
        super().__init__(version, budget, now)
        self.config = config
        self._peer = Peer()
        self._up = self._plain
        """Sessions may be opened."""
        self._up_told = False
        self._heard = now
        self._drained_by: float | None = None
        self._pong: int | None = None
        """Token of the ping to be answered: the latest, so that pings cannot pile up."""
        self._pinged: tuple[int, float] | None = None
        """Token and time of the latest own ping that has not been answered."""
        check = partial(usher.check_header, version=version)
        limits = usher.limits(version)
        self._cutter = FrameCutter(usher.HEADER, RecordType.SEND, usher.MAX_DATA, check, limits)
        self._events: list[t.Event] = []
        self._stream: Session | None = None
        """Whose data is arriving; None: it is discarded."""

    def receive_data(self, data: memoryview, now: float) -> int:
        """See `contract.Mux`."""
        if self._over or (self._plain and not self._up_told):
            return 0
        channel = self._cutter.only_data(data, self)
        if channel:
            self._now = self._heard = now
        return channel

    def receive(self, data: memoryview, now: float) -> Sequence[t.Event]:
        """Take bytes from the peer, cut anywhere; see `types.Mux`."""
        self._now = self._heard = now
        if self._over:
            return t.NO_EVENTS
        events = self._events = self._say_up()
        try:
            self._cutter.cut(data, self, events)
            if self._control > MAX_CONTROL:
                raise RemoteProtocolError("the far side sends but does not read", code=Code.LIMIT)
        except RemoteProtocolError as error:
            events.extend(self._fail(error.code, str(error)))
        return events

    def _say_up(self) -> list[t.Event]:
        """Under `usher/1` there is nothing to wait for."""
        if self._up_told or not self._plain:
            return []
        self._up_told = True
        return [t.TunnelUp()]

    def _fail(self, code: Code, reason: str) -> Sequence[t.Event]:
        return t.NO_EVENTS if self._over else self._end_tunnel(code, reason)

    def _all_over(self, code: Code | None, reason: str) -> list[t.Event]:
        # What else has come with the record that ended it is not looked at.
        self._cutter.closed = True
        return super()._all_over(code, reason)

    # -- records, see `FrameSink` -----------------------------------------

    def takes(self, size: int, flags: int, channel: int) -> bool:
        """UsherSend to an established session within its window."""
        ch = self._sessions.get(channel)
        return ch is not None and ch.state in ESTABLISHED and ch.inbound.takes(size)

    def data_begins(self, length: int, flags: int, channel: int) -> None:
        """Header of UsherSend: everything is checked before the first byte is taken."""
        self._stream = None
        self._need_settings(RecordType.SEND)
        ch = self._find(channel, RecordType.SEND)
        if ch is None:
            return
        if ch.state not in RECEIVING:
            raise RemoteProtocolError(
                f"UsherSend on session {ch.id}, which is {ch.state.value}", state=ch.state.value
            )
        try:
            inbound = ch.inbound
            most = min(t.EARLY_DATA, inbound.limit)
            if ch.state in ASKED and inbound.received + length > most:
                reason = f"more than {most} bytes before the session is connected"
                raise RemoteProtocolError(reason, code=Code.LIMIT)
            inbound.arrived(length)
        except RemoteProtocolError as error:
            self._events.extend(self._overrun(ch, error))
            return
        self._stream = ch

    def data(self, piece: memoryview) -> None:
        """Part of its DATA."""
        ch = self._stream
        if ch is not None and ch.state in RECEIVING:
            self._events.append(t.Data(ch.id, piece))

    def data_ended(self) -> None:
        """All of its DATA has come."""
        self._stream = None

    def message(self, kind: int, flags: int, channel: int, body: bytes) -> None:
        """Any other record."""
        record = usher.decode(kind, body, self.version)
        if isinstance(record, usher.UsherSettings):
            self._events.extend(self._settings(record))
            return
        self._need_settings(kind)
        if isinstance(record, (usher.UsherAck, usher.UsherCredit)):
            happened = Input.ACK
        elif isinstance(record, usher.UsherClose):
            happened = _CLOSES[record.direction]
        elif isinstance(record, usher.UsherOpen):
            self._events.extend(self._requested(channel, record))
            return
        elif isinstance(record, usher.UsherOpenReply):
            happened = Input.REPLY if record.rc > 0 else Input.REFUSAL
        elif isinstance(record, usher.UsherRst):
            happened = Input.RST
        elif isinstance(record, usher.UsherEnd) and channel != 0:
            happened = Input.END
        else:
            self._events.extend(self._tunnel_record(record))
            return
        ch = self._find(channel, kind)
        if ch is not None:
            self._events.extend(self._act(ch, happened, record))

    # -- sessions ---------------------------------------------------------

    def _find(self, session: int, kind: int) -> Session | None:
        """The session that a record is for; None: it is late, and ignored.

        Raises `RemoteProtocolError` for an id that the far side cannot know.
        """
        if session > 0:
            ch = self._sessions.get(session)
            if ch is not None and ch.state not in ASKED:
                return ch
            if session in self._told:
                return None
        elif session < 0 and not self._plain:
            # The opener's own id: what it sent before it had seen the reply.
            ch = self._far.get(-session)
            return None if ch is None or ch.opener else ch
        raise RemoteProtocolError(
            f"{RecordType(kind).name} for session {session}, which was never opened"
        )

    def _overrun(self, ch: Session, error: RemoteProtocolError) -> Sequence[t.Event]:
        """More data than allowed: the session is reset, or not opened at all."""
        if ch.state in ASKED:
            reply = usher.UsherOpenReply(usher.FAILED, reason_text(error.code, str(error)))
            return self._own(ch, Input.OWN_REFUSAL, reply)
        return self._reset(ch, error.code, str(error))

    def _requested(self, far_id: int, record: usher.UsherOpen) -> Sequence[t.Event]:
        if far_id <= 0:
            raise RemoteProtocolError(f"UsherOpen with session id {far_id}")
        if far_id in self._far:
            raise RemoteProtocolError(f"UsherOpen for session id {far_id}, which is in use")
        try:
            destination = self._admit(record)
            number = self._ids.take(self._now)
            if number is None:
                raise RemoteProtocolError("no session id is left", code=Code.LIMIT)
        except RemoteProtocolError as error:
            reason = reason_text(error.code, str(error))
            self._put(usher.UsherOpenReply(usher.FAILED, reason), far_id)
            return t.NO_EVENTS
        udp = record.protocol == usher.UDP
        ch = self._new(number, far_id, State.DATAGRAMS if udp else State.DIALLING)
        self._far[far_id] = ch
        self._opened_there += 1
        if udp:
            # The id is all: SESSION of a datagram is not looked at, and it is judged as any other.
            self._idle += 1
            self._told.add(number)
            self._put(usher.UsherOpenReply(number, None if self._plain else ""), far_id)
            return t.NO_EVENTS
        if record.listener:
            return [
                t.ChannelRequested(
                    number, destination, listener=record.listener, origin=record.address
                )
            ]
        return [t.ChannelRequested(number, destination, via=record.via)]

    def _admit(self, record: usher.UsherOpen) -> str:
        """The destination; raises `RemoteProtocolError` with the code of the refusal."""
        if self._draining:
            raise RemoteProtocolError("this end is shutting down", code=Code.SHUTDOWN)
        if record.protocol not in (usher.TCP, usher.UDP):
            raise RemoteProtocolError(
                f"sessions are for TCP and UDP, not protocol {record.protocol}", code=Code.REFUSED
            )
        if record.protocol == usher.UDP and record.address_type not in _HOSTS:
            raise RemoteProtocolError("datagrams go from host to host", code=Code.REFUSED)
        if self._opened_there >= self.config.max_sessions:
            raise RemoteProtocolError(
                f"{self.config.max_sessions} sessions are open", code=Code.LIMIT
            )
        if not self.flow.budget.accepts_channels:
            raise RemoteProtocolError("too much data is waiting for applications", code=Code.LIMIT)
        if self.config.name in record.via:
            raise RemoteProtocolError(RING, code=Code.REFUSED)
        if record.listener:
            listener = self._sessions.get(record.listener)
            if listener is None or not listener.opener or listener.reported_end:
                raise RemoteProtocolError("nobody listens any more", code=Code.NO_SUCH_SERVICE)
        return destination_of(record)

    def _new(self, number: int, far_id: int, state: State) -> Session:
        plain = self._plain
        ch = Session(
            number,
            far_id,
            state,
            usher.WINDOW if plain else self.config.window,
            usher.WINDOW if plain else self._peer.window,
            self.flow.budget,
            fixed=plain,
        )
        self._sessions[number] = ch
        return ch

    # -- the tunnel -------------------------------------------------------

    def _need_settings(self, kind: int) -> None:
        if not self._up:
            raise RemoteProtocolError(f"{RecordType(kind).name} before UsherSettings")

    def _settings(self, record: usher.UsherSettings) -> Sequence[t.Event]:
        peer = self._peer
        if record.window is not None and not self._up:
            peer.window = record.window
        if record.max_sessions is not None:
            peer.max_sessions = record.max_sessions
        if record.keepalive is not None:
            peer.keepalive = record.keepalive
            self.flow.soonest = 0.0
        if self._up:
            return t.NO_EVENTS
        self._up = True
        # Its answer is the first that is known of the path.
        self._ping(self._now)
        return [t.TunnelUp(record.software)]

    def _ping(self, now: float) -> None:
        token = 1 if self._pinged is None else self._pinged[0] + 1
        self._pinged = (token, now)
        self._put(usher.UsherPing(token), 0)

    def _tunnel_record(self, record: usher.Record) -> Sequence[t.Event]:
        if isinstance(record, (usher.UsherSendUdp, usher.UsherSendUdpAny)):
            return [t.Datagram(0, record.source, record.destination, memoryview(record.data))]
        if isinstance(record, usher.UsherPing):
            if not record.answer:
                self._pong = record.token
            elif self._pinged is not None and record.token == self._pinged[0]:
                self.flow.path.round_trip_seen(self._now - self._pinged[1])
            return t.NO_EVENTS
        if isinstance(record, usher.UsherShutdown):
            self._draining = True
            self.flow.soonest = 0.0
            by = self._now + record.grace
            self._drained_by = by if self._drained_by is None else min(by, self._drained_by)
            return [t.Draining(record.grace, record.reason), *self._maybe_over()]
        if isinstance(record, usher.UsherEnd):
            return self._ended_there(record.reason)
        if isinstance(record, usher.UsherCheckpoint):
            return [t.CheckpointCame(record.checkpoint)]
        return t.NO_EVENTS

    def _ended_there(self, text: str) -> Sequence[t.Event]:
        """UsherEnd for the tunnel. With nothing open, and no other reason given, all is well."""
        code, reason = read_reason(text, Code.SHUTDOWN)
        if code is Code.SHUTDOWN and not self._in_use:
            return self._all_over(None, "")
        return self._all_over(code, reason if names_code(text) else text)
