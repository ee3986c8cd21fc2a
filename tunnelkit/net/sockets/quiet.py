"""Ending what nothing passes through, when whoever passes it on is to stop (row O10).

Ends that nobody uses stay connected: without this each of them would hold up the end of a
middle, a server or a bastion until its grace is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tunnelkit.net.sockets.relay import CarrierRelay, Relay
from tunnelkit.net.sockets.timer import Timer

QUIET = 5.0
"""Seconds without a byte after which a relay is not waited for."""
_LOOK = 1.0
"""Seconds between two looks."""


class QuietRelays:
    """Ends relays among ``relays()`` without a byte for `QUIET` seconds, from `start` to `stop`."""

    def __init__(self, reactor: Any, relays: Callable[[], Iterable[Relay | CarrierRelay]]) -> None:
        self._reactor = reactor
        self._relays = relays
        self._timer = Timer(reactor, self._look)
        self._seen: dict[Relay | CarrierRelay, tuple[int, float]] = {}
        """How many bytes each had passed on, and since when."""

    def start(self) -> None:
        """Look at them from now on, until none is left."""
        self._look()

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()
        self._seen.clear()

    def _look(self) -> None:
        now = self._reactor.seconds()
        seen, self._seen = self._seen, {}
        for relay in list(self._relays()):
            moved = relay.bytes_ab + relay.bytes_ba
            before, since = seen.get(relay, (-1, now))
            if moved == before and now - since >= QUIET:
                relay.abort("nothing passes, and this relay is stopping")
            else:
                self._seen[relay] = (moved, since if moved == before else now)
        if self._seen:
            self._timer.start(_LOOK)
