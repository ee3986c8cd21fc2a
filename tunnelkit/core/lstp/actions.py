"""What the messages of a channel do: the actions named in `tunnelkit.core.lstp.channel.TABLE`.

`ChannelActions` holds the channels of one connection and everything about
them that messages and verbs have in common; `LstpMux` builds on it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from tunnelkit.core.lstp.channel import DISCARDING, TABLE, LstpChannel, State
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.flow_control import FlowControl
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import MessageType as M

_REMEMBERED = 1024
"""Ids of ended channels whose late messages are ignored."""

_NOT_ITS_TURN = "an orderly SERVICE_FREE_REQUEST that is not the opener's after both last data"

Action = Callable[[LstpChannel, lstp.Message], Sequence[t.Event]]


class ChannelActions:
    """The channels of one connection."""

    def __init__(self, budget: Budget, now: float) -> None:
        self.flow = FlowControl(budget)
        self._channels: dict[int, LstpChannel] = {}
        self._opened_here = 0
        self._opened_there = 0
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._just_over: set[int] = set()
        """Ids of the channels that were over at the time ``_just_over_at``."""
        self._just_over_at = now
        self._out: list[bytes] = []
        self._granting: dict[int, LstpChannel] = {}
        """The channels whose senders are told, when something is sent next, what was taken."""
        self._now = now
        self._over = False
        self._draining = False
        names = {action for action, _ in TABLE.values()} - {"data", "ignored"}
        self._actions: dict[str, Action] = {name: getattr(self, "_on_" + name) for name in names}

    # -- messages ---------------------------------------------------------

    def _act(self, ch: LstpChannel, kind: int, flags: int, body: bytes) -> Sequence[t.Event]:
        """Let the table decide about a message of a live channel."""
        entry = TABLE.get((ch.state, M(kind)))
        if entry is None:
            if ch.state in DISCARDING:
                return t.NO_EVENTS
            return self._channel_error(ch, unexpected(ch, kind))
        action, state = entry
        if action == "ignored":
            return t.NO_EVENTS
        before = ch.state
        try:
            message = read(kind, flags, body)
            ch.state = state
            return self._actions[action](ch, message)
        except RemoteProtocolError as error:
            ch.state = before
            return self._channel_error(ch, error)

    def _on_admitted(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        self.flow.path.round_trip_seen(self._now - ch.requested_at)
        return t.NO_EVENTS

    def _on_not_admitted(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ConnectionNack)
        return self._ends(ch, State.OVER, message.code, message.reason, refused=True)

    def _on_begin(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        request, ch.request = ch.request, None
        assert request is not None
        if request.listener is not None:
            return [
                t.ChannelRequested(
                    ch.id, "", listener=request.listener, origin=request.origin or ""
                )
            ]
        destination = request.destination or f"service:{request.service}"
        ch.leads_to(destination)
        return [t.ChannelRequested(ch.id, destination, ch.datagrams is not None)]

    def _on_begun(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceBeginAck)
        return [t.ChannelOpened(ch.id, message.bound)]

    def _on_not_begun(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceBeginNack)
        self._put(lstp.encode(lstp.ServiceFreeRequest(), ch.id))
        return self._ends(ch, State.ABORTING, message.code, message.reason, refused=True)

    def _on_paused(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        ch.paused = True
        return t.NO_EVENTS

    def _on_resumed(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceDataResume)
        blocked = ch.paused or ch.outbound.credit <= 0
        news = ch.outbound.granted(message.taken, message.limit)
        ch.paused = False
        if news:
            self.flow.reported(ch, news, self._now)
        may_send = ch.state is not State.DIALLING and not ch.near_finished
        if blocked and may_send and ch.outbound.credit > 0:
            return [t.Writable(ch.id)]
        return t.NO_EVENTS

    def _on_free(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceFreeRequest)
        if message.code is not None:
            return self._on_aborted(ch, message)
        if ch.opener or not (ch.near_finished and ch.far_finished):
            raise RemoteProtocolError(_NOT_ITS_TURN)
        return self._maybe_free(ch)

    def _on_aborted(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        assert isinstance(message, lstp.ServiceFreeRequest)
        if message.code is None:
            raise RemoteProtocolError(_NOT_ITS_TURN)
        self._put(lstp.encode(lstp.ServiceFreeAck(), ch.id))
        return self._ends(ch, State.OVER, message.code, message.reason)

    def _on_crossed(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        """Both want to end the channel; each request gets its ACK. The own one, if it was orderly,
        has become void: the far application will not take the rest."""
        assert isinstance(message, lstp.ServiceFreeRequest)
        if message.code is None and not ch.reported_end:
            raise RemoteProtocolError(_NOT_ITS_TURN)
        self._put(lstp.encode(lstp.ServiceFreeAck(), ch.id))
        return self._ends(ch, State.ABORTING, message.code, message.reason)

    def _on_freed(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        return self._ends(ch, State.OVER, None, "")

    def _on_refusal_seen(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        self._put(lstp.encode(lstp.ServiceFreeAck(), ch.id))
        return self._ends(ch, State.OVER, None, "")

    def _on_failed(self, ch: LstpChannel, message: lstp.Message) -> Sequence[t.Event]:
        assert isinstance(message, lstp.Error)
        return self._ends(ch, State.OVER, message.code, message.reason)

    # -- what messages and verbs share ------------------------------------

    def _in(self, channel: int, state: State) -> LstpChannel:
        ch = self._channels.get(channel)
        if ch is None or ch.state is not state:
            raise LocalProtocolError(f"channel {channel} is not {state.value}")
        return ch

    def _put(self, frame: bytes) -> None:
        self._out.append(frame)

    def _put_error(self, number: int, code: Code, reason: str) -> None:
        self._put(lstp.encode(lstp.Error(code, reason), number))
        self._remember(number)

    def _remember(self, number: int) -> None:
        """What still comes for this id is late, not wrong."""
        self._ended[number] = None
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def _report(self, ch: LstpChannel) -> None:
        """Tell the sender what the application has taken, and how far it may go."""
        ch.report_at = 0.0
        self._granting[ch.id] = ch

    def _maybe_free(self, ch: LstpChannel) -> Sequence[t.Event]:
        """Both directions have ended and everything is taken: the opener frees the channel, the
        other side acknowledges the request that it may have had already."""
        if not (ch.near_finished and ch.far_finished) or ch.inbound.queued:
            return t.NO_EVENTS
        if ch.state is State.LINGERING:
            self._put(lstp.encode(lstp.ServiceFreeAck(), ch.id))
            # The opener may still abort, before it knows.
            self._remember(ch.id)
            return self._ends(ch, State.OVER, None, "")
        if ch.opener and ch.state is State.OPEN:
            ch.state = State.CLOSING
            self._put(lstp.encode(lstp.ServiceFreeRequest(), ch.id))
        return t.NO_EVENTS

    def _channel_error(self, ch: LstpChannel, error: RemoteProtocolError) -> Sequence[t.Event]:
        self._put_error(ch.id, error.code, str(error))
        return self._ends(ch, State.OVER, error.code, str(error))

    def _ends(
        self,
        ch: LstpChannel,
        state: State,
        code: Code | None,
        reason: str,
        *,
        refused: bool = False,
    ) -> list[t.Event]:
        """Move ``ch`` to a final state; its ChannelEnded is reported once."""
        ch.state = state
        ch.packer = ch.unpacker = None
        self.flow.ended(ch)
        events: list[t.Event] = []
        if not ch.reported_end:
            ch.reported_end = True
            # The layer above need not hear of the end of what it never heard of.
            if ch.request is None:
                events.append(t.ChannelEnded(ch.id, code, reason, refused))
        if state is State.OVER:
            del self._channels[ch.id]
            if self._just_over_at != self._now:
                self._just_over_at = self._now
                self._just_over.clear()
            self._just_over.add(ch.id)
            if ch.opener:
                self._opened_here -= 1
            else:
                self._opened_there -= 1
            events.extend(self._maybe_over())
        return events

    def _maybe_over(self) -> Sequence[t.Event]:
        """A drained tunnel ends with its last channel."""
        if self._draining and not self._channels and not self._over:
            return self._all_over(None, "")
        return t.NO_EVENTS

    def _all_over(self, code: Code | None, reason: str) -> list[t.Event]:
        self._over = True
        events: list[t.Event] = []
        for ch in list(self._channels.values()):
            events.extend(self._ends(ch, State.OVER, code or Code.RESET, reason))
        events.append(t.TunnelEnded(code, reason))
        return events


def read(kind: int, flags: int, body: bytes) -> lstp.Message:
    """`wire.lstp.decode`; an ERROR that breaks rules itself still ends what it was sent for,
    because ERROR is never answered with ERROR."""
    try:
        return lstp.decode(kind, flags, body)
    except RemoteProtocolError as error:
        if kind == M.ERROR:
            return lstp.Error(error.code, str(error), fatal=True)
        raise


def unexpected(ch: LstpChannel, kind: int) -> RemoteProtocolError:
    """The error for a message that the table does not have."""
    return RemoteProtocolError(
        f"{M(kind).name} is not expected on channel {ch.id}, which is {ch.state.value}",
        state=ch.state.value,
    )
