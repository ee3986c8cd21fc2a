"""A channel as the net layer sees it, between a mux and the application on this side.

The application is reached through a `LocalSide`, above all one of these two:
`tunnelkit.net.channels.socket_side.SocketSide` pumps a plain socket (front ends),
``ProtocolSide`` is a Twisted transport (endpoints).

Data is pulled towards the tunnel when the tunnel can take it, and pushed
towards the application as far as the application takes it; what it does not
take waits in `Channel.queue`, whose length the mux's credit bounds.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from twisted.internet.defer import Deferred, fail

from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.net.channels.contracts import LocalSide, Remote


class ChannelConnection(Protocol):
    """What a channel asks of the connection that it belongs to."""

    def schedule(self, channel: Channel) -> None:
        """``channel`` has something to send; its ``scheduled`` is set."""

    def flush(self, channel: Channel) -> None:
        """The side of ``channel`` takes data again."""

    def abort(self, channel: Channel, code: Code, reason: str) -> None:
        """Reset ``channel`` on both sides."""

    def open_accepted(self, listener: Channel, origin: str, side: LocalSide) -> Deferred[str]:
        """See `ChannelHandle`."""

    def send_datagram(
        self, flow: int, source: Remote, destination: Remote, data: bytes | memoryview
    ) -> bool:
        """See `tunnelkit.core.mux.contract.DatagramMux`."""


_JOINED = 4096
"""A piece that waits is added to the one before if that has less bytes than this."""


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
        "origin",
        "queue",
        "queued",
        "rule",
        "scheduled",
        "serial",
        "side",
        "started",
    )

    def __init__(
        self,
        connection: ChannelConnection,
        number: int,
        side: LocalSide,
        destination: str,
        inbound: bool,
        now: float,
    ) -> None:
        self.connection: ChannelConnection | None = connection
        self.id = number
        self.side = side
        self.destination = destination
        self.inbound = inbound
        self.started = now
        self.serial = 0
        """See `ChannelOpening`, as for the next two."""
        self.rule = ""
        self.origin = ""
        self.bytes_sent = 0
        self.bytes_received = 0
        self.queue: deque[bytes | bytearray | memoryview] = deque()
        self.queued = 0
        self.scheduled = False
        """It stands in one of the connection's queues."""
        self.near_finished = False
        self.far_finished = False

    def wait(self, data: memoryview) -> None:
        """Keep what the application does not take now.

        Small pieces are joined, or a peer that sends byte by byte would make this end hold many
        times what its credit allows. The first piece may be on its way to the application.
        """
        queue = self.queue
        if len(queue) > 1:
            last = queue[-1]
            if isinstance(last, bytearray) and len(last) < _JOINED:
                last += data
                return
        queue.append(bytearray(data))

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

    def abort(self, code: Code, reason: str) -> None:
        """Reset the channel at the far side, and this side."""
        connection = self.connection
        if connection is not None:
            connection.abort(self, code, reason)

    def hand_over(self, side: LocalSide) -> None:
        """Attach ``side`` in place of the side that there was."""
        self.side = side
        side.attach(self)

    def open_accepted(self, origin: str, side: LocalSide) -> Deferred[str]:
        """See `ChannelHandle`."""
        connection = self.connection
        if connection is not None:
            return connection.open_accepted(self, origin, side)
        reason = "the listener is closed"
        side.reset(Code.REFUSED, reason)
        return fail(ChannelRefused(Code.REFUSED, reason))

    def send_datagram(self, remote: Remote, data: bytes | memoryview) -> bool:
        """Send a datagram of the flow that has this channel to or for ``remote``."""
        connection = self.connection
        if connection is None:
            return False
        near, far = (remote, ("", 0)) if self.inbound else (("", 0), remote)
        sent = connection.send_datagram(self.id, near, far, data)
        if sent:
            self.bytes_sent += len(data)
        return sent
