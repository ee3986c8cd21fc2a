"""The Secure Proxy on the network.

arrivals       the one port: what a connection's first bytes ask for
server         the Communication Server's sockets; client_stream is one client's connection to it,
               browser one that waits for a publisher
http           what a server answers browsers itself
"""

__all__: list[str] = []
