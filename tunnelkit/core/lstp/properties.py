"""PROPERTY_EXCHANGE: what this end says of itself, and what the other end said."""

from __future__ import annotations

import attrs

from tunnelkit.core.lstp.compression import NONE, Compression
from tunnelkit.wire import lstp

_SHORTEST_KEEPALIVE = 1.0
"""A peer that announces less seconds than this is taken at this many."""


@attrs.frozen
class MuxConfig:
    """What this end says of itself in its PROPERTY_EXCHANGE."""

    window: int = 262_144
    """Bytes the peer may send on a new channel before the first grant."""
    max_channels: int = 1024
    """Channels that the peer may have open at once."""
    keepalive: float = 10.0
    """This end sends something at least every so many seconds."""
    software: str = ""
    compression: tuple[str, ...] = (NONE,)
    """What this end can do, the best first, of `tunnelkit.core.lstp.compression.AVAILABLE`."""


@attrs.define
class PeerProperties:
    """What the other end said of itself; absent fields keep their value."""

    window: int = 262_144
    max_channels: int = 1024
    keepalive: float = 10.0


class Properties:
    """Of both ends of a connection; a further connection begins with its ``parent``'s."""

    __slots__ = ("_master", "_settled", "compression", "own", "peer")

    def __init__(self, master: bool, own: MuxConfig, parent: Properties | None) -> None:
        self.own = own
        self.peer: PeerProperties = (
            PeerProperties() if parent is None else attrs.evolve(parent.peer)
        )
        self.compression: Compression = Compression(
            NONE if parent is None else parent.compression.method
        )
        """What has been agreed on for all channels."""
        self._settled = parent is not None
        """Window and compression are known: the first PROPERTY_EXCHANGE says them."""
        self._master = master

    def said(self, services: tuple[lstp.Service, ...] | None) -> lstp.PropertyExchange:
        """The first message of this end; an empty one on a further connection."""
        if self._settled:
            return lstp.PropertyExchange()
        own = self.own
        return lstp.PropertyExchange(
            software=own.software or None,
            window=own.window,
            max_channels=own.max_channels,
            keepalive=own.keepalive,
            compression=own.compression if own.compression != (NONE,) else None,
            services=services,
        )

    def heard(self, message: lstp.PropertyExchange) -> None:
        """What the other end says, `services` aside."""
        peer = self.peer
        if not self._settled:
            self._settled = True
            if message.window is not None:
                peer.window = message.window
            others = message.compression or (NONE,)
            self.compression.agree(self.own.compression, others, self._master)
        if message.max_channels is not None:
            peer.max_channels = message.max_channels
        if message.keepalive is not None:
            peer.keepalive = max(message.keepalive, _SHORTEST_KEEPALIVE)
