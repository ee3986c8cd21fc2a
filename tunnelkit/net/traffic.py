"""What is open at a party, one row for each channel, pair or session (row O6)."""

from __future__ import annotations

import attrs

BROWSER = "a browser"
"""Who is somebody without a name."""


@attrs.frozen
class Traffic:
    """One of them, at one moment."""

    id: str
    """By which it can be ended; unique in this process."""
    kind: str
    """``channel``, ``pair``, ``waiting``, ``relay``, ``session``, ``client`` or ``association``."""
    who: str
    """The peer's verified name; at a middle what both ends call themselves, which is not proved."""
    what: str
    """Where it leads."""
    origin: str
    """Addresses that it comes from; empty: this process."""
    seconds: float | None
    """Since it began; None: that is not kept."""
    sent: int
    """Bytes to the far side, or from the second party to the first."""
    received: int
    state: str
