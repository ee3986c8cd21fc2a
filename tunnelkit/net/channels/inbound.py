"""The way in of a tunnel connection: from its stream through the mux to the sides of channels.

The opposite of `tunnelkit.net.channels.scheduler`. Data goes from the buffer that TLS has filled
to the application; only what that does not take is copied, and waits in its channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tunnelkit.core.mux import contract as t
from tunnelkit.errors import Code
from tunnelkit.net.channels.addressed_flows import UdpFlows
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.half_closed import HalfClosedChannels
from tunnelkit.net.channels.scheduler import Scheduler
from tunnelkit.net.channels.udp_flow import ChannelUdpFlow
from tunnelkit.net.channels.unanswered import UnansweredRequests
from tunnelkit.net.sockets.context import Shared


class InboundConnection(Protocol):
    """What the way in needs of its connection."""

    mux: t.TunnelMux
    clock: Callable[[], float]
    datagrams: UdpFlows
    handlers: dict[type, Callable[[Any], None]]
    """Do what follows from events."""

    def decline(self, event: t.ExtensionEvent) -> None:
        """The same of one that has no handler."""

    def dispatch(self, events: Iterable[t.Event]) -> None:
        """Do what follows from ``events``."""

    def abort(self, channel: Channel, code: Code, reason: str) -> None:
        """Reset a channel on both sides."""


class Inbound:
    """Of ``connection``; ``channels`` by number and ``requests`` are those of it."""

    __slots__ = (
        "_channels",
        "_clock",
        "_connection",
        "_half_closed",
        "_header_size",
        "_mux",
        "_requests",
        "_scheduler",
        "_shared",
        "bytes_received",
    )

    def __init__(
        self,
        connection: InboundConnection,
        channels: Mapping[int, Channel],
        requests: UnansweredRequests,
        half_closed: HalfClosedChannels,
        scheduler: Scheduler,
        shared: Shared,
    ) -> None:
        self.bytes_received = 0
        """Payload of channels and flows."""
        self._connection = connection
        self._clock = connection.clock
        self._mux = connection.mux
        self._header_size = connection.mux.header_size
        self._channels = channels
        self._requests = requests
        self._half_closed = half_closed
        self._scheduler = scheduler
        self._shared = shared

    def received(self, view: memoryview) -> None:
        """Everything that comes in comes this way, see `TlsSink.tls_received`."""
        now = self._clock()
        mux = self._mux
        channels = self._channels
        number = mux.receive_data(view, now)
        if number:
            channel = channels.get(number)
            if channel is not None:
                self._deliver(channel, view[self._header_size :], now)
                # What was taken of an open channel causes nothing but reports.
                if (
                    mux.flow.soonest < self._scheduler.due
                    or channel.near_finished
                    or channel.far_finished
                ):
                    self._scheduler.want()
            return
        connection = self._connection
        requests = self._requests
        handlers = connection.handlers
        for event in mux.receive(view, now):
            if type(event) is t.Data:
                channel = channels.get(event.channel)
                if channel is not None:
                    self._deliver(channel, event.data, now)
                elif requests.keep(event.channel, event.data):
                    self.bytes_received += len(event.data)
            else:
                handlers.get(type(event), connection.decline)(event)
        if requests.unsettled:
            # Not sooner: what is refused must not have ended by an event that is still to come.
            requests.settle()
        self._scheduler.want()

    def _deliver(self, channel: Channel, data: memoryview, now: float) -> None:
        size = len(data)
        self.bytes_received += size
        channel.bytes_received += size
        taken = 0
        if not channel.queue:
            try:
                taken = channel.side.push(data)
            except OSError as error:
                self._application_gone(channel, error)
                return
            if taken:
                events = self._mux.consumed(channel.id, taken, now)
                if events:
                    self._connection.dispatch(events)
            if taken == size:
                return
        if channel.connection is not None:
            channel.wait(data[taken:])
            channel.queued += size - taken
            if self._shared.budget.exceeded:
                self._shared.relieve()

    def flush(self, channel: Channel) -> None:
        """The side of ``channel`` takes data again."""
        queue = channel.queue
        taken = 0
        try:
            while queue:
                piece = queue[0]
                size = channel.side.push(memoryview(piece))
                taken += size
                if size < len(piece):
                    queue[0] = memoryview(piece)[size:]
                    break
                queue.popleft()
        except OSError as error:
            self._application_gone(channel, error)
            return
        channel.queued -= taken
        if channel.far_finished and not queue:
            channel.side.finish()
        if taken:
            now = self._connection.clock()
            self._connection.dispatch(self._mux.consumed(channel.id, taken, now))
            self._scheduler.want()

    def _application_gone(self, channel: Channel, error: OSError) -> None:
        reason = error.strerror or "the application is gone"
        self._connection.abort(channel, Code.RESET, reason)

    # -- events -----------------------------------------------------------

    def finished(self, event: t.Finished) -> None:
        """The far application has sent everything."""
        channel = self._channels.get(event.channel)
        if channel is None:
            self._requests.finished(event.channel)
            return
        channel.far_finished = True
        if not self._half_closed.looking:
            self._half_closed.begin()
        if not channel.queue:
            channel.side.finish()

    def datagram(self, event: t.Datagram) -> None:
        """A datagram, of a flow with a channel or without."""
        if not event.flow:
            self.bytes_received += len(event.data)
            self._connection.datagrams.received(event)
            return
        channel = self._channels.get(event.flow)
        if channel is None:
            if self._requests.keep_datagram(event):
                self.bytes_received += len(event.data)
            return
        self.bytes_received += len(event.data)
        if isinstance(channel.side, ChannelUdpFlow):
            remote = event.destination if channel.inbound else event.source
            channel.bytes_received += len(event.data)
            channel.side.received(remote, event.data)
