"""tunnelkit: tunnels between networks that accept no connections from outside::

    from tunnelkit import LstpEnd

    async with LstpEnd(reactor, middle="relay.example:7000", tunnel="office",
                       identity="me.pem", peer="server") as tunnel:
        protocol = await tunnel.channel_to("tcp:intranet:80").connect(factory)

The names in ``__all__`` are imported when they are first used: importing the package is
fast, and imports no reactor.

Glossary:

- **end**: a party that a tunnel connects; it dials out, never in
- **middle**: a relay at which two ends meet, and which cannot read them
- **tunnel**: two ends, authenticated to each other, with channels between them
- **channel**: one stream (or flow of datagrams) inside a tunnel
- **mux**: the sans-IO protocol that carries many channels on one connection
- **carrier**: the connection that carries a mux's bytes at the moment
- **front end**: what applications talk to: SOCKS, forwards, X11, DNS, HTTP
- **near, far**: this side of the tunnel, the other side of it
- **inbound, outbound**: data towards the near application, data from it
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tunnelkit.version import __version__

if TYPE_CHECKING:
    from tunnelkit import errors
    from tunnelkit.core.pairing.code import new_code, parse_code
    from tunnelkit.egress.direct_tunnel import DirectTunnel
    from tunnelkit.net.channels.tunnel import Tunnel
    from tunnelkit.policy.identity import load_identity
    from tunnelkit.services.library import (
        End,
        LstpEnd,
        SecureProxyClient,
        UsherGate,
        UsherPortal,
        front_ends,
    )
    from tunnelkit.services.pairing import pair
    from tunnelkit.services.pairing_ways import LstpPairing

__all__ = [
    "DirectTunnel",
    "End",
    "LstpEnd",
    "LstpPairing",
    "SecureProxyClient",
    "Tunnel",
    "UsherGate",
    "UsherPortal",
    "__version__",
    "errors",
    "front_ends",
    "load_identity",
    "new_code",
    "pair",
    "parse_code",
]

_HOMES = {
    "DirectTunnel": "egress.direct_tunnel",
    "End": "services.library",
    "LstpEnd": "services.library",
    "LstpPairing": "services.pairing_ways",
    "SecureProxyClient": "services.library",
    "Tunnel": "net.channels.tunnel",
    "UsherGate": "services.library",
    "UsherPortal": "services.library",
    "front_ends": "services.library",
    "load_identity": "policy.identity",
    "new_code": "core.pairing.code",
    "pair": "services.pairing",
    "parse_code": "core.pairing.code",
}
"""Where each name is at home, below this package."""


def __getattr__(name: str) -> object:
    """Import ``name`` now that it is used (PEP 562)."""
    if name == "errors":
        return import_module("tunnelkit.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'tunnelkit' has no attribute '{name}'")
    found: object = getattr(import_module(f"tunnelkit.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Also the names that have not been used yet."""
    return sorted({*globals(), *__all__})
