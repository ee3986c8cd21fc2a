"""Whether a channel protocol of one's own keeps the contract, without a socket.

    pytest own_conformance.py

The protocol is that of ``custom_protocol.py``; put yours in its place.
"""

from examples.custom_protocol import Channels
from tunnelkit.core.mux.credit import Budget
from tunnelkit.testing.conformance import ChannelProtocolChecks


class TestOwnProtocol(ChannelProtocolChecks):
    """Every method whose name begins with ``test`` comes from there."""

    def protocol(self, budget: Budget) -> Channels:
        """What is to be checked; ``budget`` bounds its buffers."""
        return Channels(budget)
