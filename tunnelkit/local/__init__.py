"""Sockets towards applications on this machine.

listening   a port or unix socket here, and who may enter it
stream      a client's bytes while it is not yet known where they go
waiting     clients that are still being looked at, and how long they may take
udp_peer    one local UDP program and its flow
"""

__all__: list[str] = []
