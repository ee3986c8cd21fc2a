"""`Decision`: the permission without which nothing is dialled or bound (rule X1)."""

from __future__ import annotations

import attrs


@attrs.frozen
class Decision:
    """Permission for one connect, bind or sendto; only `tunnelkit.policy` makes one (rule X1).

    The functions in ``net`` that open sockets take a Decision, not an address.
    """

    peer: str
    """Verified name of the peer on whose behalf; empty for this end's own configuration."""
    action: str
    """``connect``, ``bind`` or ``sendto``."""
    protocol: str
    """``tcp``, ``udp`` or ``unix``."""
    address: str
    """The resolved IPv4 or IPv6 address in text, or the path of a unix socket."""
    port: int
    """0 to 65535; 0 for unix sockets, or to bind to any free port."""
    rule: str
    """The text of the rule that allows it, for the log."""
