"""The channels of one connection: what messages and wishes do to them (rows L3, L5).

`LiveChannels` runs the table of `tunnelkit.core.lstp.channel`. Each action is a method of the same
name in small letters; those of messages show the body.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from tunnelkit.core.lstp.channel import (
    DISCARDING,
    TABLE,
    Action,
    Input,
    LstpChannel,
    State,
)
from tunnelkit.core.lstp.ids import Ids
from tunnelkit.core.lstp.life import Life
from tunnelkit.core.lstp.outbox import Outbox
from tunnelkit.core.lstp.properties import Properties
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.flow_control import FlowControl
from tunnelkit.core.table import local_step, step
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import HEADER, MessageType
from tunnelkit.wire.lstp import MessageType as M

_INPUTS: dict[int, Input] = {
    int(kind): Input[kind.name] for kind in MessageType if kind.name in Input.__members__
}
_NO_METHOD = frozenset({Action.TAKE_DATA, Action.SEND_DATA})

Happening = lstp.Message | None


class LiveChannels:
    """Those that are not over, by id."""

    def __init__(
        self, master: bool, life: Life, outbox: Outbox, flow: FlowControl, properties: Properties
    ) -> None:
        self.by_id: dict[int, LstpChannel] = {}
        self.ids = Ids(master)
        self.opened_there = 0
        """Those that the far side has asked for."""
        self._opened_here = 0
        self._life = life
        self._outbox = outbox
        self._frames = outbox.frames
        """Where messages go that are nothing but a header."""
        self._flow = flow
        self._properties = properties
        self._actions: dict[Action, Callable[[LstpChannel, Happening], Sequence[t.Event]]] = {
            action: getattr(self, "_" + action.name.lower())
            for action in Action
            if action not in _NO_METHOD
        }

    # -- channels begin ---------------------------------------------------

    def check_open(self) -> None:
        """Raises `LimitReached` if nothing may be asked for now."""
        life = self._life
        if not life.up or life.over or life.drained_by is not None:
            raise t.LimitReached("the tunnel takes no new channels now", Code.SHUTDOWN)

    def ask(self, request: lstp.ConnectionRequest, in_use: Container[int]) -> LstpChannel:
        """Ask for a channel and have it begin; raises `LimitReached`."""
        self.check_open()
        most = self._properties.peer.max_channels
        if self._opened_here >= most:
            raise t.LimitReached(f"the far side allows {most} channels at once", Code.LIMIT)
        number = self.ids.allocate(self.by_id, in_use)
        self._outbox.put(request, number)
        self._frames.append(HEADER.pack(0, M.SERVICE_BEGIN_REQUEST, 0, 0, number))
        ch = self._new(number, State.REQUESTED)
        ch.requested_at = self._life.now
        self._opened_here += 1
        return ch

    def admit(self, number: int, request: lstp.ConnectionRequest) -> None:
        """Let the far side have a channel, once it lets it begin."""
        self._new(number, State.ADMITTED).request = request
        self.opened_there += 1
        self._frames.append(HEADER.pack(0, M.CONNECTION_ACK, 0, 0, number))

    def nack(self, number: int, code: Code, reason: str) -> None:
        """Refuse a CONNECTION_REQUEST; what was sent behind it is ignored."""
        self._outbox.put(lstp.ConnectionNack(code, reason), number)
        self.ids.expect_late(number)

    def _new(self, number: int, state: State) -> LstpChannel:
        windows = self._properties.own.window, self._properties.peer.window
        ch = LstpChannel(number, state, *windows, self._flow.budget)
        self.by_id[number] = ch
        return ch

    # -- the table --------------------------------------------------------

    def hear(self, ch: LstpChannel, kind: int, flags: int, body: bytes) -> Sequence[t.Event]:
        """Any message but SERVICE_DATA has come for ``ch``."""
        before = ch.state
        happened = _INPUTS.get(kind, Input.MISPLACED)
        if before in DISCARDING and (before, happened) not in TABLE:
            return t.NO_EVENTS
        try:
            message = None if body else lstp.WITHOUT_BODY.get(kind)
            if message is None:
                message = lstp.decode(kind, flags, body)
                if isinstance(message, lstp.ServiceFreeRequest) and message.code is not None:
                    happened = Input.ABORT
            action, ch.state = TABLE.get((before, happened)) or step(TABLE, before, happened)
            return self._actions[action](ch, message)
        except RemoteProtocolError as error:
            if happened is Input.ERROR:
                # ERROR is never answered with ERROR.
                ch.state = State.OVER
                return self._ends(ch, error.code, str(error))
            return self.fail(ch, error)

    def hear_end(self, ch: LstpChannel) -> Sequence[t.Event]:
        """The last data of the far side has come."""
        step_to = TABLE.get((ch.state, Input.LAST_DATA))
        action, ch.state = step_to or step(TABLE, ch.state, Input.LAST_DATA)
        return self._actions[action](ch, None)

    def own(self, ch: LstpChannel, wanted: Input, message: Happening = None) -> Sequence[t.Event]:
        """This side wants something; raises `LocalProtocolError` where that cannot be."""
        step_to = TABLE.get((ch.state, wanted))
        action, ch.state = step_to or local_step(TABLE, ch.state, wanted, f"channel {ch.id}")
        return self._actions[action](ch, message)

    def fail(self, ch: LstpChannel, error: RemoteProtocolError) -> Sequence[t.Event]:
        """The far side broke a rule of ``ch``: ERROR, and it is over."""
        self.put_error(ch.id, error.code, str(error))
        ch.state = State.OVER
        return self._ends(ch, error.code, str(error))

    # -- actions: messages ------------------------------------------------

    def _ignore(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """Nothing that matters any more."""
        return t.NO_EVENTS

    def _note_admitted(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """CONNECTION_ACK::

        {}
        """
        self._flow.path.round_trip_seen(self._life.now - ch.requested_at)
        return t.NO_EVENTS

    def _report_refusal(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """CONNECTION_NACK::

        {"code": CODE, "reason": TEXT}
        """
        assert isinstance(message, lstp.ConnectionNack)
        return self._ends(ch, message.code, message.reason, refused=True)

    def _report_request(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_BEGIN_REQUEST::

            {}

        What is wanted stood in CONNECTION_REQUEST.
        """
        request, ch.request = ch.request, None
        assert request is not None
        if request.listener is not None:
            origin = request.origin or ""
            return [t.ChannelRequested(ch.id, "", listener=request.listener, origin=origin)]
        destination = request.destination or f"service:{request.service}"
        ch.leads_to(destination)
        return [t.ChannelRequested(ch.id, destination, ch.datagrams is not None)]

    def _report_open(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_BEGIN_ACK::

            {"bound": "tcp:HOST:PORT"}

        From here on the credit alone says how much may be sent.
        """
        assert isinstance(message, lstp.ServiceBeginAck)
        opened = t.ChannelOpened(ch.id, message.bound)
        if ch.outbound.sent >= t.EARLY_DATA and ch.may_send:
            return [opened, t.Writable(ch.id)]
        return [opened]

    def _give_back(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_BEGIN_NACK::

        {"code": CODE, "reason": TEXT}
        """
        assert isinstance(message, lstp.ServiceBeginNack)
        self._frames.append(HEADER.pack(0, M.SERVICE_FREE_REQUEST, 0, 0, ch.id))
        return self._ends(ch, message.code, message.reason, refused=True)

    def _note_far_end(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_DATA with flag 2; its payload has been dealt with."""
        ch.unpacker = None
        events: list[t.Event] = [t.Finished(ch.id)]
        if ch.state is State.ENDED and ch.opener:
            events.extend(self.settle(ch))
        return events

    def _stop_sending(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_DATA_PAUSE::

        {}
        """
        ch.paused = True
        return t.NO_EVENTS

    def _take_grant(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_DATA_RESUME::

        8 bytes  taken   what the application has taken, an offset in the stream
        8 bytes  limit   up to where this side may send
        """
        assert isinstance(message, lstp.ServiceDataResume)
        blocked = ch.paused or ch.outbound.credit <= 0
        news = ch.outbound.granted(message.taken, message.limit)
        ch.paused = False
        if news:
            self._flow.reported(ch, news, self._life.now)
        if blocked and ch.may_send:
            return [t.Writable(ch.id)]
        return t.NO_EVENTS

    def _note_free(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_FREE_REQUEST without code, which is the opener's to send::

        {}
        """
        if ch.opener:
            raise RemoteProtocolError("an orderly SERVICE_FREE_REQUEST that is not the opener's")
        return self.settle(ch)

    def _acknowledge(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_FREE_REQUEST, an abort where it is news::

        {"code": CODE, "reason": TEXT}
        """
        assert isinstance(message, lstp.ServiceFreeRequest)
        self._frames.append(HEADER.pack(0, M.SERVICE_FREE_ACK, 0, 0, ch.id))
        return self._ends(ch, message.code, message.reason)

    def _report_error(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """ERROR::

        {"code": CODE, "reason": TEXT, "fatal": false}
        """
        assert isinstance(message, lstp.Error)
        return self._ends(ch, message.code, message.reason)

    def _release(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        """SERVICE_FREE_ACK, or what stands for it where both sides gave up::

        {}
        """
        return self._ends(ch, None, "")

    # -- actions: wishes of this side -------------------------------------

    def _send_begin_ack(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceBeginAck)
        self._outbox.put(message, ch.id)
        queued = ch.inbound.queued if ch.datagrams is not None else 0
        if queued and self._flow.consumed(ch, queued, self._life.now):
            self._outbox.grant(ch)
        # It is open, so nothing but a PAUSE or the credit keeps this side from sending.
        out = ch.outbound
        return [t.Writable(ch.id)] if out.sent < out.limit and not ch.paused else t.NO_EVENTS

    def _send_begin_nack(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceBeginNack)
        self._outbox.put(message, ch.id)
        return self._ends(ch, message.code, message.reason, refused=True)

    def _send_last(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        ch.packer = None
        # Empty, so it needs no credit and passes a PAUSE.
        self._frames.append(HEADER.pack(0, M.SERVICE_DATA, lstp.FLAG_LAST, 0, ch.id))
        return self.settle(ch) if ch.state is State.ENDED and ch.opener else t.NO_EVENTS

    def _send_free(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        self._frames.append(HEADER.pack(0, M.SERVICE_FREE_REQUEST, 0, 0, ch.id))
        return t.NO_EVENTS

    def _send_free_ack(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        self._frames.append(HEADER.pack(0, M.SERVICE_FREE_ACK, 0, 0, ch.id))
        # The opener may still abort, before it knows.
        self.ids.expect_late(ch.id)
        return self._ends(ch, None, "")

    def _send_abort(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceFreeRequest)
        self._outbox.put(message, ch.id)
        return self._ends(ch, message.code, message.reason)

    def _send_abort_and_ack(self, ch: LstpChannel, message: Happening) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceFreeRequest)
        self._outbox.put(message, ch.id)
        self._frames.append(HEADER.pack(0, M.SERVICE_FREE_ACK, 0, 0, ch.id))
        return self._ends(ch, message.code, message.reason)

    # -- what they share --------------------------------------------------

    def put_error(self, number: int, code: Code, reason: str) -> None:
        """Say ERROR about an id; what still comes for it is late."""
        self._outbox.put(lstp.Error(code, reason), number)
        self.ids.expect_late(number)

    def settle(self, ch: LstpChannel) -> Sequence[t.Event]:
        """Both directions have ended and everything is taken: the opener frees the channel, the
        other side acknowledges the request that it may have had already."""
        waits = ch.state is State.LINGERING or (ch.state is State.ENDED and ch.opener)
        inbound = ch.inbound
        if not waits or inbound.received != inbound.taken:
            return t.NO_EVENTS
        return self.own(ch, Input.SETTLED)

    def _ends(
        self, ch: LstpChannel, code: Code | None, reason: str, *, refused: bool = False
    ) -> list[t.Event]:
        """``ch`` is OVER or discards what comes; its ChannelEnded is reported once."""
        ch.packer = ch.unpacker = None
        self._flow.ended(ch)
        events: list[t.Event] = []
        if not ch.reported_end:
            ch.reported_end = True
            # The layer above need not hear of the end of what it never heard of.
            if ch.request is None:
                events.append(t.ChannelEnded(ch.id, code, reason, refused))
        if ch.state is State.OVER:
            del self.by_id[ch.id]
            self.ids.over(ch.id, self._life.now)
            if ch.opener:
                self._opened_here -= 1
            else:
                self.opened_there -= 1
            if self._life.drained_by is not None:
                events.extend(self.maybe_over())
        return events

    def maybe_over(self) -> Sequence[t.Event]:
        """A drained tunnel ends with its last channel."""
        life = self._life
        if life.drained_by is not None and not self.by_id and not life.over:
            return self.all_over(None, "")
        return t.NO_EVENTS

    def all_over(self, code: Code | None, reason: str) -> list[t.Event]:
        """The tunnel is over, and every channel that is open is reset."""
        self._life.over = True
        events: list[t.Event] = []
        for ch in list(self.by_id.values()):
            ch.state = State.OVER
            events.extend(self._ends(ch, code or Code.RESET, reason))
        events.append(t.TunnelEnded(code, reason))
        return events


def find(channels: LiveChannels, number: int) -> LstpChannel:
    """The channel of that id; raises `LocalProtocolError` if it is over."""
    ch = channels.by_id.get(number)
    if ch is None:
        raise LocalProtocolError(f"channel {number} is not open")
    return ch
