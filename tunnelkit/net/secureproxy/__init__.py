"""The Secure Proxy on the network::

    arrivals       the one port: what a connection's first bytes ask for
    server         the Communication Server's sockets; client_stream: one client's connection,
                   browser: one that waits for a publisher
    http           what a server answers browsers itself

Begin with ``arrivals``.
"""

__all__: list[str] = []
