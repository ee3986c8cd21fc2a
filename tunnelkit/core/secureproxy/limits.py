"""How much of everything anybody may have at a Communication Server (rules X16, X25)."""

from __future__ import annotations

import attrs


@attrs.frozen
class Limits:
    """Each is an option. Seconds, or how many at once unless it says per second."""

    clients: int = 10_000
    """Control connections in all."""
    sessions: int = 1024
    """Sessions of one client, as initiator and as target."""
    incoming: int = 64
    """INCOMINGs of one client that are not answered."""
    connecting: int = 16
    """CONNECTs of one client that wait."""
    groups: int = 64
    """Groups of one client."""
    opening: int = 128
    """Connections for sessions of one client that have not said which, and SPAREs."""
    asking: int = 16
    """Control connections of one client that only ask."""
    watches: int = 100
    """LOOKUPs of one connection that watch."""
    spares: int = 4
    """SPAREs for one resource."""
    logins: int = 5
    """Failed logins a minute, by name and by address."""
    dial_rate: float = 20.0
    """Browsers a second from one address."""
    dial_burst: int = 50
    dial_pending: int = 10
    """Browsers of one address whose publisher has not come."""
    host_pending: int = 64
    """Browsers of one host whose publisher has not come."""
    queued: int = 1024
    """Browsers that wait for their turn, in all."""
    patience: float = 10.0
    """Seconds that a browser waits for its turn."""
    setup: float = 10.0
    """Seconds for HELLO, and what is to follow it."""
    join: float = 10.0
    """Seconds for JOIN."""
    switch: float = 5.0
    """Seconds for both sides of a session to end their TLS."""
    publish: float = 1.0
    """Seconds between two PUBLISH of one client."""
    keepalive: float = 10.0
    """Seconds of silence after which KEEPALIVE is sent; three times as long is death."""
    replaced: float = 60.0
    """Seconds for which a client that was replaced may not come back."""
