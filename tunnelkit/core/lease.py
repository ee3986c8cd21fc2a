"""One client's presence at one server, for so long as it is renewed (row S12)."""

from __future__ import annotations

import attrs

LEASE = 30.0
"""Seconds for which a lease lasts without being renewed: three KEEPALIVEs."""


@attrs.frozen
class Lease:
    """What an `IRegistry` has given out."""

    name: str
    """The client's."""
    run: str
    """Of its process: the same one may always take its own place."""
    server: str
    """The name of the server that it is connected to."""
    generation: int
    """Higher than that of every lease of this name before."""
