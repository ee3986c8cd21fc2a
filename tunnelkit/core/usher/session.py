"""One Usher session: its states (FIG. 7 of the seed, its gaps filled) and its offsets.

`TABLE` is read as: in this state, this input leads to this action and that
state. Inputs that begin with OWN, and SETTLED, come from this side; the others
are records, and one that the table does not have breaks the protocol and ends
the tunnel. The actions are methods of `tunnelkit.core.usher.actions.SessionActions`.

An open is answered by a reply or UsherEnd. What else comes for a pending session
was sent for an earlier one of the same id, before the far side knew of its end: it
may cost the session, but must not leave the two ends with different ideas of the id.

        PENDING         open sent, no reply yet
        PENDING_ENDED   the same, and the application has nothing more to send
        ABANDONED       over for the application, but the reply is still to come: the id is not free
        DIALLING        open received, not answered yet
        DIALLING_ENDED  the same, and early data has ended (only `usher/1.1` has it)
        ACTIVE          both may send
        WRITER_ACTIVE   this side has ended, its writer goes on
        SESSION_ACTIVE  the far side has ended, this one may send
        INACTIVE        both have ended; not everything is acknowledged
        DATAGRAMS       opened by the far side for UDP: an id, and nothing more
        FREE            over; the id may be used again
        RESET           over; the id may be used again 30 s later
"""

from __future__ import annotations

from enum import auto

from tunnelkit.core.mux.credit import Budget, Inbound
from tunnelkit.core.mux.flow_control import ChannelFlowControl
from tunnelkit.core.table import Symbol, states_with
from tunnelkit.wire.usher import MAX_ACK


class State(Symbol):
    """Where a session is in its life, see the module's docstring."""

    PENDING = "pending"
    PENDING_ENDED = "pending, ended"
    ABANDONED = "abandoned"
    DIALLING = "dialling"
    DIALLING_ENDED = "dialling, ended"
    ACTIVE = "active"
    WRITER_ACTIVE = "writer-active"
    SESSION_ACTIVE = "session-active"
    INACTIVE = "inactive"
    DATAGRAMS = "datagrams"
    FREE = "free"
    RESET = "reset"


class Input(Symbol):
    """What can happen to a session."""

    REPLY = auto()
    """UsherOpenReply with RC > 0."""
    REFUSAL = auto()
    """UsherOpenReply with RC -1."""
    SEND = auto()
    ACK = auto()
    """UsherAck, in `usher/1.1` UsherCredit."""
    CLOSE_READ = auto()
    CLOSE_WRITE = auto()
    CLOSE_BOTH = auto()
    RST = auto()
    END = auto()
    OWN_REPLY = auto()
    OWN_REFUSAL = auto()
    OWN_EOF = auto()
    """The near application has sent everything."""
    OWN_ABORT = auto()
    """Read or write error, or any other wish to reset."""
    SETTLED = auto()
    """Everything sent in both directions has been taken and acknowledged."""


class Action(Symbol):
    """What is done about it."""

    IGNORE = auto()
    ESTABLISH = auto()
    """Learn the far id; the session is open."""
    REPORT_REFUSAL = auto()
    TAKE_DATA = auto()
    TAKE_ACK = auto()
    NOTE_FAR_END = auto()
    """No more data comes: the application is told."""
    STOP_SENDING = auto()
    """Answer CLOSE WRITE by CLOSE READ; the application is read no more."""
    END_OWN = auto()
    """Send CLOSE READ; behind the reply where that has to be awaited."""
    GIVE_UP = auto()
    """`usher/1`: nothing may be sent before the reply. `usher/1.1`: send UsherRST, go to RESET."""
    SEND_REPLY = auto()
    SEND_REFUSAL = auto()
    SEND_RST = auto()
    SEND_LATE_RST = auto()
    """Reset what was opened for somebody who is gone."""
    END_SESSION = auto()
    CONFIRM_END = auto()
    """Send UsherRST too. The far side ignores it, unless what came was a late record for an earlier
    session of this id: then both ends agree again."""
    RELEASE = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.PENDING, Input.REPLY): (Action.ESTABLISH, State.ACTIVE),
    (State.PENDING, Input.REFUSAL): (Action.REPORT_REFUSAL, State.FREE),
    (State.PENDING, Input.CLOSE_WRITE): (Action.IGNORE, State.PENDING),
    (State.PENDING, Input.CLOSE_BOTH): (Action.END_SESSION, State.ABANDONED),
    (State.PENDING, Input.RST): (Action.END_SESSION, State.ABANDONED),
    (State.PENDING, Input.END): (Action.END_SESSION, State.RESET),
    (State.PENDING, Input.OWN_EOF): (Action.END_OWN, State.PENDING_ENDED),
    (State.PENDING, Input.OWN_ABORT): (Action.GIVE_UP, State.ABANDONED),
    (State.PENDING_ENDED, Input.REPLY): (Action.ESTABLISH, State.WRITER_ACTIVE),
    (State.PENDING_ENDED, Input.REFUSAL): (Action.REPORT_REFUSAL, State.FREE),
    (State.PENDING_ENDED, Input.CLOSE_WRITE): (Action.IGNORE, State.PENDING_ENDED),
    (State.PENDING_ENDED, Input.CLOSE_BOTH): (Action.END_SESSION, State.ABANDONED),
    (State.PENDING_ENDED, Input.RST): (Action.END_SESSION, State.ABANDONED),
    (State.PENDING_ENDED, Input.END): (Action.END_SESSION, State.RESET),
    (State.PENDING_ENDED, Input.OWN_ABORT): (Action.GIVE_UP, State.ABANDONED),
    (State.ABANDONED, Input.REPLY): (Action.SEND_LATE_RST, State.RESET),
    (State.ABANDONED, Input.REFUSAL): (Action.RELEASE, State.FREE),
    (State.ABANDONED, Input.CLOSE_WRITE): (Action.IGNORE, State.ABANDONED),
    (State.ABANDONED, Input.CLOSE_BOTH): (Action.IGNORE, State.ABANDONED),
    (State.ABANDONED, Input.RST): (Action.IGNORE, State.ABANDONED),
    (State.ABANDONED, Input.END): (Action.END_SESSION, State.RESET),
    (State.DIALLING, Input.OWN_REPLY): (Action.SEND_REPLY, State.ACTIVE),
    (State.DIALLING, Input.OWN_REFUSAL): (Action.SEND_REFUSAL, State.FREE),
    (State.DIALLING, Input.SEND): (Action.TAKE_DATA, State.DIALLING),
    (State.DIALLING, Input.CLOSE_READ): (Action.NOTE_FAR_END, State.DIALLING_ENDED),
    (State.DIALLING, Input.CLOSE_BOTH): (Action.END_SESSION, State.RESET),
    (State.DIALLING, Input.RST): (Action.END_SESSION, State.RESET),
    (State.DIALLING, Input.END): (Action.END_SESSION, State.RESET),
    (State.DIALLING_ENDED, Input.OWN_REPLY): (Action.SEND_REPLY, State.SESSION_ACTIVE),
    (State.DIALLING_ENDED, Input.OWN_REFUSAL): (Action.SEND_REFUSAL, State.FREE),
    (State.DIALLING_ENDED, Input.CLOSE_BOTH): (Action.END_SESSION, State.RESET),
    (State.DIALLING_ENDED, Input.RST): (Action.END_SESSION, State.RESET),
    (State.DIALLING_ENDED, Input.END): (Action.END_SESSION, State.RESET),
    (State.ACTIVE, Input.SEND): (Action.TAKE_DATA, State.ACTIVE),
    (State.ACTIVE, Input.ACK): (Action.TAKE_ACK, State.ACTIVE),
    (State.ACTIVE, Input.OWN_EOF): (Action.END_OWN, State.WRITER_ACTIVE),
    (State.ACTIVE, Input.CLOSE_READ): (Action.NOTE_FAR_END, State.SESSION_ACTIVE),
    (State.ACTIVE, Input.CLOSE_WRITE): (Action.STOP_SENDING, State.WRITER_ACTIVE),
    (State.ACTIVE, Input.CLOSE_BOTH): (Action.CONFIRM_END, State.RESET),
    (State.ACTIVE, Input.RST): (Action.CONFIRM_END, State.RESET),
    (State.ACTIVE, Input.END): (Action.CONFIRM_END, State.RESET),
    (State.ACTIVE, Input.OWN_ABORT): (Action.SEND_RST, State.RESET),
    (State.WRITER_ACTIVE, Input.SEND): (Action.TAKE_DATA, State.WRITER_ACTIVE),
    (State.WRITER_ACTIVE, Input.ACK): (Action.TAKE_ACK, State.WRITER_ACTIVE),
    (State.WRITER_ACTIVE, Input.CLOSE_READ): (Action.NOTE_FAR_END, State.INACTIVE),
    (State.WRITER_ACTIVE, Input.CLOSE_WRITE): (Action.IGNORE, State.WRITER_ACTIVE),
    (State.WRITER_ACTIVE, Input.CLOSE_BOTH): (Action.CONFIRM_END, State.RESET),
    (State.WRITER_ACTIVE, Input.RST): (Action.CONFIRM_END, State.RESET),
    (State.WRITER_ACTIVE, Input.END): (Action.CONFIRM_END, State.RESET),
    (State.WRITER_ACTIVE, Input.OWN_ABORT): (Action.SEND_RST, State.RESET),
    (State.SESSION_ACTIVE, Input.ACK): (Action.TAKE_ACK, State.SESSION_ACTIVE),
    (State.SESSION_ACTIVE, Input.OWN_EOF): (Action.END_OWN, State.INACTIVE),
    (State.SESSION_ACTIVE, Input.CLOSE_WRITE): (Action.STOP_SENDING, State.INACTIVE),
    (State.SESSION_ACTIVE, Input.CLOSE_BOTH): (Action.CONFIRM_END, State.RESET),
    (State.SESSION_ACTIVE, Input.RST): (Action.CONFIRM_END, State.RESET),
    (State.SESSION_ACTIVE, Input.END): (Action.CONFIRM_END, State.RESET),
    (State.SESSION_ACTIVE, Input.OWN_ABORT): (Action.SEND_RST, State.RESET),
    (State.INACTIVE, Input.ACK): (Action.TAKE_ACK, State.INACTIVE),
    (State.INACTIVE, Input.CLOSE_WRITE): (Action.IGNORE, State.INACTIVE),
    (State.INACTIVE, Input.CLOSE_BOTH): (Action.CONFIRM_END, State.RESET),
    (State.INACTIVE, Input.RST): (Action.CONFIRM_END, State.RESET),
    (State.INACTIVE, Input.END): (Action.CONFIRM_END, State.RESET),
    (State.INACTIVE, Input.OWN_ABORT): (Action.SEND_RST, State.RESET),
    (State.INACTIVE, Input.SETTLED): (Action.RELEASE, State.FREE),
    (State.DATAGRAMS, Input.CLOSE_READ): (Action.RELEASE, State.FREE),
    (State.DATAGRAMS, Input.CLOSE_WRITE): (Action.RELEASE, State.FREE),
    (State.DATAGRAMS, Input.CLOSE_BOTH): (Action.RELEASE, State.FREE),
    (State.DATAGRAMS, Input.RST): (Action.CONFIRM_END, State.RESET),
    (State.DATAGRAMS, Input.END): (Action.CONFIRM_END, State.RESET),
}
"""``{(state, input): (action, state after it)}``; only GIVE_UP may choose another one."""

ASKED = frozenset({State.DIALLING, State.DIALLING_ENDED})
"""Opened by the far side, which does not know this side's id yet."""
OPEN_TO_SEND = frozenset({State.ACTIVE, State.SESSION_ACTIVE})
RECEIVING = states_with(TABLE, Input.SEND)
ESTABLISHED = RECEIVING - ASKED
"""Receiving, and both sides know each other's id."""
FAR_ENDED = frozenset({State.SESSION_ACTIVE, State.INACTIVE})


class FixedInbound(Inbound):
    """The receiving direction under `usher/1`: the window is what the protocol says, always.

    It is told every 64 KiB, which one UsherAck can say, rather than in quarters: with
    less than a quarter in flight the sender would wait for a timer.
    """

    __slots__ = ()

    def consumed(self, size: int) -> bool:
        """See `Inbound.consumed`."""
        super().consumed(size)
        return self.unreported >= MAX_ACK

    def report(self) -> tuple[int, int]:
        """See `Inbound.report`; the sender works the limit out by itself."""
        self.reported = self.taken
        self.limit = self.taken + self.window
        return self.taken, self.limit


class Session(ChannelFlowControl):
    """State, names and offsets of one session."""

    __slots__ = ("far_id", "for_datagrams", "id", "opener", "reported_end", "state")

    def __init__(
        self,
        number: int,
        far_id: int,
        state: State,
        near_window: int,
        far_window: int,
        budget: Budget,
        *,
        fixed: bool,
    ) -> None:
        super().__init__(near_window, far_window, budget)
        if fixed:
            self.inbound = FixedInbound(near_window, budget)
        self.id = number
        """This side's id, which is also the channel number of the layer above."""
        self.far_id = far_id
        """SESSION of what is sent. While the reply is awaited: 0, which nothing is sent with, or in
        `usher/1.1` this side's id, negated."""
        self.opener = state is State.PENDING
        self.state = state
        self.for_datagrams = state is State.DATAGRAMS
        self.reported_end = self.for_datagrams
        """The layer above has had its ChannelEnded, or never heard of the session."""
