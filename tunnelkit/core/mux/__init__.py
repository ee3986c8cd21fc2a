"""What every channel protocol's mux shares: the contract, and the parts a mux is composed of.

contract       verbs and events of a mux, as `tunnelkit.net.channels` drives it
framing        cuts a byte stream into frames
credit         how much may be sent, and how much was granted
flow_control   the credit of every channel and the path, held together for a mux
path           what lies between two ends: rate, round trip, how much to keep in flight
plain          the smallest mux that meets the contract
"""

__all__: list[str] = []
