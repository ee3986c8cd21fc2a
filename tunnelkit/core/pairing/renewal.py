"""Renewing the keys of two paired ends, on a channel between them (row Q2)::

    who asks                            the other
      | --- RENEW {asks} -------------->|     keeps that key beside the old one
      |<---------------- RENEW -------- |     keeps the other's likewise
      | --- KEPT {in_force} ----------->|     has that key in force, if everybody knows it
      |<---------------- KEPT --------- |     the same

    who tells                           the other
      | --- RENEW --------------------->|
      |<---------------- KEPT --------- |

In force is a key once it is in the file of its end; only then the other forgets the old one.
"""

from __future__ import annotations

from enum import Enum, auto

from tunnelkit.core.pairing.talk import Grammar, Talk
from tunnelkit.wire.pairing import Refuse
from tunnelkit.wire.renewal import MESSAGES, Kept, Message, Renew


class State(Enum):
    """Where one side is."""

    BEGINNING = "not begun"
    ASKING = "waiting for the other end's new key"
    TELLING = "waiting for the other end to keep the key"
    LISTENING = "waiting for what is wanted"
    JUDGING = "looking at the other end's key"
    ANSWERING = "looking at what the other end wants"
    AWAITING = "waiting for the other end to keep its word"
    CONFIRMING = "waiting for the other end to keep the key that it asked for"
    CONCLUDING = "putting the key in force"
    DONE = "done"
    ENDED = "ended"


class Input(Enum):
    """What may come, and what this side may wish."""

    RENEW = auto()
    KEPT = auto()
    REFUSE = auto()
    ASK = auto()
    """Here: tell the new key, and have the other end's."""
    TELL = auto()
    """Here: tell the new key."""
    RENEW_TOO = auto()
    """Here: the other end's key is kept, and this is the new one."""
    KEEP = auto()
    """Here: the other end's key is kept."""
    DECLINE = auto()
    """Here: it is not."""


class Action(Enum):
    """What is done about it."""

    SEND = auto()
    TAKE_KEY = auto()
    NOTE = auto()
    """The other end knows this end's key."""
    REPORT = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.BEGINNING, Input.ASK): (Action.SEND, State.ASKING),
    (State.BEGINNING, Input.TELL): (Action.SEND, State.TELLING),
    (State.ASKING, Input.RENEW): (Action.TAKE_KEY, State.JUDGING),
    (State.ASKING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.TELLING, Input.KEPT): (Action.NOTE, State.DONE),
    (State.TELLING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.LISTENING, Input.RENEW): (Action.TAKE_KEY, State.ANSWERING),
    (State.LISTENING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.JUDGING, Input.KEEP): (Action.SEND, State.AWAITING),
    (State.JUDGING, Input.DECLINE): (Action.SEND, State.ENDED),
    (State.JUDGING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.ANSWERING, Input.KEEP): (Action.SEND, State.DONE),
    (State.ANSWERING, Input.RENEW_TOO): (Action.SEND, State.CONFIRMING),
    (State.ANSWERING, Input.DECLINE): (Action.SEND, State.ENDED),
    (State.ANSWERING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.AWAITING, Input.KEPT): (Action.NOTE, State.DONE),
    (State.AWAITING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.CONFIRMING, Input.KEPT): (Action.NOTE, State.CONCLUDING),
    (State.CONFIRMING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.CONCLUDING, Input.KEEP): (Action.SEND, State.DONE),
    (State.CONCLUDING, Input.REFUSE): (Action.REPORT, State.ENDED),
}
"""Who opens the channel begins in BEGINNING, the other in LISTENING."""

_GRAMMAR: Grammar[Message, State, Input, Action] = Grammar(
    TABLE,
    {Renew: Input.RENEW, Kept: Input.KEPT, Refuse: Input.REFUSE},
    MESSAGES,
    State.DONE,
    State.ENDED,
)

Renewal = Talk[Message, State, Input, Action]


def renewal(opens: bool, now: float) -> Renewal:
    """One side of a renewal; ``opens``: the channel is this end's."""
    start = State.BEGINNING if opens else State.LISTENING
    return Talk(_GRAMMAR, start, "this renewal", now)
