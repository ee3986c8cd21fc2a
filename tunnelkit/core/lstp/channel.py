"""One LSTP channel: its states, what may happen in each of them, and its offsets.

`TABLE` is the sequencing of rows L3 and L5, read as: in this state, this input leads to this action
and that state. Inputs that begin with OWN, and SETTLED, come from this side; the others are
messages, and one that the table does not have is a protocol error that ends the channel, except
in the states of `DISCARDING`, which ignore it. The actions are methods of
`tunnelkit.core.lstp.channels.LiveChannels`::

        the side that asks (opener)                the side that is asked
        REQUESTED   CONNECTION_REQUEST sent        ADMITTED   ACK sent, not begun
        BEGINNING   ACK received, begin not yet    DIALLING   begun, being connected
                        OPEN        both may send
                        NEAR_ENDED  this side has ended
                        FAR_ENDED   the far side has ended
                        ENDED       both have; not everything is taken, or the opener has not asked
        CLOSING     orderly FREE_REQUEST sent      LINGERING  it came; data still to be taken
                        ABORTING    FREE_REQUEST sent, reset: discards until FREE_ACK
                                                   REFUSED    BEGIN_NACK sent: discards until
                                                              FREE_REQUEST
                        OVER        gone

The states whose names end in _ENDED, of a channel that is not connected yet, are the same as those
without, but the opener has sent its last data.
"""

from __future__ import annotations

from enum import auto

from tunnelkit.core.lstp.compression import Packer, Unpacker
from tunnelkit.core.mux.contract import EARLY_DATA
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.datagram_body import DatagramBody
from tunnelkit.core.mux.flow_control import ChannelFlowControl
from tunnelkit.core.table import Symbol, states_with
from tunnelkit.wire.lstp import ConnectionRequest


class State(Symbol):
    """Where a channel is in its life, see the module's docstring."""

    REQUESTED = "requested"
    REQUESTED_ENDED = "requested, ended"
    BEGINNING = "beginning"
    BEGINNING_ENDED = "beginning, ended"
    ADMITTED = "admitted"
    DIALLING = "dialling"
    DIALLING_ENDED = "dialling, ended"
    OPEN = "open"
    NEAR_ENDED = "ended here"
    FAR_ENDED = "ended there"
    ENDED = "ended"
    CLOSING = "closing"
    LINGERING = "lingering"
    ABORTING = "aborting"
    REFUSED = "refused"
    OVER = "over"


class Input(Symbol):
    """What can happen to a channel; those without a word are the messages of that name."""

    CONNECTION_ACK = auto()
    CONNECTION_NACK = auto()
    SERVICE_BEGIN_REQUEST = auto()
    SERVICE_BEGIN_ACK = auto()
    SERVICE_BEGIN_NACK = auto()
    SERVICE_DATA = auto()
    LAST_DATA = auto()
    """SERVICE_DATA with flag 2 has come in full."""
    SERVICE_DATA_PAUSE = auto()
    SERVICE_DATA_RESUME = auto()
    SERVICE_FREE_REQUEST = auto()
    """Without code: orderly."""
    ABORT = auto()
    """SERVICE_FREE_REQUEST with a code."""
    SERVICE_FREE_ACK = auto()
    ERROR = auto()
    MISPLACED = auto()
    """A message that no channel has: it is in no row."""
    OWN_ANSWER = auto()
    """The destination is connected."""
    OWN_REFUSAL = auto()
    """It cannot be had."""
    OWN_DATA = auto()
    OWN_END = auto()
    """The near application has sent everything."""
    OWN_ABORT = auto()
    """Read or write error, or any other wish to reset."""
    SETTLED = auto()
    """Both directions have ended and the near application has taken everything. The side that was
    asked says so only once it has been asked to free the channel."""


class Action(Symbol):
    """What is done about it."""

    IGNORE = auto()
    NOTE_ADMITTED = auto()
    REPORT_REFUSAL = auto()
    REPORT_OPEN = auto()
    GIVE_BACK = auto()
    """Report the refusal, and free the channel with SERVICE_FREE_REQUEST."""
    REPORT_REQUEST = auto()
    """The layer above is asked for the destination."""
    TAKE_DATA = auto()
    """Has no method: data takes a way of its own, see `tunnelkit.core.lstp.receiver`."""
    NOTE_FAR_END = auto()
    """No more data comes: the application is told."""
    STOP_SENDING = auto()
    TAKE_GRANT = auto()
    NOTE_FREE = auto()
    """Answered at once if everything is taken, otherwise when it is."""
    ACKNOWLEDGE = auto()
    """Send SERVICE_FREE_ACK; an application that does not know of the end yet is told."""
    REPORT_ERROR = auto()
    RELEASE = auto()
    SEND_BEGIN_ACK = auto()
    SEND_BEGIN_NACK = auto()
    SEND_DATA = auto()
    """Has no method: see `tunnelkit.core.lstp.mux.LstpMux.frame_into`."""
    SEND_LAST = auto()
    SEND_FREE = auto()
    SEND_FREE_ACK = auto()
    SEND_ABORT = auto()
    SEND_ABORT_AND_ACK = auto()
    """The far side waits for the answer to its own request, too."""


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.REQUESTED, Input.CONNECTION_ACK): (Action.NOTE_ADMITTED, State.BEGINNING),
    (State.REQUESTED, Input.CONNECTION_NACK): (Action.REPORT_REFUSAL, State.OVER),
    (State.REQUESTED, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.REQUESTED, Input.OWN_DATA): (Action.SEND_DATA, State.REQUESTED),
    (State.REQUESTED, Input.OWN_END): (Action.SEND_LAST, State.REQUESTED_ENDED),
    (State.REQUESTED, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.REQUESTED_ENDED, Input.CONNECTION_ACK): (Action.NOTE_ADMITTED, State.BEGINNING_ENDED),
    (State.REQUESTED_ENDED, Input.CONNECTION_NACK): (Action.REPORT_REFUSAL, State.OVER),
    (State.REQUESTED_ENDED, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.REQUESTED_ENDED, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.BEGINNING, Input.SERVICE_BEGIN_ACK): (Action.REPORT_OPEN, State.OPEN),
    (State.BEGINNING, Input.SERVICE_BEGIN_NACK): (Action.GIVE_BACK, State.ABORTING),
    (State.BEGINNING, Input.SERVICE_DATA_PAUSE): (Action.STOP_SENDING, State.BEGINNING),
    (State.BEGINNING, Input.SERVICE_DATA_RESUME): (Action.TAKE_GRANT, State.BEGINNING),
    (State.BEGINNING, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.BEGINNING, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.BEGINNING, Input.OWN_DATA): (Action.SEND_DATA, State.BEGINNING),
    (State.BEGINNING, Input.OWN_END): (Action.SEND_LAST, State.BEGINNING_ENDED),
    (State.BEGINNING, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.BEGINNING_ENDED, Input.SERVICE_BEGIN_ACK): (Action.REPORT_OPEN, State.NEAR_ENDED),
    (State.BEGINNING_ENDED, Input.SERVICE_BEGIN_NACK): (Action.GIVE_BACK, State.ABORTING),
    (State.BEGINNING_ENDED, Input.SERVICE_DATA_PAUSE): (Action.STOP_SENDING, State.BEGINNING_ENDED),
    (State.BEGINNING_ENDED, Input.SERVICE_DATA_RESUME): (Action.TAKE_GRANT, State.BEGINNING_ENDED),
    (State.BEGINNING_ENDED, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.BEGINNING_ENDED, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.BEGINNING_ENDED, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.ADMITTED, Input.SERVICE_BEGIN_REQUEST): (Action.REPORT_REQUEST, State.DIALLING),
    (State.ADMITTED, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.ADMITTED, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.ADMITTED, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.DIALLING, Input.SERVICE_DATA): (Action.TAKE_DATA, State.DIALLING),
    (State.DIALLING, Input.LAST_DATA): (Action.NOTE_FAR_END, State.DIALLING_ENDED),
    (State.DIALLING, Input.SERVICE_DATA_PAUSE): (Action.STOP_SENDING, State.DIALLING),
    (State.DIALLING, Input.SERVICE_DATA_RESUME): (Action.TAKE_GRANT, State.DIALLING),
    (State.DIALLING, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.DIALLING, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.DIALLING, Input.OWN_ANSWER): (Action.SEND_BEGIN_ACK, State.OPEN),
    (State.DIALLING, Input.OWN_REFUSAL): (Action.SEND_BEGIN_NACK, State.REFUSED),
    (State.DIALLING_ENDED, Input.SERVICE_DATA_PAUSE): (Action.STOP_SENDING, State.DIALLING_ENDED),
    (State.DIALLING_ENDED, Input.SERVICE_DATA_RESUME): (Action.TAKE_GRANT, State.DIALLING_ENDED),
    (State.DIALLING_ENDED, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.DIALLING_ENDED, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.DIALLING_ENDED, Input.OWN_ANSWER): (Action.SEND_BEGIN_ACK, State.FAR_ENDED),
    (State.DIALLING_ENDED, Input.OWN_REFUSAL): (Action.SEND_BEGIN_NACK, State.REFUSED),
    (State.OPEN, Input.SERVICE_DATA): (Action.TAKE_DATA, State.OPEN),
    (State.OPEN, Input.LAST_DATA): (Action.NOTE_FAR_END, State.FAR_ENDED),
    (State.OPEN, Input.SERVICE_DATA_PAUSE): (Action.STOP_SENDING, State.OPEN),
    (State.OPEN, Input.SERVICE_DATA_RESUME): (Action.TAKE_GRANT, State.OPEN),
    (State.OPEN, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.OPEN, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.OPEN, Input.OWN_DATA): (Action.SEND_DATA, State.OPEN),
    (State.OPEN, Input.OWN_END): (Action.SEND_LAST, State.NEAR_ENDED),
    (State.OPEN, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.NEAR_ENDED, Input.SERVICE_DATA): (Action.TAKE_DATA, State.NEAR_ENDED),
    (State.NEAR_ENDED, Input.LAST_DATA): (Action.NOTE_FAR_END, State.ENDED),
    (State.NEAR_ENDED, Input.SERVICE_DATA_PAUSE): (Action.STOP_SENDING, State.NEAR_ENDED),
    (State.NEAR_ENDED, Input.SERVICE_DATA_RESUME): (Action.TAKE_GRANT, State.NEAR_ENDED),
    (State.NEAR_ENDED, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.NEAR_ENDED, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.NEAR_ENDED, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.FAR_ENDED, Input.SERVICE_DATA_PAUSE): (Action.STOP_SENDING, State.FAR_ENDED),
    (State.FAR_ENDED, Input.SERVICE_DATA_RESUME): (Action.TAKE_GRANT, State.FAR_ENDED),
    (State.FAR_ENDED, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.FAR_ENDED, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.FAR_ENDED, Input.OWN_DATA): (Action.SEND_DATA, State.FAR_ENDED),
    (State.FAR_ENDED, Input.OWN_END): (Action.SEND_LAST, State.ENDED),
    (State.FAR_ENDED, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.ENDED, Input.SERVICE_DATA_PAUSE): (Action.STOP_SENDING, State.ENDED),
    (State.ENDED, Input.SERVICE_DATA_RESUME): (Action.TAKE_GRANT, State.ENDED),
    (State.ENDED, Input.SERVICE_FREE_REQUEST): (Action.NOTE_FREE, State.LINGERING),
    (State.ENDED, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.ENDED, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.ENDED, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.ENDED, Input.SETTLED): (Action.SEND_FREE, State.CLOSING),
    (State.CLOSING, Input.SERVICE_DATA_PAUSE): (Action.IGNORE, State.CLOSING),
    (State.CLOSING, Input.SERVICE_DATA_RESUME): (Action.IGNORE, State.CLOSING),
    (State.CLOSING, Input.ABORT): (Action.ACKNOWLEDGE, State.ABORTING),
    (State.CLOSING, Input.SERVICE_FREE_ACK): (Action.RELEASE, State.OVER),
    (State.CLOSING, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.CLOSING, Input.OWN_ABORT): (Action.SEND_ABORT, State.ABORTING),
    (State.LINGERING, Input.SERVICE_DATA_PAUSE): (Action.IGNORE, State.LINGERING),
    (State.LINGERING, Input.SERVICE_DATA_RESUME): (Action.IGNORE, State.LINGERING),
    (State.LINGERING, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.LINGERING, Input.ERROR): (Action.REPORT_ERROR, State.OVER),
    (State.LINGERING, Input.OWN_ABORT): (Action.SEND_ABORT_AND_ACK, State.ABORTING),
    (State.LINGERING, Input.SETTLED): (Action.SEND_FREE_ACK, State.OVER),
    (State.ABORTING, Input.CONNECTION_NACK): (Action.RELEASE, State.OVER),
    (State.ABORTING, Input.SERVICE_FREE_REQUEST): (Action.ACKNOWLEDGE, State.ABORTING),
    (State.ABORTING, Input.ABORT): (Action.ACKNOWLEDGE, State.ABORTING),
    (State.ABORTING, Input.SERVICE_FREE_ACK): (Action.RELEASE, State.OVER),
    (State.ABORTING, Input.ERROR): (Action.RELEASE, State.OVER),
    (State.ABORTING, Input.OWN_ABORT): (Action.IGNORE, State.ABORTING),
    (State.REFUSED, Input.SERVICE_FREE_REQUEST): (Action.ACKNOWLEDGE, State.OVER),
    (State.REFUSED, Input.ABORT): (Action.ACKNOWLEDGE, State.OVER),
    (State.REFUSED, Input.ERROR): (Action.RELEASE, State.OVER),
    (State.REFUSED, Input.OWN_ABORT): (Action.IGNORE, State.REFUSED),
}
"""``{(state, input): (action, state after it)}``."""

DISCARDING = frozenset({State.ABORTING, State.REFUSED})
"""States in which every message is ignored that is not in the table: the other side may have sent
it before it knew, and there is nothing left to protect."""
SENDING = states_with(TABLE, Input.OWN_DATA)
"""States in which this side may put data on the channel."""
RECEIVING = states_with(TABLE, Input.SERVICE_DATA)
"""States in which data may come."""
UNCONNECTED = frozenset({State.REQUESTED, State.BEGINNING})
"""States in which what this side sends is early data."""
ASKED = states_with(TABLE, Input.OWN_ANSWER)
"""States in which this side has to answer."""
SETTLING = states_with(TABLE, Input.SETTLED)
"""States in which it matters that the application has taken everything."""


class LstpChannel(ChannelFlowControl):
    """State and offsets of one channel. Nothing in here knows which connection carries it."""

    __slots__ = (
        "datagrams",
        "id",
        "listens",
        "opener",
        "packer",
        "paused",
        "reported_end",
        "request",
        "requested_at",
        "state",
        "unpacker",
    )

    def __init__(
        self,
        number: int,
        state: State,
        near_window: int,
        far_window: int,
        budget: Budget,
    ) -> None:
        super().__init__(near_window, far_window, budget)
        self.id = number
        self.state = state
        self.opener = state is State.REQUESTED
        self.paused = False
        self.request: ConnectionRequest | None = None
        """What asked for it, until it has begun: the layer above does not know of it before."""
        self.reported_end = False
        """The layer above has had its ChannelEnded."""
        self.requested_at = 0.0
        self.datagrams: DatagramBody | None = None
        """None: it is a stream."""
        self.listens = False
        """The far side, or for a channel of the far side this one, listens for TCP over it."""
        self.packer: Packer | None = None
        """Made for the first data to be sent, where compression was agreed on."""
        self.unpacker: Unpacker | None = None
        """Made for the first compressed data that comes."""

    @property
    def may_send(self) -> bool:
        """Whether, the path aside, data may be sent now."""
        if self.paused or self.state not in SENDING:
            return False
        if self.state in UNCONNECTED and self.outbound.sent >= EARLY_DATA:
            return False
        return self.outbound.credit > 0

    def leads_to(self, destination: str) -> None:
        """What it was opened for: a stream, datagrams, or a listener."""
        if destination.startswith("udp:"):
            self.datagrams = DatagramBody.of(destination)
        else:
            self.listens = destination.startswith("listen:")
