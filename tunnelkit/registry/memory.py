"""A registry for one server, in its memory (row S12)."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from tunnelkit.core.lease import LEASE, Lease
from tunnelkit.interfaces import IRegistry


@attrs.define
class _Held:
    lease: Lease
    until: float


@implementer(IRegistry)
class MemoryRegistry:
    """``now`` is a clock that never goes back; ``first_generation`` the wall clock's milliseconds,
    so that a restarted server's generations are higher than those before."""

    def __init__(self, now: Callable[[], float], first_generation: int) -> None:
        self._now = now
        self._generation = first_generation
        self._held: dict[str, _Held] = {}

    def claim(self, name: str, run: str, server: str, replace: bool) -> Deferred[Lease | None]:
        """See `IRegistry`."""
        before = self._living(name)
        if before is not None and before.lease.run != run and not replace:
            return succeed(None)
        self._generation += 1
        lease = Lease(name, run, server, self._generation)
        self._held[name] = _Held(lease, self._now() + LEASE)
        return succeed(lease)

    def renew(self, lease: Lease) -> Deferred[bool]:
        """See `IRegistry`."""
        held = self._living(lease.name)
        if held is None or held.lease != lease:
            return succeed(False)
        held.until = self._now() + LEASE
        return succeed(True)

    def release(self, lease: Lease) -> Deferred[None]:
        """See `IRegistry`."""
        held = self._held.get(lease.name)
        if held is not None and held.lease == lease:
            del self._held[lease.name]
        return succeed(None)

    def _living(self, name: str) -> _Held | None:
        held = self._held.get(name)
        return None if held is None or held.until <= self._now() else held
