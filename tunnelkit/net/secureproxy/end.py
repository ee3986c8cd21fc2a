"""A client of a Communication Server: asks for others, and is asked for (rows S4, S6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tunnelkit.net.channels.end import Stage, TunnelEnd
from tunnelkit.net.secureproxy.control import Registration
from tunnelkit.net.secureproxy.rendezvous import TargetRendezvous
from tunnelkit.net.secureproxy.sites import Sites
from tunnelkit.net.tls.context import TlsContext


class SecureProxyEnd:
    """Up to two ends with one tunnel: ``asks`` goes out by name, ``target`` is who others ask for,
    by the rendezvous ``published``. ``members`` of groups have a tunnel of their own each.
    To be told to connect and disconnect is for the first."""

    def __init__(
        self,
        asks: TunnelEnd | None,
        target: TunnelEnd | None,
        published: TargetRendezvous | None,
        sites: Sites,
        members: Sequence[TunnelEnd] = (),
    ) -> None:
        self.sites = sites
        self._asks = asks
        self._target = target
        self._published = published
        self._ends = [end for end in (asks, target, *members) if end is not None]

    @property
    def registration(self) -> Registration | None:
        """At the server; None: nothing is published."""
        return None if self._published is None else self._published.registration

    @property
    def context(self) -> TlsContext:
        """For the TLS between the two clients."""
        return self._ends[0].context

    @context.setter
    def context(self, context: TlsContext) -> None:
        for end in self._ends:
            end.context = context

    @property
    def manual(self) -> bool:
        """See `TunnelEnd`."""
        return self._asks is not None and self._asks.manual

    @manual.setter
    def manual(self, manual: bool) -> None:
        if self._asks is not None:
            self._asks.manual = manual

    @property
    def wanted(self) -> bool:
        """See `TunnelEnd`."""
        return any(end.wanted for end in self._ends)

    @property
    def stage(self) -> Stage:
        """See `TunnelEnd`: that of the end which asks, if there is one."""
        return self._ends[0].stage if self._ends else Stage.WAITING

    @property
    def draining(self) -> int:
        """See `TunnelEnd`."""
        return sum(end.draining for end in self._ends)

    def start(self) -> None:
        """Register, and ask for a session."""
        if self._published is not None:
            self._published.start()
        for end in self._ends:
            end.start()

    def stop(self, grace: float) -> Deferred[Any]:
        """See `TunnelEnd`; browsers that are passed on may finish too."""
        if self._published is not None:
            self._published.stop("this client is stopping")
        stopping: list[Deferred[Any]] = [end.stop(grace) for end in self._ends]
        return gatherResults([*stopping, self.sites.drain()])

    def connect(self) -> None:
        """See `TunnelEnd`."""
        if self._asks is not None:
            self._asks.connect()

    def disconnect(self, grace: float) -> None:
        """See `TunnelEnd`; sessions that others began are drained too, later ones are taken."""
        for end in self._ends:
            end.disconnect(grace)
        if self._target is not None:
            self._target.connect()
