"""A channel as the net layer sees it, between a mux and the application on this side.

The application is reached through a `LocalSide`, of which there are two:
`tunnelkit.net.channels.socket_side.SocketSide` pumps a plain socket (front ends),
`tunnelkit.net.channels.protocol_side.ProtocolSide` is a Twisted transport (endpoints).

Data is pulled towards the tunnel when the tunnel can take it, and pushed
towards the application as far as the application takes it; what it does not
take waits in `Channel.queue`, whose length the mux's credit bounds.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import attrs

from tunnelkit.errors import Code

if TYPE_CHECKING:
    from tunnelkit.net.channels.connection import TunnelConnection
    from tunnelkit.net.channels.request import ChannelRequest

END = -1
"""What `LocalSide.pull_into` returns once the application has sent everything."""


class LocalSide(Protocol):
    """The application's side of a channel.

    ``pull_into`` and ``push`` may raise OSError: the application is gone, and
    the channel is reset.
    """

    def attach(self, channel: Channel) -> None:
        """The channel exists from here on; `Channel.ready` may be called."""

    def pull_into(self, view: memoryview) -> int:
        """Bytes of the application placed in ``view``; 0: nothing now, `END`: no more ever."""

    def push(self, view: memoryview) -> int:
        """Bytes the application takes now; fewer than given: `Channel.drained` will be called."""

    def finish(self) -> None:
        """The far application has ended its direction cleanly; everything has been pushed."""

    def close(self) -> None:
        """Both directions have ended cleanly."""

    def reset(self, code: Code, reason: str) -> None:
        """The channel ended early; the application must be able to tell (rule X11)."""


@runtime_checkable
class AcceptingSide(Protocol):
    """The side of a channel by which the far side listens for this end."""

    def accepted(self, request: ChannelRequest) -> None:
        """The far side has accepted a connection: attach or refuse ``request``."""


@attrs.frozen
class ChannelRecord:
    """One finished channel, for the access log (row O1)."""

    peer: str
    destination: str
    inbound: bool
    """The far side asked for it."""
    bytes_sent: int
    """To the far side."""
    bytes_received: int
    seconds: float
    code: Code | None
    """None: both directions ended cleanly."""
    reason: str
    refused: bool


class Channel:
    """One channel of one connection; made by `TunnelConnection`."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "connection",
        "destination",
        "far_finished",
        "id",
        "inbound",
        "near_finished",
        "queue",
        "queued",
        "scheduled",
        "side",
        "started",
    )

    def __init__(
        self,
        connection: TunnelConnection,
        number: int,
        side: LocalSide,
        destination: str,
        inbound: bool,
        now: float,
    ) -> None:
        self.connection: TunnelConnection | None = connection
        self.id = number
        self.side = side
        self.destination = destination
        self.inbound = inbound
        self.started = now
        self.bytes_sent = 0
        self.bytes_received = 0
        self.queue: deque[bytes | memoryview] = deque()
        self.queued = 0
        self.scheduled = False
        """It stands in one of the connection's queues."""
        self.near_finished = False
        self.far_finished = False

    # -- called by the side -----------------------------------------------

    def ready(self) -> None:
        """The side has data, or its end, to pull."""
        connection = self.connection
        if connection is not None and not self.scheduled and not self.near_finished:
            self.scheduled = True
            connection.schedule(self)

    def drained(self) -> None:
        """The side takes data again."""
        connection = self.connection
        if connection is not None:
            connection.flush(self)

    def broken(self, reason: str) -> None:
        """The application is gone: reset the channel."""
        self.abort(Code.RESET, reason)

    def abort(self, code: Code, reason: str) -> None:
        """Reset the channel at the far side, and this side."""
        connection = self.connection
        if connection is not None:
            connection.abort(self, code, reason)
