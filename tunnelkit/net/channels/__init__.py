"""Channels over a secured connection: the same for every rendezvous and channel protocol.

contracts    what channels, sides, flows and connections are to one another
establish    from a meeting to a connection that carries channels
connection   one secured connection and its channels
scheduler    whose turn it is to send
channel      one channel; its local side is a socket_side or a protocol_side
request      a channel that the far side asks for
udp_flow     datagrams of one local peer
tunnel       what front ends see; it outlives its connections
member       the connections that an end keeps, and what its protocol brings along
unproved     how many strangers may be at the door
end          meets others, by any rendezvous, and keeps the tunnels that come of it
"""

__all__: list[str] = []
