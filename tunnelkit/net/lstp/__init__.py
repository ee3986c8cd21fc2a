"""LSTP on the network.

meeting    the rendezvous: two ends meet at a middle
protocol   the channel protocol, with further connections and published services
middle     the middle itself, and its guests
"""

__all__: list[str] = []
