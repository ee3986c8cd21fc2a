"""Usher on the network.

meeting    the rendezvous: a portal dials a gate
protocol   the channel protocol, in both versions
"""

__all__: list[str] = []
