"""How two LSTP ends meet: the setup in clear, and its repetition inside TLS (rows L1, L4; X3, X4)::

    end                     middle                  other end
     | COMMON_UNIQUE_INFO     |                        |
     | TOPOLOGY_EXCHANGE      |                        |     `Setup`
     |----------------------->|<-----------------------|
     |   the other's setup    |    the other's setup   |
     |<-----------------------|----------------------->|     event `Partner`
     |================= TLS 1.3 =======================|     (not here)
     | COMMON_UNIQUE_INFO, TOPOLOGY_EXCHANGE           |     `Verification`
     |<----------------------------------------------->|     event `Verified`

What comes in clear is a stranger's word. It starts TLS and decides who begins
the handshake, nothing else; `Verification` then compares all of it with what
the authenticated other end says.

Both classes are used alike. Send ``data_to_send()`` after making one and after
every call. ``receive`` gives the events that the bytes cause; it raises
`RemoteProtocolError` if they break a rule: send ``data_to_send()`` (it holds
the ERROR message), then close. After `Partner`, `Verified` or `Refused`, or an
error, the object is finished, and using it is a `LocalProtocolError`.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection
from enum import Enum, auto

import attrs

from tunnelkit.core import prologue
from tunnelkit.core.prologue import Refused
from tunnelkit.core.table import step
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import Frame, FrameReader
from tunnelkit.wire.lstp import (
    BOTH,
    END_ROLES,
    MAX_HOPS,
    MIDDLE,
    CommonUniqueInfo,
    Error,
    Hop,
    MessageType,
    PropertyExchange,
    TopologyExchange,
    encode,
    encode_body,
)

SILENCE_LIMIT = 45.0
"""Seconds without a message from the middle after which an end redials."""
VERIFICATION_LIMIT = 10.0
"""Seconds for the other end's setup to come over TLS."""


def new_nonce() -> str:
    """A fresh random nonce for a hop: 32 lower-case hex digits."""
    return secrets.token_hex(16)


def complementary(role: str, other: str) -> bool:
    """Whether two ends with these roles may meet: ``both`` complements any role."""
    return BOTH in (role, other) or role != other


def check_hops(hops: tuple[Hop, ...], most: int = MAX_HOPS) -> None:
    """A topology is one end, then middles only, at most ``most`` hops in all.

    Raises `RemoteProtocolError`, with code LIMIT for too many.
    """
    if len(hops) > most:
        raise RemoteProtocolError(f"a path of more than {most} hops", code=Code.LIMIT)
    if hops[0].role not in END_ROLES or any(hop.role != MIDDLE for hop in hops[1:]):
        raise RemoteProtocolError("TOPOLOGY_EXCHANGE: hops must be an end, then middles only")


# -- events ---------------------------------------------------------------


@attrs.frozen
class Partner:
    """The other end's setup has come in clear: start TLS. Nobody has proved any of it yet."""

    info: CommonUniqueInfo
    raw_info: bytes
    """Body of its COMMON_UNIQUE_INFO as it came."""
    hops: tuple[Hop, ...]
    """As it came: the other end first, then the middles from there to here."""
    master: bool
    """Whether this end won the election: the master is the TLS client."""
    leftover: bytes
    """Bytes behind the setup: they belong to TLS and to nothing else (rule X4)."""


@attrs.frozen
class Verified(prologue.Verified):
    """Both ends saw the same path, and the other one is who it must be."""

    path: tuple[Hop, ...]
    """Own hop, the middles in order, the other end's."""


Event = Partner | Verified | Refused


# -- tables ---------------------------------------------------------------


class State(Enum):
    """Where a setup dialogue is, in clear and inside TLS alike."""

    WAITING = auto()
    """Own setup is sent; nothing of the other end has come."""
    NAMED = auto()
    """The other end's COMMON_UNIQUE_INFO has come."""
    DONE = auto()
    """Its TOPOLOGY_EXCHANGE too."""
    ENDED = auto()
    """Refused, timed out or broken."""


class Input(Enum):
    """What may come."""

    KEEPALIVE = auto()
    """An empty PROPERTY_EXCHANGE."""
    COMMON_UNIQUE_INFO = auto()
    TOPOLOGY_EXCHANGE = auto()
    ERROR = auto()
    OTHER = auto()
    """Any other message: never allowed."""


class Action(Enum):
    """What is done about it."""

    GO_ON_WAITING = auto()
    TAKE_INFO = auto()
    TAKE_TOPOLOGY = auto()
    REPORT_ERROR = auto()


SETUP_TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.WAITING, Input.KEEPALIVE): (Action.GO_ON_WAITING, State.WAITING),
    (State.WAITING, Input.ERROR): (Action.REPORT_ERROR, State.ENDED),
    (State.WAITING, Input.COMMON_UNIQUE_INFO): (Action.TAKE_INFO, State.NAMED),
    (State.NAMED, Input.ERROR): (Action.REPORT_ERROR, State.ENDED),
    (State.NAMED, Input.TOPOLOGY_EXCHANGE): (Action.TAKE_TOPOLOGY, State.DONE),
}

VERIFICATION_TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.WAITING, Input.ERROR): (Action.REPORT_ERROR, State.ENDED),
    (State.WAITING, Input.COMMON_UNIQUE_INFO): (Action.TAKE_INFO, State.NAMED),
    (State.NAMED, Input.ERROR): (Action.REPORT_ERROR, State.ENDED),
    (State.NAMED, Input.TOPOLOGY_EXCHANGE): (Action.TAKE_TOPOLOGY, State.DONE),
}


_INPUTS = {
    int(MessageType.COMMON_UNIQUE_INFO): Input.COMMON_UNIQUE_INFO,
    int(MessageType.TOPOLOGY_EXCHANGE): Input.TOPOLOGY_EXCHANGE,
    int(MessageType.ERROR): Input.ERROR,
}
_EMPTY = PropertyExchange()


def input_of(frame: Frame) -> Input:
    """What a message that comes during the setup is."""
    if frame.type == MessageType.PROPERTY_EXCHANGE:
        empty = PropertyExchange.read(frame.body) == _EMPTY
        return Input.KEEPALIVE if empty else Input.OTHER
    return _INPUTS.get(frame.type, Input.OTHER)


# -- machines -------------------------------------------------------------


class _Dialogue(ABC):
    """What the two have in common: cutting frames, stepping the table, sending, the deadline."""

    _table: dict[tuple[State, Input], tuple[Action, State]]
    _patience: float
    _silence: str

    def __init__(self, first: bytes, now: float) -> None:
        self._outbound = first
        self._deadline: float | None = now + self._patience
        self._reader = FrameReader()
        self.state = State.WAITING

    def data_to_send(self) -> bytes:
        """What has to go out now; empties the queue."""
        data, self._outbound = self._outbound, b""
        return data

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called; None once finished."""
        return self._deadline

    def deadline_passed(self, now: float) -> list[Event]:
        """`Refused` with TIMED_OUT if nothing has come for too long."""
        if self._deadline is None or now < self._deadline:
            return []
        self.state = State.ENDED
        self._deadline = None
        return [Refused(Code.TIMED_OUT, f"{self._silence} for {self._patience:.0f} seconds")]

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> list[Event]:
        """Take bytes as they come, cut anywhere: at most one event.

        Raises `RemoteProtocolError`.
        """
        if self._deadline is None:
            raise LocalProtocolError("this setup is finished: the bytes belong to what follows it")
        self._reader.feed(data)
        try:
            while (frame := self._reader.next_frame()) is not None:
                event = self._take(frame, now)
                if event is not None:
                    self._deadline = None
                    return [event]
        except RemoteProtocolError as error:
            if not error.state:
                error.state = self.state.name
            self.state = State.ENDED
            self._deadline = None
            self._outbound += encode(Error(error.code, str(error), fatal=True))
            raise
        return []

    def _take(self, frame: Frame, now: float) -> Event | None:
        if frame.channel:
            raise RemoteProtocolError(f"channel {frame.channel} in setup, channel 0 expected")
        action, target = step(self._table, self.state, input_of(frame))
        event: Event | None = None
        if action is Action.GO_ON_WAITING:
            self._reader.uncount(frame)
            self._deadline = now + self._patience
        elif action is Action.TAKE_INFO:
            self._take_info(CommonUniqueInfo.read(frame.body), frame.body)
        elif action is Action.TAKE_TOPOLOGY:
            event = self._take_topology(TopologyExchange.read(frame.body).hops)
        else:
            error = Error.read(frame.body)
            event = Refused(error.code, error.reason)
        self.state = target
        return event

    @abstractmethod
    def _take_info(self, info: CommonUniqueInfo, raw: bytes) -> None:
        """Check the other end's COMMON_UNIQUE_INFO; ``raw`` is its body as it came."""

    @abstractmethod
    def _take_topology(self, hops: tuple[Hop, ...]) -> Event:
        """Check its topology: the event that ends the dialogue."""


class Setup(_Dialogue):
    """One end's setup in clear, from the connection to the middle until `Partner`.

    ``common`` comes from `tunnelkit.wire.lstp.derive_common`, ``unique`` is the
    name in this end's certificate, ``role`` its role, ``address`` any text for
    the topology map, ``admission`` the middle's token if it wants one. While
    nobody is there the middle's empty PROPERTY_EXCHANGE says that it lives; after
    45 seconds without one comes `Refused`.
    """

    _table = SETUP_TABLE
    _patience = SILENCE_LIMIT
    _silence = "nothing came from the middle"

    def __init__(
        self,
        common: str,
        unique: str,
        role: str,
        address: str,
        now: float,
        *,
        admission: str | None = None,
        nonce: str = "",
    ) -> None:
        self.info = CommonUniqueInfo(common, unique, role)
        self.raw_info = self.info.body()
        """Body of the own COMMON_UNIQUE_INFO: the same bytes go over TLS."""
        self.hop = Hop(unique, role, address, nonce or new_nonce())
        self._partner: tuple[CommonUniqueInfo, bytes] | None = None
        topology = TopologyExchange((self.hop,), admission)
        super().__init__(
            encode_body(MessageType.COMMON_UNIQUE_INFO, self.raw_info) + encode(topology), now
        )

    def _take_info(self, info: CommonUniqueInfo, raw: bytes) -> None:
        if info.common != self.info.common:
            raise _mismatch("the other end's common is another")
        if not complementary(self.info.role, info.role):
            raise _mismatch(f"both ends have the role {info.role}")
        self._partner = info, raw

    def _take_topology(self, hops: tuple[Hop, ...]) -> Event:
        check_hops(hops)
        nonce = hops[0].nonce
        if nonce == self.hop.nonce:
            raise RemoteProtocolError(
                "both ends have the same nonce: there is no master", code=Code.ROLE_CONFLICT
            )
        assert self._partner is not None  # the table: TOPOLOGY_EXCHANGE only in state NAMED
        info, raw = self._partner
        return Partner(info, raw, hops, self.hop.nonce < nonce, self._reader.leftover)


class Verification(_Dialogue):
    """The setup once more, inside TLS, and its comparison with what came in clear (step 5).

    ``certificate_name`` is what the other end's certificate says, ``allowed``
    are the names that this end accepts, ``same_key`` says that the certificate
    holds this end's own key. Differences raise `RemoteProtocolError` with code
    SETUP_MISMATCH (ROLE_CONFLICT for the own key): tear the connection down
    once the ERROR is sent.
    """

    _table = VERIFICATION_TABLE
    _patience = VERIFICATION_LIMIT
    _silence = "no setup came over TLS"

    def __init__(
        self,
        setup: Setup,
        partner: Partner,
        certificate_name: str,
        allowed: Collection[str],
        now: float,
        *,
        same_key: bool = False,
    ) -> None:
        self._common = setup.info.common
        self._expected = partner.raw_info
        self._certificate_name = certificate_name
        self._allowed = allowed
        self._same_key = same_key
        # The hops came in the order other end, its middle, ..., the middle next to this end.
        self._path = (setup.hop, *reversed(partner.hops))
        super().__init__(
            encode_body(MessageType.COMMON_UNIQUE_INFO, setup.raw_info)
            + encode(TopologyExchange(self._path)),
            now,
        )

    def _take_info(self, info: CommonUniqueInfo, raw: bytes) -> None:
        if self._same_key:
            raise RemoteProtocolError(
                "the other end has this end's own key", code=Code.ROLE_CONFLICT
            )
        if raw != self._expected:
            raise _mismatch("COMMON_UNIQUE_INFO is not what came in clear")
        if info.common != self._common:
            raise _mismatch("the other end's common is another")
        if info.unique != self._certificate_name:
            raise _mismatch("unique is not the certificate's name")
        if info.unique not in self._allowed:
            raise _mismatch("the certificate's name is not an allowed peer")

    def _take_topology(self, hops: tuple[Hop, ...]) -> Event:
        if hops != tuple(reversed(self._path)):
            raise _mismatch("the two ends saw different paths")
        return Verified(self._certificate_name, self._reader.leftover, self._path)


def _mismatch(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(what, code=Code.SETUP_MISMATCH)
