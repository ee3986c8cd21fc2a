"""Where the sans-IO core meets the network: sockets, TLS, dialling, channels, and each protocol.

sockets    readiness, carriers, relays
tls        TLS sessions on carriers
dial       ways out of this network
channels   channels and tunnels, whatever carries them
lstp, usher   how the ends of each protocol meet

A *handler* is told by a poller that its socket can be read or written; a
*sink* is told by a carrier what arrived. *Near* is this side, *far* the other.
"""

__all__: list[str] = []
