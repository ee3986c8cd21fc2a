"""What all tunnel connections of one process share: buffers, the data budget, the list of them."""

from __future__ import annotations

from itertools import count
from typing import Any, Protocol

from tunnelkit.core.mux.credit import Budget
from tunnelkit.net.sockets.early_data import EarlyData
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import on_monotonic_clock

BATCH_SIZE = 512 * 1024
"""Most plaintext, in bytes, that is encrypted and handed to a socket at once. The three buffers
that it passes through should stay in the processor's cache meanwhile."""
HALF_CLOSED_LIMIT = 3600
"""Seconds that a channel may stand still whose one direction is over, unless it is said."""
_SLACK = 64 * 1024

_ATTRIBUTE = "_tunnelkit_shared"


class Holder(Protocol):
    """Somebody who queues received data and can let go of it."""

    def biggest_queue(self) -> int:
        """Bytes in this holder's biggest queue."""

    def drop_biggest_queue(self) -> None:
        """Reset the channel whose queue that is."""


class Shared:
    """One per reactor, see `of`.

    The buffers are scratch space: whoever fills one has to be done with it
    before returning to the reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = on_monotonic_clock(reactor)
        """With the one clock that everything here goes by."""
        self.poller = Poller.of(reactor)
        self.budget = Budget()
        self.early_data = EarlyData(self.budget)
        self.holders: set[Holder] = set()
        self.serials = count(1)
        """Numbers of channels, for the access log."""
        self.half_closed_limit = float(HALF_CLOSED_LIMIT)
        """Seconds that a channel may stand still whose one direction is over."""
        self.outgoing = memoryview(bytearray(BATCH_SIZE + _SLACK))
        """Frames on their way into TLS."""
        self.plaintext = memoryview(bytearray(256 * 1024))
        """What came out of TLS."""
        self.ciphertext = memoryview(bytearray(256 * 1024))
        """What TLS wants to send."""

    @staticmethod
    def of(reactor: Any) -> Shared:
        """The one of ``reactor``."""
        shared: Shared | None = getattr(reactor, _ATTRIBUTE, None)
        if shared is None:
            shared = Shared(reactor)
            setattr(reactor, _ATTRIBUTE, shared)
        else:
            Poller.of(reactor)  # for what it does for a reactor that has been emptied
        return shared

    def relieve(self) -> None:
        """Close the biggest queues until the budget holds again (rule X8)."""
        while self.budget.exceeded:
            biggest = max(self.holders, key=lambda holder: holder.biggest_queue(), default=None)
            if biggest is None or not biggest.biggest_queue():
                return
            biggest.drop_biggest_queue()
