"""A client of a Communication Server: asks for others, and is asked for (rows S4, S6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tunnelkit.net.channels.end import TunnelEnd
from tunnelkit.net.channels.progress import Progress
from tunnelkit.net.secureproxy.control import Registration
from tunnelkit.net.secureproxy.rendezvous import TargetRendezvous
from tunnelkit.net.secureproxy.sites import Sites
from tunnelkit.net.tls.context import TlsContext


class SecureProxyEnd:
    """Several ends with one tunnel: those of ``asks`` go out by name, ``target`` is who others ask
    for, by the rendezvous ``published``. To be told to connect and disconnect is for the former."""

    def __init__(
        self,
        reactor: Any,
        asks: Sequence[TunnelEnd],
        target: TunnelEnd | None,
        published: TargetRendezvous | None,
        sites: Sites,
    ) -> None:
        self.sites = sites
        self._asks = list(asks)
        self._target = target
        self._published = published
        self._idle = Progress(reactor, lambda seconds: None)
        self._running = False
        self._leaving: set[TunnelEnd] = set()

    @property
    def _ends(self) -> list[TunnelEnd]:
        return self._asks if self._target is None else [*self._asks, self._target]

    def add(self, end: TunnelEnd) -> None:
        """Let ``end`` go out by name too."""
        end.manual = self.manual
        self._asks.append(end)
        if self._running:
            end.start()

    def remove(self, end: TunnelEnd, grace: float) -> None:
        """It is not needed any more."""
        self._asks.remove(end)
        self._leaving.add(end)
        end.stop(grace).addCallback(lambda _: self._leaving.discard(end))

    @property
    def asking(self) -> tuple[TunnelEnd, ...]:
        """Those that go out by name."""
        return tuple(self._asks)

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
        return any(end.manual for end in self._asks)

    @manual.setter
    def manual(self, manual: bool) -> None:
        for end in self._asks:
            end.manual = manual

    @property
    def wanted(self) -> bool:
        """See `TunnelEnd`."""
        return any(end.wanted for end in self._ends)

    @property
    def progress(self) -> Progress:
        """See `TunnelEnd`: that of the first end which asks, if there is one."""
        return self._ends[0].progress if self._ends else self._idle

    @property
    def draining(self) -> int:
        """See `TunnelEnd`."""
        return sum(end.draining for end in self._ends)

    def start(self) -> None:
        """Register, and ask for sessions."""
        self._running = True
        if self._published is not None:
            self._published.start()
        for end in self._ends:
            end.start()

    def stop(self, grace: float) -> Deferred[Any]:
        """See `TunnelEnd`; browsers that are passed on may finish too."""
        if self._published is not None:
            self._published.stop("this client is stopping")
        self._running = False
        ends = [*self._ends, *self._leaving]
        stopping: list[Deferred[Any]] = [end.stop(grace) for end in ends]
        return gatherResults([*stopping, self.sites.drain()])

    def connect(self) -> None:
        """See `TunnelEnd`."""
        for end in self._asks:
            end.connect()

    def disconnect(self, grace: float) -> None:
        """See `TunnelEnd`; sessions that others began are drained too, later ones are taken."""
        for end in self._ends:
            end.disconnect(grace)
        if self._target is not None:
            self._target.connect()
