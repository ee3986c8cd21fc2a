"""One connection to an LSTP middle: reading its setup, and the commands for its socket (L1, X7)."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from tunnelkit.core.counted_address import counted_address
from tunnelkit.core.table import step
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.lstp import (
    CommonUniqueInfo,
    Error,
    Hop,
    MessageType,
    TopologyExchange,
    encode,
    encode_body,
)

MAX_KEPT = 8192
"""Bytes of the two bodies of a setup, which a middle keeps while the end waits. Far more than names
and addresses need; what else an end may put there, strangers would have kept for them."""


class State(Enum):
    """Where a connection to a middle is."""

    NEW = auto()
    """Nothing has come."""
    NAMED = auto()
    """COMMON_UNIQUE_INFO has come."""
    WAITING = auto()
    """The setup is complete and stored; the partner has not come. Nothing may come."""
    PAIRED = auto()
    """Bytes are copied to and from the partner."""
    ENDED = auto()
    """Told to close, or gone."""


class Input(Enum):
    """What may come from a connection that is not paired."""

    COMMON_UNIQUE_INFO = auto()
    TOPOLOGY_EXCHANGE = auto()
    ERROR = auto()
    OTHER = auto()
    """Any other message: never allowed."""


class Action(Enum):
    """What is done about it."""

    TAKE_INFO = auto()
    ADMIT = auto()
    CLOSE = auto()


TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.NEW, Input.COMMON_UNIQUE_INFO): (Action.TAKE_INFO, State.NAMED),
    (State.NEW, Input.ERROR): (Action.CLOSE, State.ENDED),
    (State.NAMED, Input.TOPOLOGY_EXCHANGE): (Action.ADMIT, State.WAITING),
    (State.NAMED, Input.ERROR): (Action.CLOSE, State.ENDED),
}

_INPUTS = {
    int(MessageType.COMMON_UNIQUE_INFO): Input.COMMON_UNIQUE_INFO,
    int(MessageType.TOPOLOGY_EXCHANGE): Input.TOPOLOGY_EXCHANGE,
    int(MessageType.ERROR): Input.ERROR,
}


class MiddleConnection:
    """One connection to the middle; the lobby fills in all but ``address`` and ``owner``.

    Small, because ten thousand may wait.
    """

    __slots__ = (
        "_reader",
        "address",
        "counted",
        "hops",
        "info",
        "owner",
        "partner",
        "raw_info",
        "state",
        "upstream",
    )

    def __init__(self, address: str, owner: object = None) -> None:
        self.address = address
        counted = counted_address(address)
        self.counted = address if counted == address else counted
        """The address as limits count it."""
        """Where it comes from, without port: what limits count by."""
        self.owner = owner
        """For whoever owns the socket; the lobby does not look at it."""
        self.state = State.NEW
        self._reader: FrameReader | None = FrameReader()
        self.info: CommonUniqueInfo | None = None
        self.raw_info = b""
        """The body of its COMMON_UNIQUE_INFO, to be forwarded as it is."""
        self.hops: tuple[Hop, ...] = ()
        self.partner: MiddleConnection | None = None
        self.upstream: MiddleConnection | None = None
        """The connection to the next middle on its behalf, in a cascade."""

    def receive(
        self, data: bytes | bytearray | memoryview
    ) -> tuple[CommonUniqueInfo, TopologyExchange] | Error | None:
        """Take bytes of the setup: all of it once it is complete, or the ERROR that came instead.

        Raises `RemoteProtocolError` for anything else, and for any byte behind the setup.
        """
        reader = self._reader
        if reader is None:
            raise RemoteProtocolError("bytes came before the partner's setup")
        reader.feed(data)
        while (frame := reader.next_frame()) is not None:
            action, self.state = step(TABLE, self.state, _INPUTS.get(frame.type, Input.OTHER))
            if frame.channel:
                raise RemoteProtocolError(f"channel {frame.channel} in setup, channel 0 expected")
            if len(self.raw_info) + len(frame.body) > MAX_KEPT:
                raise RemoteProtocolError(f"a setup of more than {MAX_KEPT} bytes", code=Code.LIMIT)
            if action is Action.TAKE_INFO:
                self.info = CommonUniqueInfo.read(frame.body)
                self.raw_info = frame.body
            elif action is Action.CLOSE:
                return Error.read(frame.body)
            else:
                if reader.leftover:
                    raise RemoteProtocolError("bytes came before the partner's setup")
                self._reader = None
                topology = TopologyExchange.read(frame.body)
                self.hops = topology.hops
                return self.setup_info(), topology
        return None

    def setup_info(self) -> CommonUniqueInfo:
        """The COMMON_UNIQUE_INFO of a connection that has sent it."""
        assert self.info is not None  # the table: nothing else leads to where this is asked
        return self.info

    def setup_with(self, hop: Hop) -> bytes:
        """What the partner gets: no admission token, and the middle's hop at the end."""
        return encode_body(MessageType.COMMON_UNIQUE_INFO, self.raw_info) + encode(
            TopologyExchange((*self.hops, hop))
        )

    def strip(self) -> None:
        """Drop the setup: a pair has no use for it, and there may be many."""
        self._reader = None
        self.info = None
        self.raw_info = b""
        self.hops = ()


# -- commands -------------------------------------------------------------


class Send(NamedTuple):
    """Send these bytes to that connection."""

    connection: MiddleConnection
    data: bytes


class Close(NamedTuple):
    """Close that connection once everything for it has gone out.

    The lobby has forgotten it already; ``lost`` need not be called.
    """

    connection: MiddleConnection
    code: Code
    reason: str


class Pair(NamedTuple):
    """From now on copy bytes between these two; what was to be sent before goes out first."""

    first: MiddleConnection
    second: MiddleConnection
    first_name: str
    """What it calls itself, which nobody has proved yet."""
    second_name: str
