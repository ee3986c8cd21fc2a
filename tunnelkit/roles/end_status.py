"""What an end of any protocol says of itself at one moment (row O2)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from tunnelkit.net.channels.contracts import TunnelStatus
from tunnelkit.net.role_status import RoleStatus, metric


@attrs.frozen(kw_only=True)
class EndStatus(RoleStatus):
    """Of one end. What counts up does so since the start."""

    name: str
    """Its own, as its certificate says."""
    state: str
    """``connected``, ``disconnected``, or how far it is on the way."""
    where: str
    """How it meets the other end, in words."""
    ports: tuple[str, ...]
    """What is open here, in words."""
    tunnel: str
    peers: tuple[str, ...]
    path: tuple[str, ...]
    """The parties on the newest connection's path, own end first."""
    connections: int = metric("connections_open", "Connections that carry channels now")
    connects: int = metric("connects_total", "Connections that came up", outcome="up")
    channels: int = metric("channels_open", "Channels open now")
    draining: int = metric("channels_draining", "Channels that may still finish")
    channels_opened: int = metric("channel_opens_total", "Channels", outcome="opened")
    channels_refused: int = metric("channel_opens_total", "Channels", outcome="refused")
    channels_broken: int = metric("channels_broken_total", "Open channels that did not end cleanly")
    bytes_sent: int = metric("bytes_total", "Bytes of channels", direction="sent")
    bytes_received: int = metric("bytes_total", "Bytes of channels", direction="received")
    last_error: str
    """Why it is not connected; empty while it is."""
    certificate_until: str
    """When its certificate ends, ISO 8601."""

    @classmethod
    def of(cls, tunnel: TunnelStatus, *, until: datetime, **more: Any) -> EndStatus:
        """That of an end of ``tunnel`` whose certificate is good ``until`` then."""
        return cls(
            tunnel=tunnel.name,
            peers=tunnel.peers,
            path=tunnel.topology,
            connections=tunnel.connections,
            connects=tunnel.connects,
            channels=tunnel.channels,
            channels_opened=tunnel.channels_opened,
            channels_refused=tunnel.channels_refused,
            channels_broken=tunnel.channels_broken,
            bytes_sent=tunnel.bytes_sent,
            bytes_received=tunnel.bytes_received,
            last_error=tunnel.last_error,
            certificate_until=until.isoformat(),
            **more,
        )
