"""Trusted sockets on a connection: what is published here, and what the far side publishes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunnelkit.core.lstp.events import ServicesChanged
from tunnelkit.core.lstp.life import Life
from tunnelkit.core.lstp.outbox import Outbox
from tunnelkit.core.mux import contract as t
from tunnelkit.core.socket_table import SocketTable, TrustedSocket, is_trusted_socket
from tunnelkit.errors import Code
from tunnelkit.wire import lstp


class TrustedSockets:
    """Both tables of a tunnel (rows T1, T2).

    A further connection has those of its ``parent``, the tunnel's first connection: it neither
    announces nor takes anything, and looks entries up there.
    """

    __slots__ = ("_announced", "_life", "_outbox", "deadline", "far", "further", "published")

    def __init__(
        self,
        life: Life,
        outbox: Outbox,
        published: SocketTable | None,
        parent: TrustedSockets | None,
    ) -> None:
        self.far: SocketTable = SocketTable() if parent is None else parent.far
        """What the far side publishes."""
        self.published = SocketTable() if published is None else published
        self.further = parent is not None
        self.deadline: float | None = None
        """When the next entry of the far side expires."""
        self._life = life
        self._outbox = outbox
        self._announced: tuple[TrustedSocket, ...] = tuple(self.published)

    def first_announcement(self, now: float) -> tuple[lstp.Service, ...] | None:
        """``services`` of the first PROPERTY_EXCHANGE; None: nothing is published."""
        return self.published.announcement(now, lstp.Service) if self._announced else None

    def announce(self, now: float) -> None:
        """Send the table of what is published here, if it has changed since it was sent."""
        self._life.now = now
        entries = tuple(self.published)
        if entries != self._announced and not self._life.over:
            self._announced = entries
            services = self.published.announcement(now, lstp.Service)
            self._outbox.put(lstp.PropertyExchange(services=services))

    def check(self, service: str, now: float) -> None:
        """Nothing is asked of the far side that it has not published: raises `LimitReached`."""
        if is_trusted_socket(service) and self.far.get(service, now) is None:
            raise t.LimitReached("the far side does not publish it", Code.NO_SUCH_SERVICE)

    def take(self, services: Iterable[lstp.Service], now: float) -> Sequence[t.Event]:
        """The far side's table has come."""
        if self.further:
            return t.NO_EVENTS
        changed = self.far.take(services, now)
        self.deadline = self.far.next_deadline()
        return [self._changed()] if changed else t.NO_EVENTS

    def expire(self, now: float) -> Sequence[t.Event]:
        """Drop the far side's entries whose time is over."""
        if self.deadline is None or now < self.deadline or not self.far.expire(now):
            return t.NO_EVENTS
        self.deadline = self.far.next_deadline()
        return [self._changed()]

    def _changed(self) -> ServicesChanged:
        return ServicesChanged(tuple(self.far))
