"""What a tunnel has done since its start, over all its connections (row O2).

Counted when a channel begins or ends, and when a connection does; bytes are
added up from the connections' own counts when somebody asks.
"""

from __future__ import annotations

from typing import Protocol

from tunnelkit.net.channels.contracts import ChannelEvent, ChannelRecord


class CountsBytes(Protocol):
    """A connection."""

    bytes_sent: int
    bytes_received: int


class Totals:
    """Of one tunnel."""

    def __init__(self) -> None:
        self.connects = 0
        """Connections that have come up."""
        self.opened = 0
        """Channels."""
        self.refused = 0
        self.broken = 0
        """Channels that were open and did not end cleanly in both directions."""
        self._carrying: list[CountsBytes] = []
        self._sent = 0
        self._received = 0

    def connection_began(self, connection: CountsBytes) -> None:
        """It has come up."""
        self.connects += 1
        self._carrying.append(connection)

    def connection_ended(self, connection: CountsBytes) -> None:
        """It is over: its counts stay as they are. One that has not come up counts nothing."""
        if connection in self._carrying:
            self._carrying.remove(connection)
            self._sent += connection.bytes_sent
            self._received += connection.bytes_received

    def channel(self, event: ChannelEvent) -> None:
        """A channel has begun, or has ended."""
        if type(event) is not ChannelRecord:
            self.opened += 1
        elif event.refused:
            self.refused += 1
        elif event.code is not None:
            self.broken += 1

    @property
    def bytes_sent(self) -> int:
        """To the far side."""
        return self._sent + sum(connection.bytes_sent for connection in self._carrying)

    @property
    def bytes_received(self) -> int:
        """From the far side."""
        return self._received + sum(connection.bytes_received for connection in self._carrying)
