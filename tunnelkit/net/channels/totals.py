"""What a tunnel has done since its start, over all its connections (rows O2, O7).

Counted when a channel begins or ends, and when a connection does; bytes are
added up from the connections' own counts when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from tunnelkit.core.mux.path import Path
from tunnelkit.errors import (
    AuthError,
    DialError,
    PeerNotTrusted,
    ProtocolError,
    Revoked,
    TunnelkitError,
)
from tunnelkit.net.channels.contracts import ChannelEvent, ChannelRecord, PeerStatus
from tunnelkit.net.role_status import Durations

MOST_PEERS = 1000
"""Peers that are told apart; the others count together."""
OTHERS = "other"
CROWDED_OUT, TOO_OFTEN = "crowded-out", "too-often"
"""Reasons for which a handshake comes to nothing, besides those of errors."""

_REASONS: tuple[tuple[type[TunnelkitError], str], ...] = (
    (Revoked, "revoked"),
    (PeerNotTrusted, "not-trusted"),
    (AuthError, "not-proved"),
    (ProtocolError, "protocol"),
    (DialError, "lost"),
)
_OTHER = "other"


class Carries(Protocol):
    """A connection."""

    bytes_sent: int

    @property
    def bytes_received(self) -> int:
        """Payload that has come."""

    @property
    def peer(self) -> str:
        """Verified name of the other end."""

    @property
    def channel_count(self) -> int:
        """Channels open now."""

    @property
    def queued(self) -> int:
        """Bytes that wait for applications here."""

    @property
    def path(self) -> Path:
        """What is known of the way to the other end."""


class _Peer:
    """Of what is over, and of channels."""

    __slots__ = ("broken", "opened", "received", "refused", "sent")

    def __init__(self) -> None:
        self.opened = 0
        self.refused = 0
        self.broken = 0
        self.sent = 0
        self.received = 0


class Totals:
    """Of one tunnel."""

    def __init__(self) -> None:
        self.connects = 0
        """Connections that have come up."""
        self.failed = 0
        """Attempts that have not led to one."""
        words = (*(word for _, word in _REASONS), _OTHER, CROWDED_OUT, TOO_OFTEN)
        self.rejected: Counter[str] = Counter(dict.fromkeys(words, 0))
        """Handshakes that came to nothing, by reason."""
        self.open_times = Durations()
        """From a request to the answer that its channel is open."""
        self._peers: dict[str, _Peer] = {}
        self._carrying: list[Carries] = []

    def expect(self, names: Iterable[str]) -> None:
        """These peers may come: they are shown from the beginning."""
        for name in sorted(names):
            self._of(name)

    def connection_began(self, connection: Carries) -> None:
        """It has come up."""
        self.connects += 1
        self._carrying.append(connection)

    def connection_ended(self, connection: Carries) -> None:
        """It is over: its counts stay as they are. One that has not come up counts nothing."""
        if connection in self._carrying:
            self._carrying.remove(connection)
            peer = self._of(connection.peer)
            peer.sent += connection.bytes_sent
            peer.received += connection.bytes_received

    def not_proved(self, error: TunnelkitError) -> None:
        """A handshake has ended with ``error``."""
        reason = next((word for kind, word in _REASONS if isinstance(error, kind)), _OTHER)
        self.rejected[reason] += 1

    def channel(self, event: ChannelEvent) -> None:
        """A channel has begun, or has ended."""
        peer = self._peers.get(event.peer) or self._of(event.peer)
        if type(event) is not ChannelRecord:
            peer.opened += 1
            self.open_times.add(event.seconds)
        elif event.refused:
            peer.refused += 1
        elif event.code is not None:
            peer.broken += 1

    def _of(self, name: str) -> _Peer:
        if name not in self._peers and len(self._peers) >= MOST_PEERS:
            name = OTHERS
        return self._peers.setdefault(name, _Peer())

    @property
    def bytes_sent(self) -> int:
        """To the far side."""
        ended = sum(peer.sent for peer in self._peers.values())
        return ended + sum(connection.bytes_sent for connection in self._carrying)

    @property
    def bytes_received(self) -> int:
        """From the far side."""
        ended = sum(peer.received for peer in self._peers.values())
        return ended + sum(connection.bytes_received for connection in self._carrying)

    @property
    def opened(self) -> int:
        """Channels."""
        return sum(peer.opened for peer in self._peers.values())

    @property
    def refused(self) -> int:
        """Channels that were never open."""
        return sum(peer.refused for peer in self._peers.values())

    @property
    def broken(self) -> int:
        """Channels that were open and did not end cleanly in both directions."""
        return sum(peer.broken for peer in self._peers.values())

    def by_peer(self, taking: Sequence[Carries]) -> tuple[PeerStatus, ...]:
        """What there is with each peer; ``taking`` are the connections that take channels."""
        carrying: dict[int, list[Carries]] = {}
        for connection in self._carrying:
            carrying.setdefault(id(self._of(connection.peer)), []).append(connection)
        takes = frozenset(map(id, taking))
        return tuple(
            _status(name, peer, carrying.get(id(peer), ()), takes)
            for name, peer in self._peers.items()
        )


def _status(
    name: str, peer: _Peer, carrying: Sequence[Carries], takes: frozenset[int]
) -> PeerStatus:
    trips = [one.path.round_trip for one in carrying]
    taken = [one for one in carrying if id(one) in takes]
    return PeerStatus(
        name,
        bool(taken),
        sum(one.channel_count for one in taken),
        peer.opened,
        peer.refused,
        peer.broken,
        peer.sent + sum(one.bytes_sent for one in carrying),
        peer.received + sum(one.bytes_received for one in carrying),
        next((trip for trip in reversed(trips) if trip is not None), None),
        sum(one.path.in_flight for one in carrying),
        sum(one.queued for one in carrying),
    )
