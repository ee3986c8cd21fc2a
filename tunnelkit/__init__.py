"""tunnelkit: tunnels between networks that accept no connections from outside.

Glossary
    end         a party that a tunnel connects; it dials out, never in
    middle      a relay at which two ends meet, and which cannot read them
    tunnel      two ends, authenticated to each other, with channels between them
    channel     one stream (or flow of datagrams) inside a tunnel
    mux         the sans-IO protocol that carries many channels on one connection
    carrier     the connection that carries a mux's bytes at the moment
    front end   what applications talk to: SOCKS, forwards, X11, DNS, HTTP
    near, far   this side of the tunnel, the other side of it
    inbound, outbound   data towards the near application, data from it
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
