"""What records and verbs do to a session: the actions named in `usher_session.TABLE`.

`SessionActions` holds the sessions of one tunnel and everything about them
that records and verbs have in common; `UsherMux` builds on it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.flow_control import FlowControl
from tunnelkit.core.table import local_step, step
from tunnelkit.core.usher.ids import Ids
from tunnelkit.core.usher.session import (
    ASKED,
    OPEN_TO_SEND,
    TABLE,
    Action,
    Input,
    Session,
    State,
)
from tunnelkit.core.usher.texts import read_reason, reason_text
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire import usher
from tunnelkit.wire.usher import Direction, RecordType, Version

_ACK = struct.Struct(">ihhH")
_CREDIT = struct.Struct(">ihhQQ")
_CLOSE_READ = struct.Struct(">ihhH")

Happening = usher.Record | None


class SessionActions:
    """The sessions of one tunnel."""

    def __init__(self, version: Version, budget: Budget, now: float) -> None:
        self.version = version
        self.flow = FlowControl(budget)
        self._plain = version is Version.V1
        self._sessions: dict[int, Session] = {}
        """By this side's id."""
        self._far: dict[int, Session] = {}
        """By the far side's id: the ids that are live there."""
        self._ids = Ids()
        self._told: set[int] = set()
        """Ids of this side that the far side has ever heard of: records for them may be late."""
        self._opened_here = 0
        self._opened_there = 0
        self._idle = 0
        """Sessions of datagrams, which nothing waits for."""
        self._out: list[bytes] = []
        self._control = 0
        """Bytes in ``_out`` that records caused."""
        self._now = now
        self._over = False
        self._draining = False
        self._end_reason = ""
        self._actions: dict[Action, Callable[[Session, Happening], Sequence[t.Event]]] = {
            action: getattr(self, "_" + action.name.lower())
            for action in Action
            if action is not Action.TAKE_DATA
        }

    # -- the table --------------------------------------------------------

    def _act(self, ch: Session, happened: Input, record: Happening) -> Sequence[t.Event]:
        """A record came for a session that is not over."""
        action, ch.state = step(TABLE, ch.state, happened)
        return self._actions[action](ch, record)

    def _own(self, ch: Session, happened: Input, record: Happening = None) -> Sequence[t.Event]:
        """This side wants something."""
        action, ch.state = local_step(TABLE, ch.state, happened, f"session {ch.id}")
        return self._actions[action](ch, record)

    # -- actions ----------------------------------------------------------

    def _ignore(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        return t.NO_EVENTS

    def _establish(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        assert isinstance(record, usher.UsherOpenReply)
        self._learn(ch, record.rc)
        events: list[t.Event] = [t.ChannelOpened(ch.id, record.text or "")]
        waited = self._plain or ch.outbound.sent >= t.EARLY_DATA
        if ch.state is State.WRITER_ACTIVE:
            if self._plain:
                self._put_close_read(ch)
        elif waited and ch.outbound.credit > 0:
            events.append(t.Writable(ch.id))
        return events

    def _learn(self, ch: Session, far_id: int) -> None:
        if far_id in self._far:
            raise RemoteProtocolError(f"session id {far_id} is in use")
        ch.far_id = far_id
        self._far[far_id] = ch

    def _report_refusal(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        assert isinstance(record, usher.UsherOpenReply)
        code, reason = read_reason(record.text or "", Code.REFUSED)
        return self._ends(ch, code, reason, refused=True)

    def _take_ack(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        out = ch.outbound
        blocked = out.credit <= 0
        if isinstance(record, usher.UsherCredit):
            news = out.granted(record.taken, record.limit)
        else:
            assert isinstance(record, usher.UsherAck)
            news = out.granted(out.taken + record.size, out.limit + record.size)
        if news:
            self.flow.reported(ch, news, self._now)
        if blocked and out.credit > 0 and ch.state in OPEN_TO_SEND:
            return [t.Writable(ch.id)]
        return self._maybe_settled(ch)

    def _note_far_end(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        self._report_if_done(ch)
        return [t.Finished(ch.id), *self._maybe_settled(ch)]

    def _stop_sending(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        self._put_close_read(ch)
        return self._maybe_settled(ch)

    def _end_own(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        # Under usher/1 what ends before the reply says so behind it.
        if ch.far_id:
            self._report_if_done(ch)
            self._put_close_read(ch)
        return self._maybe_settled(ch)

    def _give_up(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        if not self._plain:
            ch.state = State.RESET
            return self._send_rst(ch, record)
        assert isinstance(record, usher.UsherRst)
        return self._ends(ch, *read_reason(record.reason, Code.RESET))

    def _send_reply(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        assert isinstance(record, usher.UsherOpenReply)
        self._put(record, ch.far_id)
        self._told.add(ch.id)
        if ch.inbound.unreported:
            self._report(ch)
        return [t.Writable(ch.id)] if ch.outbound.credit > 0 else t.NO_EVENTS

    def _send_refusal(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        assert isinstance(record, usher.UsherOpenReply)
        self._put(record, ch.far_id)
        code, reason = read_reason(record.text or "", Code.REFUSED)
        return self._ends(ch, code, reason, refused=True)

    def _send_rst(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        assert isinstance(record, usher.UsherRst)
        self._put(record, ch.far_id)
        return self._ends(ch, *read_reason(record.reason, Code.RESET))

    def _send_late_rst(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        assert isinstance(record, usher.UsherOpenReply)
        self._learn(ch, record.rc)
        return self._send_rst(ch, usher.UsherRst(reason_text(Code.RESET, "the opener gave up")))

    def _end_session(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        if isinstance(record, (usher.UsherRst, usher.UsherEnd)):
            return self._ends(ch, *read_reason(record.reason, Code.RESET))
        return self._ends(ch, Code.RESET, "the far side closed both directions at once")

    def _confirm_end(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        self._put(usher.UsherRst(Code.RESET.value), ch.far_id)
        return self._end_session(ch, record)

    def _release(self, ch: Session, record: Happening) -> Sequence[t.Event]:
        return self._ends(ch, None, "")

    # -- what they share --------------------------------------------------

    def _put(self, record: usher.Record, session: int) -> None:
        self._put_raw(usher.encode(record, session, self.version))

    def _put_raw(self, raw: bytes) -> None:
        self._out.append(raw)
        self._control += len(raw)

    def _put_close_read(self, ch: Session) -> None:
        self._put_raw(_CLOSE_READ.pack(2, RecordType.CLOSE, ch.far_id, Direction.READ))

    def _report(self, ch: Session) -> None:
        """Acknowledge what the application has taken; a far side that does not know the session's
        id yet learns it later."""
        ch.report_at = 0.0
        if ch.state in ASKED:
            return
        size = ch.inbound.unreported
        taken, limit = ch.inbound.report()
        if not self._plain:
            self._put_raw(_CREDIT.pack(16, RecordType.CREDIT, ch.far_id, taken, limit))
            return
        while size > 0:
            part = min(size, usher.MAX_ACK)
            self._put_raw(_ACK.pack(2, RecordType.ACK, ch.far_id, part))
            size -= part

    def _report_if_done(self, ch: Session) -> None:
        """What has been taken need not wait to be acknowledged when nothing more is there."""
        if ch.inbound.unreported and not ch.inbound.queued:
            self._report(ch)

    def _maybe_settled(self, ch: Session) -> Sequence[t.Event]:
        """Both directions have ended: over, once everything is taken and acknowledged."""
        if ch.state is State.INACTIVE and not ch.inbound.queued and not ch.outbound.in_flight:
            return self._own(ch, Input.SETTLED)
        return t.NO_EVENTS

    def _reset(self, ch: Session, code: Code, reason: str) -> Sequence[t.Event]:
        return self._own(ch, Input.OWN_ABORT, usher.UsherRst(reason_text(code, reason)))

    def _ends(
        self, ch: Session, code: Code | None, reason: str, *, refused: bool = False
    ) -> list[t.Event]:
        """``ch`` is in a final state, or ABANDONED; its ChannelEnded is reported once."""
        self.flow.ended(ch)
        events: list[t.Event] = []
        if not ch.reported_end:
            ch.reported_end = True
            events.append(t.ChannelEnded(ch.id, code, reason, refused))
        if ch.state is State.ABANDONED:
            return events
        del self._sessions[ch.id]
        if self._far.get(ch.far_id) is ch:
            del self._far[ch.far_id]
        if ch.state is State.FREE:
            self._ids.release(ch.id)
        else:
            self._ids.rest(ch.id, self._now)
        if ch.opener:
            self._opened_here -= 1
        else:
            self._opened_there -= 1
        self._idle -= ch.for_datagrams
        events.extend(self._maybe_over())
        return events

    @property
    def _in_use(self) -> bool:
        """Whether there is a session that must not be cut short."""
        return len(self._sessions) > self._idle

    def _maybe_over(self) -> Sequence[t.Event]:
        """A drained tunnel ends with its last session."""
        if self._draining and not self._in_use and not self._over:
            return self._end_tunnel(None, self._end_reason)
        return t.NO_EVENTS

    def _end_tunnel(self, code: Code | None, reason: str) -> list[t.Event]:
        """Send UsherEnd; ``code`` None: as agreed, after a shutdown."""
        self._put(usher.UsherEnd(reason_text(code or Code.SHUTDOWN, reason)), 0)
        return self._all_over(code, reason if code else "")

    def _all_over(self, code: Code | None, reason: str) -> list[t.Event]:
        self._over = True
        events: list[t.Event] = []
        for ch in list(self._sessions.values()):
            ch.state = State.RESET
            events.extend(self._ends(ch, code or Code.RESET, reason))
        events.append(t.TunnelEnded(code, reason))
        return events
