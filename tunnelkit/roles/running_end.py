"""What `EndService` does with its end, be that one `TunnelEnd` or several."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred

from tunnelkit.net.channels.progress import Progress
from tunnelkit.net.tls.context import TlsContext


class RunningEnd(Protocol):
    """What `EndService` does with its end; `TunnelEnd` says more about each."""

    context: TlsContext
    manual: bool

    @property
    def wanted(self) -> bool:
        """Whether it meets others, or is connected."""

    @property
    def progress(self) -> Progress:
        """On the way to the next tunnel."""

    @property
    def draining(self) -> int:
        """Channels that may finish."""

    def start(self) -> None:
        """Begin."""

    def stop(self, grace: float) -> Deferred[Any]:
        """Drain."""

    def connect(self) -> None:
        """Meet others now."""

    def disconnect(self, grace: float) -> None:
        """Meet nobody any more, and drain what is up."""
