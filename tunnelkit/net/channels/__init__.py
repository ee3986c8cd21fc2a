"""Channels over a secured connection: the same for every rendezvous and channel protocol.

establish    from a meeting to a connection that carries channels
connection   one secured connection and its channels
scheduler    whose turn it is to send
channel      one channel; its local side is a socket_side or a protocol_side
request      a channel that the far side asks for
udp_flow     datagrams of one local peer
tunnel       what front ends see; it outlives its connections
end          keeps tunnels up
"""

__all__: list[str] = []
