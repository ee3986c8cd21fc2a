"""The leases of the clients at one Communication Server, in an `IRegistry` (row S12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.lease import Lease
from tunnelkit.core.secureproxy.commands import Claim
from tunnelkit.core.secureproxy.connection import ServerConnection, State
from tunnelkit.errors import Code
from tunnelkit.interfaces import IRegistry

_log = Logger()

RENEWAL = 5.0
"""Seconds between two renewals of one lease: KEEPALIVE comes every 10."""


@attrs.define
class _Held:
    """A lease, and when it was last renewed."""

    lease: Lease
    at: float


class Leases:
    """``server`` is the name under which they are claimed.

    ``claimed(connection, generation)`` and ``not_claimed(connection, code, reason)`` are told what
    became of a `Claim`; the second also of a lease that another has taken over.
    """

    def __init__(
        self,
        reactor: Any,
        registry: IRegistry,
        server: str,
        claimed: Callable[[ServerConnection, int], object],
        not_claimed: Callable[[ServerConnection, Code, str], object],
    ) -> None:
        self._reactor = reactor
        self._registry = registry
        self._server = server
        self._told_claimed = claimed
        self._told_not = not_claimed
        self._held: dict[ServerConnection, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def claim(self, claim: Claim) -> None:
        """Ask for it; not from within the core's own turn."""
        self._reactor.callLater(0, self._claim, claim)

    def _claim(self, claim: Claim) -> None:
        connection = claim.connection
        asked = self._registry.claim(connection.name, claim.run, self._server, claim.replace)
        asked.addCallbacks(
            self._claimed, self._nobody_knows, callbackArgs=(connection,), errbackArgs=(connection,)
        )

    def _claimed(self, lease: Lease | None, connection: ServerConnection) -> None:
        if lease is None:
            reason = f"{connection.name} is registered already"
            self._told_not(connection, Code.REFUSED, reason)
            return
        self._held[connection] = _Held(lease, self._reactor.seconds())
        self._told_claimed(connection, lease.generation)
        if connection.state is not State.PRESENT:
            # It has gone in the meantime, or may not stay.
            self.release(connection)

    def _nobody_knows(self, failure: Failure, connection: ServerConnection) -> None:
        _no_answer(failure)
        self._told_not(connection, Code.INTERNAL, "nobody knows who is registered")

    def heard_from(self, connection: ServerConnection) -> None:
        """It is alive: its lease, if it has one, is renewed now and then."""
        held = self._held.get(connection)
        now = self._reactor.seconds()
        if held is None or now - held.at < RENEWAL:
            return
        held.at = now
        # Without an answer the next sign of life asks again: the lease may not be over yet.
        self._registry.renew(held.lease).addCallbacks(
            self._renewed, _no_answer, callbackArgs=(connection,)
        )

    def _renewed(self, still: bool, connection: ServerConnection) -> None:
        if not still and connection in self._held:
            self._told_not(connection, Code.REPLACED, "registered elsewhere")

    def release(self, connection: ServerConnection) -> None:
        """It is not present any more."""
        held = self._held.pop(connection, None)
        if held is not None:
            self._registry.release(held.lease).addErrback(_no_answer)


def _no_answer(failure: Failure) -> None:
    _log.error("The registry gives no answer: {reason}", reason=failure.getErrorMessage())
