"""Middles in a row: the connection to the next middle on behalf of an end that waits (row L8)::

    end              this middle                    next middle
     | its setup         |                              |
     |------------------>| stored; dials on             |
     |                   | its setup, this hop appended |
     |                   |----------------------------->|     waits there, like any end
     |                   |   a partner's setup          |
     |   the same, this hop appended                    |
     |<------------------|<-----------------------------|     from now on bytes are copied

To the next middle this one is an end like any other. A partner that comes to
this middle first wins; the connection to the next one is closed then.
"""

from __future__ import annotations

from typing import NamedTuple

from tunnelkit.core.lstp.middle_connection import MiddleConnection
from tunnelkit.core.lstp.setup import SETUP_TABLE, check_hops, complementary, input_of
from tunnelkit.core.lstp.setup import Action as SetupAction
from tunnelkit.core.lstp.setup import State as SetupState
from tunnelkit.core.table import step
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.lstp import (
    MAX_HOPS,
    CommonUniqueInfo,
    Error,
    Hop,
    TopologyExchange,
)

REDIAL_DELAY = 5.0
"""Seconds until the next middle is dialled again after it was lost."""


class Upstream(MiddleConnection):
    """A connection to the next middle. ``waiting`` is the end that it is for."""

    __slots__ = ("_setup_state", "hop", "leftover", "waiting")

    def __init__(self, waiting: MiddleConnection, hop: Hop, owner: object = None) -> None:
        super().__init__("", owner)
        self.waiting = waiting
        self.hop = hop
        """This middle's hop, the same towards both sides."""
        self.leftover = b""
        """Bytes behind the partner's setup: they are the waiting end's."""
        self._setup_state = SetupState.WAITING

    def answer(self, data: bytes | bytearray | memoryview) -> CommonUniqueInfo | Error | None:
        """Take bytes from the next middle; the partner's setup once it is complete, or an ERROR.

        Raises `RemoteProtocolError` for what no middle may send.
        """
        if self._reader is None:
            self._reader = FrameReader()
        reader = self._reader
        reader.feed(data)
        while (frame := reader.next_frame()) is not None:
            if frame.channel:
                raise RemoteProtocolError(f"channel {frame.channel} in setup, channel 0 expected")
            action, self._setup_state = step(SETUP_TABLE, self._setup_state, input_of(frame))
            if action is SetupAction.GO_ON_WAITING:
                reader.uncount(frame)
            elif action is SetupAction.TAKE_INFO:
                self.info = CommonUniqueInfo.read(frame.body)
                self.raw_info = frame.body
            elif action is SetupAction.REPORT_ERROR:
                return Error.read(frame.body)
            else:
                self.hops = TopologyExchange.read(frame.body).hops
                self.leftover = reader.leftover
                self._check()
                return self.setup_info()
        return None

    def _check(self) -> None:
        """The partner must be one for the end that waits, on a path that can be."""
        info, waiting = self.setup_info(), self.waiting.setup_info()
        if info.common != waiting.common or not complementary(info.role, waiting.role):
            raise RemoteProtocolError("the next middle sent a setup of another tunnel")
        check_hops(self.hops, MAX_HOPS - 1)
        if any(hop.name == self.hop.name for hop in self.hops[1:]):
            raise RemoteProtocolError("this middle is on the path already: the middles form a ring")


class Dial(NamedTuple):
    """Dial the next middle on behalf of ``connection``, and say `Lobby.reached` or `missed`."""

    connection: MiddleConnection
