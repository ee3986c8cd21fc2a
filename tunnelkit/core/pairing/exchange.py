"""What two ends say to each other to be paired by a one-time code (row Q2), sans-IO::

    joiner                              inside
      |<---------------- PAKE {nonce} --- |
      | --- PAKE {nonce, share} --------->|
      |<- PAKE {nonce, share}, CONFIRM -- |     the joiner checks the proof
      | --- CONFIRM, OFFER -------------->|     the inside checks the proof, then decides
      |<---------------- OFFER ---------- |     the joiner decides
      | --- ACCEPT ---------------------->|     the inside keeps what was offered
      |<---------------- ACCEPT --------- |     the joiner does

All of it inside one TLS connection between throw-away certificates, which by themselves prove
nothing: `channel`, exported from that connection, is part of what each side proves, so
somebody in between who has two connections fails as if he had the wrong code.

Send ``data_to_send()`` after making an `Exchange` and after every call. A rule that is broken
raises `RemoteProtocolError`: send ``data_to_send()``, then close.
"""

from __future__ import annotations

import secrets
from enum import Enum, auto

import attrs

from tunnelkit.core.pairing import pake
from tunnelkit.core.pairing.pake import WrongCode
from tunnelkit.core.table import local_step, step
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.pairing import (
    INSIDE,
    JOINER,
    VERSION,
    Accept,
    Confirm,
    Message,
    Offer,
    Pake,
    Refuse,
    check_header,
    decode,
    encode,
)

STEP_LIMIT = 10.0
"""Seconds for what the other end's program answers by itself."""
DECISION_LIMIT = 120.0
"""Seconds for what its user is asked."""
MAX_BYTES = 65536
MAX_MESSAGES = 8

NO_MATCH = "the code did not match: a typing error, or somebody tried; 1 attempt, and it is used up"


class State(Enum):
    """Where one side is."""

    GREETING = "waiting for who is inside"
    SHARING = "waiting for the other half of the key exchange"
    CONFIRMING = "waiting for the proof"
    OFFERING = "waiting for the offer"
    DECIDING = "asking here"
    AWAITING = "waiting for the other end's agreement"
    DONE = "done"
    ENDED = "ended"


class Input(Enum):
    """What may come, and what this side may wish."""

    PAKE = auto()
    CONFIRM = auto()
    OFFER = auto()
    ACCEPT = auto()
    REFUSE = auto()
    AGREE = auto()
    """Here: the offer is good."""
    DECLINE = auto()
    """Here: it is not."""


class Action(Enum):
    """What is done about it."""

    SEND_SHARE = auto()
    TAKE_SHARE = auto()
    CHECK_PROOF = auto()
    TAKE_OFFER = auto()
    SEND_AGREEMENT = auto()
    FINISH = auto()
    REPORT = auto()
    SEND_REFUSAL = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.GREETING, Input.PAKE): (Action.SEND_SHARE, State.SHARING),
    (State.GREETING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.SHARING, Input.PAKE): (Action.TAKE_SHARE, State.CONFIRMING),
    (State.SHARING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.CONFIRMING, Input.CONFIRM): (Action.CHECK_PROOF, State.OFFERING),
    (State.CONFIRMING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.OFFERING, Input.OFFER): (Action.TAKE_OFFER, State.DECIDING),
    (State.OFFERING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.DECIDING, Input.AGREE): (Action.SEND_AGREEMENT, State.AWAITING),
    (State.DECIDING, Input.DECLINE): (Action.SEND_REFUSAL, State.ENDED),
    (State.DECIDING, Input.REFUSE): (Action.REPORT, State.ENDED),
    (State.AWAITING, Input.ACCEPT): (Action.FINISH, State.DONE),
    (State.AWAITING, Input.REFUSE): (Action.REPORT, State.ENDED),
}
"""The inside begins in SHARING, the joiner in GREETING."""

_INPUTS: dict[type[Message], Input] = {
    Pake: Input.PAKE,
    Confirm: Input.CONFIRM,
    Offer: Input.OFFER,
    Accept: Input.ACCEPT,
    Refuse: Input.REFUSE,
}


@attrs.frozen
class Offered:
    """The other end has proved that it knows the code, and offers this: `agree` or `decline`.

    Its certificate has not been looked at; ``pin`` is the key that it must have.
    """

    offer: Offer
    pin: str
    """``sha256:`` and 64 hex digits."""


@attrs.frozen
class Paired:
    """Both have agreed."""


@attrs.frozen
class Failed:
    """It is over, and the code with it if ``tried`` says so."""

    code: Code
    reason: str


Event = Offered | Paired | Failed


@attrs.frozen
class Party:
    """What one side brings."""

    role: str
    """``inside`` or ``joiner``."""
    offer: Offer
    pin: str
    """Of the offer's certificate: ``sha256:`` and 64 hex digits."""


class Exchange:
    """One side of one pairing."""

    def __init__(self, party: Party, secret: bytes, channel: bytes, now: float) -> None:
        """``channel``: 32 bytes that TLS exports for this connection, the same at both ends."""
        self._party = party
        self._secret = secret
        self._channel = channel
        self._nonce = secrets.token_bytes(16)
        self._pake: pake.Pake | None = None
        self._other: Pake | None = None
        self._reader = FrameReader(check_header, MAX_BYTES, MAX_MESSAGES)
        self._outbound = bytearray()
        self._deadline: float | None = now + STEP_LIMIT
        self.tried = False
        """Whether somebody has had his try: all of his half of the key exchange has come, so that
        the inside's proof, by which he can tell whether he has guessed right, goes to him."""
        self.state = State.GREETING if party.role == JOINER else State.SHARING
        if party.role == INSIDE:
            self._send(self._own_half(None))

    def data_to_send(self) -> bytes:
        """What has to go out now; empties the queue."""
        data, self._outbound = bytes(self._outbound), bytearray()
        return data

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called; None once finished."""
        return self._deadline

    def deadline_passed(self, now: float) -> list[Event]:
        """`Failed` with TIMED_OUT if what is waited for has not come."""
        if self._deadline is None or now < self._deadline:
            return []
        reason = f"the other end did not go on: {self.state.value}"
        self._refuse(Code.TIMED_OUT, reason)
        return [Failed(Code.TIMED_OUT, reason)]

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> list[Event]:
        """Take bytes as they come, cut anywhere. Raises `RemoteProtocolError`."""
        if self._deadline is None:
            raise LocalProtocolError("this pairing is finished")
        self._reader.feed(data)
        events: list[Event] = []
        try:
            while self._deadline is not None and (frame := self._reader.next_frame()) is not None:
                events += self._take(decode(frame), now)
        except RemoteProtocolError as error:
            self._refuse(error.code, str(error))
            raise
        return events

    def agree(self, now: float, offer: Offer | None = None) -> None:
        """Take the offer; the inside makes its own by that: ``offer``, or the one that it has
        brought."""
        self._step_here(Input.AGREE)
        self._send((offer or self._party.offer) if self._party.role == INSIDE else Accept())
        self._deadline = now + DECISION_LIMIT

    def decline(self, code: Code, reason: str) -> None:
        """Do not take it; the other end is told."""
        self._step_here(Input.DECLINE)
        self._refuse(code, reason)

    # -- what comes ---------------------------------------------------------------

    def _take(self, message: Message, now: float) -> list[Event]:
        action, target = step(TABLE, self.state, _INPUTS[type(message)])
        try:
            events = self._do(action, message, now)
        except WrongCode:
            self._refuse(Code.WRONG_CODE, NO_MATCH)
            return [Failed(Code.WRONG_CODE, NO_MATCH)]
        self.state = target
        if target in (State.DONE, State.ENDED):
            self._deadline = None
        return events

    def _do(self, action: Action, message: Message, now: float) -> list[Event]:
        self._deadline = now + STEP_LIMIT
        if action is Action.SEND_SHARE:
            assert isinstance(message, Pake)
            self._meet(message)
            self._send(self._own_half(self._begin().share))
        elif action is Action.TAKE_SHARE:
            assert isinstance(message, Pake)
            self._take_share(message)
        elif action is Action.CHECK_PROOF:
            assert isinstance(message, Confirm)
            assert self._pake is not None
            self._pake.check(message.mac)
            if self._party.role == JOINER:
                self._send(Confirm(self._pake.tag()))
                self._send(self._party.offer)
                self._deadline = now + DECISION_LIMIT
        elif action is Action.TAKE_OFFER:
            assert isinstance(message, Offer)
            self._deadline = now + DECISION_LIMIT
            return [self._offered(message)]
        elif action is Action.FINISH:
            if self._party.role == INSIDE:
                self._send(Accept())
            return [Paired()]
        else:
            assert isinstance(message, Refuse)
            return [Failed(message.code, message.reason or str(message.code))]
        return []

    def _meet(self, other: Pake) -> None:
        """Who the other one is: the same in all that it says."""
        if other.version != VERSION or other.suite != pake.SUITE:
            raise RemoteProtocolError(
                f"version {other.version} with {other.suite}; expected {VERSION} with {pake.SUITE}"
            )
        if other.role == self._party.role:
            raise RemoteProtocolError(f"both ends are {other.role}", code=Code.ROLE_CONFLICT)
        if other.name == self._party.offer.name or other.pin == self._party.pin:
            raise RemoteProtocolError(
                "both ends have the same name or key", code=Code.ROLE_CONFLICT
            )
        self._other = other

    def _take_share(self, other: Pake) -> None:
        if self._other is None:
            self._meet(other)
            run = self._begin()
            self._send(self._own_half(run.share))
        else:
            if attrs.evolve(other, share=None) != self._other:
                raise RemoteProtocolError("PAKE: what it says has changed in between")
            assert self._pake is not None
            run = self._pake
        if other.share is None:
            raise RemoteProtocolError("PAKE: field share is absent")
        run.take(other.share, _about(other))
        self.tried = True
        if self._party.role == INSIDE:
            self._send(Confirm(run.tag()))

    def _offered(self, offer: Offer) -> Offered:
        assert self._other is not None
        if offer.name != self._other.name:
            raise RemoteProtocolError("OFFER: the name is not the one in PAKE")
        inside = self._party.role == JOINER
        if inside is (offer.rendezvous is None) or inside is (offer.tunnel is None):
            raise RemoteProtocolError("OFFER: the inside, and nobody else, says how it is met")
        issued, authority = offer.issued is not None, offer.authority is not None
        if issued is not authority or (issued and not inside):
            raise RemoteProtocolError("OFFER: the inside alone issues, and shows its CA with it")
        return Offered(offer, self._other.pin)

    # -- what goes ----------------------------------------------------------------

    def _begin(self) -> pake.Pake:
        assert self._other is not None
        joining = self._party.role == JOINER
        nonces = (self._nonce, self._other.nonce)
        self._pake = pake.Pake(
            self._secret,
            first=joining,
            session=b"".join(nonces if joining else reversed(nonces)),
            channel=self._channel,
            about=_about(self._own_half(None)),
        )
        return self._pake

    def _own_half(self, share: bytes | None) -> Pake:
        party = self._party
        return Pake(pake.SUITE, self._nonce, party.offer.name, party.role, party.pin, share)

    def _step_here(self, wanted: Input) -> None:
        _, self.state = local_step(TABLE, self.state, wanted, "this pairing")

    def _send(self, message: Message) -> None:
        self._outbound += encode(message)

    def _refuse(self, code: Code, reason: str) -> None:
        self._send(Refuse(code, reason))
        self.state = State.ENDED
        self._deadline = None


def _about(half: Pake) -> bytes:
    """What one side says of itself, as it is bound into the exchange: three texts, each with its
    length in two bytes in front."""
    texts = [text.encode("utf-8") for text in (half.name, half.role, half.pin)]
    return b"".join(len(text).to_bytes(2, "big") + text for text in texts)
