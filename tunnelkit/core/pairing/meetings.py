"""Counting how often two paired ends have met, so that a copied identity shows (row Q2)::

    the end with the lower key          the other
      | --- MET {last, coming} -------->|     both compare what they know
      |<---------------- MET ---------- |
      | --- NEXT {number, mark} ------->|     writes it down
      |<---------------- NOTED -------- |
    writes it down

Who names the next meeting has written down before that it is coming: so whenever one of the two
stops, what the other knows is one of the counts that this one has.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

import attrs

from tunnelkit.core.pairing.talk import Grammar, Talk
from tunnelkit.wire.meetings import MAX_COMING, MESSAGES, Count, Message, Met, Next, Noted
from tunnelkit.wire.pairing import Refuse


class State(Enum):
    """Where one side is."""

    BEGINNING = "not begun"
    ASKING = "waiting for what the other end knows"
    LISTENING = "waiting for what it knows"
    NAMING = "about to name the meeting"
    ANSWERING = "about to say what it knows"
    AWAITING = "waiting for the name of the meeting"
    NOTING = "writing it down"
    CONFIRMING = "waiting for the other end to write it down"
    DONE = "done"
    ENDED = "ended"


class Input(Enum):
    """What may come, and what this side may wish."""

    MET = auto()
    NEXT = auto()
    NOTED = auto()
    REFUSE = auto()
    TELL = auto()
    """Here: what is known."""
    NAME = auto()
    """Here: what this meeting is."""
    NOTE = auto()
    """Here: it is written down."""
    DECLINE = auto()
    """Here: it is not counted."""


class Action(Enum):
    """What is done about it."""

    SEND = auto()
    COMPARE = auto()
    WRITE = auto()
    REPORT = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.BEGINNING, Input.TELL): (Action.SEND, State.ASKING),
    (State.ASKING, Input.MET): (Action.COMPARE, State.NAMING),
    (State.ASKING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.NAMING, Input.NAME): (Action.SEND, State.CONFIRMING),
    (State.NAMING, Input.DECLINE): (Action.SEND, State.ENDED),
    (State.NAMING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.LISTENING, Input.MET): (Action.COMPARE, State.ANSWERING),
    (State.LISTENING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.ANSWERING, Input.TELL): (Action.SEND, State.AWAITING),
    (State.ANSWERING, Input.DECLINE): (Action.SEND, State.ENDED),
    (State.ANSWERING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.AWAITING, Input.NEXT): (Action.WRITE, State.NOTING),
    (State.AWAITING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.NOTING, Input.NOTE): (Action.SEND, State.DONE),
    (State.NOTING, Input.DECLINE): (Action.SEND, State.ENDED),
    (State.NOTING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.CONFIRMING, Input.NOTED): (Action.WRITE, State.DONE),
    (State.CONFIRMING, Input.REFUSE): (Action.REPORT, State.ENDED),
}
"""Who opens the channel begins in BEGINNING, the other in LISTENING."""

_GRAMMAR: Grammar[Message, State, Input, Action] = Grammar(
    TABLE,
    {Met: Input.MET, Next: Input.NEXT, Noted: Input.NOTED, Refuse: Input.REFUSE},
    MESSAGES,
    State.DONE,
    State.ENDED,
)

Counting = Talk[Message, State, Input, Action]


def counting(opens: bool, now: float) -> Counting:
    """One side of the counting of one meeting; ``opens``: the channel is this end's."""
    start = State.BEGINNING if opens else State.LISTENING
    return Talk(_GRAMMAR, start, "this count", now)


NONE = Count()


@attrs.frozen
class Known:
    """What one end knows of its meetings with another."""

    last: Count = NONE
    coming: tuple[Count, ...] = ()
    """Named since, and perhaps noted by the other end."""

    @property
    def all(self) -> tuple[Count, ...]:
        """The last one is one of these."""
        return (self.last, *self.coming)

    def naming(self, count: Count, told: Count) -> Known:
        """``count`` is named to the other end, whose last one is ``told``."""
        if told in self.all:
            place = self.all.index(told)
            last, *coming = self.all[place:]
        else:
            last, *coming = self.all
        # The other end has none of the older ones: it has told one from before them.
        return Known(last, (*coming, count)[-MAX_COMING:])


class Verdict(Enum):
    """Whose meetings the other end does not know of."""

    SAME = auto()
    """Nobody's."""
    THIS = auto()
    """This end's files lag behind: it has met the other as somebody else, or from other files."""
    OTHER = auto()
    """The other end's do."""
    EITHER = auto()
    """Both have met somebody as the other."""


def compare(own: Known, other: Known) -> Verdict:
    """What it shows that ``own`` is known here and ``other`` there."""
    if not set(own.all).isdisjoint(other.all):
        return Verdict.SAME
    if own.last.number == other.last.number:
        return Verdict.EITHER
    return Verdict.THIS if own.last.number < other.last.number else Verdict.OTHER


def number_after(counts: Iterable[Count]) -> int:
    """Of the next meeting, where these are known."""
    return max(count.number for count in counts) + 1
