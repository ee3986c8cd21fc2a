"""What an end of any protocol says of itself at one moment (row O2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tunnelkit.net.channels.contracts import HopStatus, PeerStatus, TunnelStatus
from tunnelkit.net.role_status import Histogram, RoleStatus, durations, metric, metric_by, rows
from tunnelkit.policy.validity import KeyStatus


@attrs.frozen(kw_only=True)
class EndStatus(KeyStatus, RoleStatus):
    """Of one end. What counts up does so since the start."""

    name: str
    """Its own, as its certificate says."""
    state: str
    """``connected``, ``disconnected``, or how far it is on the way."""
    state_seconds: float
    """How long it has been so."""
    next_try_seconds: float | None
    """Until it tries again to reach the other end; None: it need not, or does so now."""
    where: str
    """How it meets the other end, in words."""
    ports: tuple[str, ...]
    """What is open here, in words."""
    rules: tuple[str, ...]
    """What others may reach from here, as it was written."""
    tunnel: str
    peers: tuple[str, ...]
    path: tuple[str, ...]
    """The parties on the newest connection's path, own end first."""
    hops: tuple[HopStatus, ...]
    """More of them, and of those on the paths of the other tunnels that are up."""
    connections: int = metric("connections_open", "Connections that carry channels now")
    connects: int = metric("tunnel_connects_total", "Attempts to connect", outcome="up")
    connects_failed: int = metric("tunnel_connects_total", "Attempts to connect", outcome="failed")
    channels: int
    """Open now, with all peers; so are those below up to the bytes."""
    draining: int = metric("channels_draining", "Channels that may still finish")
    channels_opened: int
    channels_refused: int
    channels_broken: int
    bytes_sent: int
    bytes_received: int
    with_peers: tuple[PeerStatus, ...] = rows("peer", PeerStatus)
    open_times: Histogram = durations(
        "open_seconds", "From the request for a channel to the answer that it is open"
    )
    denied: Mapping[str, int] = metric_by(
        "reason", "authorize_denied_total", "What peers asked for and may not have"
    )
    handshakes_rejected: Mapping[str, int] = metric_by(
        "reason", "handshakes_rejected_total", "Handshakes that came to nothing"
    )
    last_error: str
    """Why it is not connected; empty while it is."""
    certificate_until: str
    """When its certificate ends, ISO 8601."""
    locked: str
    """What waits for its passphrase; empty: nothing."""

    @classmethod
    def of(cls, tunnel: TunnelStatus, keys: KeyStatus, **more: Any) -> EndStatus:
        """That of an end of ``tunnel`` with these keys."""
        return cls(
            **attrs.asdict(keys),
            tunnel=tunnel.name,
            peers=tunnel.peers,
            path=tunnel.topology,
            hops=tunnel.hops,
            connections=tunnel.connections,
            connects=tunnel.connects,
            connects_failed=tunnel.connects_failed,
            channels=tunnel.channels,
            channels_opened=tunnel.channels_opened,
            channels_refused=tunnel.channels_refused,
            channels_broken=tunnel.channels_broken,
            bytes_sent=tunnel.bytes_sent,
            bytes_received=tunnel.bytes_received,
            with_peers=tunnel.with_peers,
            open_times=tunnel.open_times,
            handshakes_rejected=tunnel.handshakes_rejected,
            last_error=tunnel.last_error,
            **more,
        )
