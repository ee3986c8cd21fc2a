"""What only LSTP reports; `tunnelkit.core.mux.contract` has the events of every mux."""

from __future__ import annotations

import attrs

from tunnelkit.core.mux.contract import ExtensionEvent
from tunnelkit.core.socket_table import TrustedSocket


@attrs.frozen
class ConnectionRequested(ExtensionEvent):
    """The far side asks for a further tunnel connection that meets under ``join``."""

    channel: int
    join: str


@attrs.frozen
class ServicesChanged(ExtensionEvent):
    """The far side's table of published services, in full (trusted sockets)."""

    services: tuple[TrustedSocket, ...]
