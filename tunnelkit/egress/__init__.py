"""The far side: everything that connects, listens or asks on behalf of a peer, by the rules.

dial        a request on its way to a connected socket
resolve     names to addresses
listen      ports opened here for the far side
udp         datagrams for the far side; udp_map: their sockets
dns, x11    the services ``@dns`` and ``@x11``
bench       the service ``@bench``, by which a tunnel is measured
publish     services that the far side may use for a while
tls_relay   TLS passed on, unopened, to gates further inside
"""

__all__: list[str] = []
