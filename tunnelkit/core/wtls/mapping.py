"""One device on its way to a domain proxy: the states of a mapping (rows W4, W5, W7).

`TABLE` is read as: in this state, this input leads to this action and that state. DEVICE inputs
are datagrams of the device, TARGET ones, MAP_OK and END come from the domain proxy; the others are
times that have passed. Datagrams that are none of these are dropped before.

        ASKED     the device has been told to come again; the domain proxy has not answered MAP
        KNOWN     the same, and it has
        ARRIVED   the device has come; the domain proxy has not answered: only hellos pass
        TUNNEL    everything passes, unopened
        ENDING    END has come; it takes effect after a second without a word of the domain proxy
        CLOSED    over
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Where a mapping is in its life, see the module's docstring."""

    ASKED = "asked"
    KNOWN = "known"
    ARRIVED = "arrived"
    TUNNEL = "tunnel"
    ENDING = "ending"
    CLOSED = "closed"


class Input(Enum):
    """What can happen to a mapping."""

    DEVICE_HELLO = auto()
    DEVICE_RECORD = auto()
    TARGET_RECORD = auto()
    MAP_OK = auto()
    END = auto()
    UNANSWERED = auto()
    """MAP has been repeated often enough."""
    WAITED = auto()
    """The device has not come within the time that its request is stored."""
    SILENCE = auto()
    """The domain proxy has sent no DTLS for a second after END."""
    TTL = auto()


class Action(Enum):
    """What a `Gateway` does."""

    BEGIN = auto()
    """Forward the hello; the time to live runs."""
    FORWARD = auto()
    """To the domain proxy."""
    FORWARD_HELLO = auto()
    """The same, three a second."""
    DELIVER = auto()
    """To the device."""
    SERVE = auto()
    """It belongs to the association with this proxy."""
    NOTE_ANSWER = auto()
    AWAIT_SILENCE = auto()
    CONFIRM_END = auto()
    """Answer END_OK; the device is served here again."""
    GIVE_UP = auto()
    """The device's next request for a secure server gets 5.04."""
    FORGET = auto()
    DROP = auto()


_S, _I, _A = State, Input, Action

TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (_S.ASKED, _I.DEVICE_HELLO): (_A.BEGIN, _S.ARRIVED),
    (_S.ASKED, _I.DEVICE_RECORD): (_A.SERVE, _S.ASKED),
    (_S.ASKED, _I.TARGET_RECORD): (_A.DROP, _S.ASKED),
    (_S.ASKED, _I.MAP_OK): (_A.NOTE_ANSWER, _S.KNOWN),
    (_S.ASKED, _I.END): (_A.CONFIRM_END, _S.CLOSED),
    (_S.ASKED, _I.UNANSWERED): (_A.GIVE_UP, _S.CLOSED),
    (_S.ASKED, _I.WAITED): (_A.FORGET, _S.CLOSED),
    (_S.KNOWN, _I.DEVICE_HELLO): (_A.BEGIN, _S.TUNNEL),
    (_S.KNOWN, _I.DEVICE_RECORD): (_A.SERVE, _S.KNOWN),
    (_S.KNOWN, _I.TARGET_RECORD): (_A.DROP, _S.KNOWN),
    (_S.KNOWN, _I.MAP_OK): (_A.NOTE_ANSWER, _S.KNOWN),
    (_S.KNOWN, _I.END): (_A.CONFIRM_END, _S.CLOSED),
    (_S.KNOWN, _I.WAITED): (_A.FORGET, _S.CLOSED),
    (_S.ARRIVED, _I.DEVICE_HELLO): (_A.FORWARD_HELLO, _S.ARRIVED),
    (_S.ARRIVED, _I.DEVICE_RECORD): (_A.DROP, _S.ARRIVED),
    (_S.ARRIVED, _I.TARGET_RECORD): (_A.DELIVER, _S.ARRIVED),
    (_S.ARRIVED, _I.MAP_OK): (_A.NOTE_ANSWER, _S.TUNNEL),
    (_S.ARRIVED, _I.END): (_A.CONFIRM_END, _S.CLOSED),
    (_S.ARRIVED, _I.UNANSWERED): (_A.GIVE_UP, _S.CLOSED),
    (_S.ARRIVED, _I.TTL): (_A.FORGET, _S.CLOSED),
    (_S.TUNNEL, _I.DEVICE_HELLO): (_A.FORWARD, _S.TUNNEL),
    (_S.TUNNEL, _I.DEVICE_RECORD): (_A.FORWARD, _S.TUNNEL),
    (_S.TUNNEL, _I.TARGET_RECORD): (_A.DELIVER, _S.TUNNEL),
    (_S.TUNNEL, _I.MAP_OK): (_A.NOTE_ANSWER, _S.TUNNEL),
    (_S.TUNNEL, _I.END): (_A.AWAIT_SILENCE, _S.ENDING),
    (_S.TUNNEL, _I.TTL): (_A.FORGET, _S.CLOSED),
    (_S.ENDING, _I.DEVICE_HELLO): (_A.FORWARD, _S.ENDING),
    (_S.ENDING, _I.DEVICE_RECORD): (_A.FORWARD, _S.ENDING),
    (_S.ENDING, _I.TARGET_RECORD): (_A.DELIVER, _S.TUNNEL),
    (_S.ENDING, _I.MAP_OK): (_A.NOTE_ANSWER, _S.ENDING),
    (_S.ENDING, _I.END): (_A.AWAIT_SILENCE, _S.ENDING),
    (_S.ENDING, _I.SILENCE): (_A.CONFIRM_END, _S.CLOSED),
    (_S.ENDING, _I.TTL): (_A.FORGET, _S.CLOSED),
}

REPEATS = (0.5, 1.0, 2.0, 4.0)
"""Seconds after the first MAP at which it is repeated until it is answered."""
GIVE_UP_AFTER = 8.0
"""Seconds after the first MAP."""
REFRESH = 15.0
"""Seconds between MAPs once one has been answered."""
STORED_FOR = 60.0
"""Seconds that a device has to come again."""
SILENCE = 1.0
"""Seconds without DTLS from the domain proxy after which END takes effect."""
BUSY = 5.0
"""A mapping with data in the last so many seconds is prolonged, once."""
DECIDED_BEFORE = 4.0
"""Seconds before the end at which that is decided: the domain proxy begins to end 2 s before."""
HELLOS_A_SECOND = 3.0


class Mapping:
    """What a `Gateway` knows of one device on its way."""

    __slots__ = (
        "answered_at", "asked_at", "began_at", "by_name", "bytes_from_device", "bytes_to_device",
        "cookie", "device", "ends_at", "hellos", "hellos_at", "key", "last_data", "last_target",
        "next_map", "prolonged", "proven", "repeat", "state", "stored_at", "target", "token",
    )  # fmt: skip

    def __init__(
        self,
        device: tuple[str, int],
        target: tuple[str, int],
        key: bytes,
        token: bytes,
        now: float,
    ) -> None:
        self.device = device
        self.target = target
        self.key = key
        """The map key of the domain proxy when it began."""
        self.token = token
        self.state = State.ASKED
        self.stored_at = self.asked_at = now
        self.repeat = 0
        """MAPs sent since the last answer."""
        self.next_map = now
        self.answered_at: float | None = None
        self.began_at: float | None = None
        """When the first hello was forwarded."""
        self.ends_at = now + STORED_FOR
        self.prolonged = False
        self.last_data = self.last_target = now
        self.hellos = HELLOS_A_SECOND
        """Hellos that may be forwarded now, before the domain proxy has answered."""
        self.hellos_at = now
        self.by_name = False
        """It came by a server name, not after a 5.03."""
        self.proven = True
        """Whether the device is known to get what is sent to its address."""
        self.cookie = b""
        """The last that the domain proxy asked the device to show."""
        self.bytes_from_device = 0
        self.bytes_to_device = 0

    def may_forward_hello(self, now: float) -> bool:
        """Count one more hello; False if it is one too many."""
        passed = (now - self.hellos_at) * HELLOS_A_SECOND
        self.hellos = min(HELLOS_A_SECOND, self.hellos + passed)
        self.hellos_at = now
        if self.hellos < 1:
            return False
        self.hellos -= 1
        return True

    @property
    def due(self) -> float:
        """When something has to be done next."""
        if self.state is State.ENDING:
            return min(self.ends_at, self.last_target + SILENCE)
        return min(self.ends_at, self.next_map, self.decision_at)

    @property
    def decision_at(self) -> float:
        """When it is decided whether the mapping is prolonged; never, if it has been or cannot."""
        if self.began_at is None or self.prolonged:
            return self.ends_at
        return self.ends_at - min(DECIDED_BEFORE, (self.ends_at - self.began_at) / 2)
