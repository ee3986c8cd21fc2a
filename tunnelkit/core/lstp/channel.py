"""One LSTP channel: its states, the messages each of them allows, and its offsets.

`TABLE` is the sequencing of rows L3 and L5, read as: in this state, this
message leads to this action and that state. What is not in the table is a
protocol error that ends the channel, except in the states of `DISCARDING`,
which ignore it. The actions are methods of
`tunnelkit.core.lstp.actions.ChannelActions`.

        the side that asks (opener)                the side that is asked
        REQUESTED   CONNECTION_REQUEST sent        ADMITTED   ACK sent, not begun
        BEGINNING   ACK received, begin not yet    DIALLING   begun, being connected
                                   OPEN     both may send
        CLOSING     orderly FREE_REQUEST sent      LINGERING  it came; data still to be taken
                                   ABORTING FREE_REQUEST sent, reset: discards until FREE_ACK
                                                   REFUSED    BEGIN_NACK sent: discards until
                                                              FREE_REQUEST
"""

from __future__ import annotations

from enum import Enum

from tunnelkit.core.lstp.compression import Packer, Unpacker
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.datagram_body import DatagramBody
from tunnelkit.core.mux.flow_control import ChannelFlowControl
from tunnelkit.wire.lstp import ConnectionRequest
from tunnelkit.wire.lstp import MessageType as M


class State(Enum):
    """Where a channel is in its life, see the module's docstring."""

    REQUESTED = "requested"
    BEGINNING = "beginning"
    ADMITTED = "admitted"
    DIALLING = "dialling"
    OPEN = "open"
    CLOSING = "closing"
    LINGERING = "lingering"
    ABORTING = "aborting"
    REFUSED = "refused"
    OVER = "over"


TABLE: dict[tuple[State, M], tuple[str, State]] = {
    (State.REQUESTED, M.CONNECTION_ACK): ("admitted", State.BEGINNING),
    (State.REQUESTED, M.CONNECTION_NACK): ("not_admitted", State.OVER),
    (State.REQUESTED, M.ERROR): ("failed", State.OVER),
    (State.BEGINNING, M.SERVICE_BEGIN_ACK): ("begun", State.OPEN),
    (State.BEGINNING, M.SERVICE_BEGIN_NACK): ("not_begun", State.ABORTING),
    (State.BEGINNING, M.SERVICE_DATA_PAUSE): ("paused", State.BEGINNING),
    (State.BEGINNING, M.SERVICE_DATA_RESUME): ("resumed", State.BEGINNING),
    (State.BEGINNING, M.SERVICE_FREE_REQUEST): ("aborted", State.OVER),
    (State.BEGINNING, M.ERROR): ("failed", State.OVER),
    (State.ADMITTED, M.SERVICE_BEGIN_REQUEST): ("begin", State.DIALLING),
    (State.ADMITTED, M.SERVICE_FREE_REQUEST): ("aborted", State.OVER),
    (State.ADMITTED, M.ERROR): ("failed", State.OVER),
    (State.DIALLING, M.SERVICE_DATA): ("data", State.DIALLING),
    (State.DIALLING, M.SERVICE_DATA_PAUSE): ("paused", State.DIALLING),
    (State.DIALLING, M.SERVICE_DATA_RESUME): ("resumed", State.DIALLING),
    (State.DIALLING, M.SERVICE_FREE_REQUEST): ("aborted", State.OVER),
    (State.DIALLING, M.ERROR): ("failed", State.OVER),
    (State.OPEN, M.SERVICE_DATA): ("data", State.OPEN),
    (State.OPEN, M.SERVICE_DATA_PAUSE): ("paused", State.OPEN),
    (State.OPEN, M.SERVICE_DATA_RESUME): ("resumed", State.OPEN),
    (State.OPEN, M.SERVICE_FREE_REQUEST): ("free", State.LINGERING),
    (State.OPEN, M.ERROR): ("failed", State.OVER),
    (State.CLOSING, M.SERVICE_DATA_PAUSE): ("ignored", State.CLOSING),
    (State.CLOSING, M.SERVICE_DATA_RESUME): ("ignored", State.CLOSING),
    (State.CLOSING, M.SERVICE_FREE_REQUEST): ("crossed", State.ABORTING),
    (State.CLOSING, M.SERVICE_FREE_ACK): ("freed", State.OVER),
    (State.CLOSING, M.ERROR): ("failed", State.OVER),
    (State.LINGERING, M.SERVICE_DATA_PAUSE): ("ignored", State.LINGERING),
    (State.LINGERING, M.SERVICE_DATA_RESUME): ("ignored", State.LINGERING),
    (State.LINGERING, M.SERVICE_FREE_REQUEST): ("aborted", State.OVER),
    (State.LINGERING, M.ERROR): ("failed", State.OVER),
    (State.ABORTING, M.CONNECTION_NACK): ("freed", State.OVER),
    (State.ABORTING, M.SERVICE_FREE_REQUEST): ("crossed", State.ABORTING),
    (State.ABORTING, M.SERVICE_FREE_ACK): ("freed", State.OVER),
    (State.ABORTING, M.ERROR): ("freed", State.OVER),
    (State.REFUSED, M.SERVICE_FREE_REQUEST): ("refusal_seen", State.OVER),
    (State.REFUSED, M.ERROR): ("freed", State.OVER),
}
"""``{(state, message): (action, state after it)}``; an action may choose another end."""

DISCARDING = frozenset({State.ABORTING, State.REFUSED})
"""States in which everything is ignored that is not in the table: the other side may have sent it
before it knew, and there is nothing left to protect."""

SENDING = frozenset({State.REQUESTED, State.BEGINNING, State.OPEN})
"""States in which this side may put data on the channel."""


class LstpChannel(ChannelFlowControl):
    """State and offsets of one channel. Nothing in here knows which connection carries it."""

    __slots__ = (
        "datagrams",
        "far_finished",
        "id",
        "listens",
        "near_finished",
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
        opener: bool,
        near_window: int,
        far_window: int,
        budget: Budget,
    ) -> None:
        super().__init__(near_window, far_window, budget)
        self.id = number
        self.state = state
        self.opener = opener
        self.near_finished = False
        self.far_finished = False
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

    def leads_to(self, destination: str) -> None:
        """What it was opened for: a stream, datagrams, or a listener."""
        self.datagrams = DatagramBody.of(destination)
        self.listens = destination.startswith("listen:")
