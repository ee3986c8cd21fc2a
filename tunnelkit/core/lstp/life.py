"""Where one connection is in its life: what all parts of the mux know of it."""

from __future__ import annotations


class Life:
    """Times are those of the caller's clock, in seconds."""

    __slots__ = ("drained_by", "heard", "now", "over", "said", "up")

    def __init__(self, now: float) -> None:
        self.now = now
        """When the verb or the input that is being dealt with came."""
        self.heard = now
        """When something last came from the far side."""
        self.said = now
        """When something was last said to it."""
        self.up = False
        """The far side's PROPERTY_EXCHANGE has come."""
        self.over = False
        self.drained_by: float | None = None
        """When the tunnel ends at the latest, and no new channels until then; None: it does not
        drain."""

    def drain(self, by: float) -> None:
        """Drain until ``by``; said again, that can only be sooner."""
        self.drained_by = by if self.drained_by is None else min(by, self.drained_by)
