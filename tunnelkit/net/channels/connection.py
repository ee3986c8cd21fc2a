"""One tunnel connection that is up: a mux and its channels on a `TlsStream`.

`TunnelConnection` opens and answers channels, and does what follows from the mux's events. What
goes out is the affair of its `tunnelkit.net.channels.scheduler.Scheduler`, what comes in of its
`tunnelkit.net.channels.inbound.Inbound`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.path import Path
from tunnelkit.errors import ChannelRefused, Code, ProtocolError, TunnelkitError
from tunnelkit.net.channels.addressed_flows import UdpFlows
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.channel_log import ChannelLog, ChannelLogOwner
from tunnelkit.net.channels.channel_table import ChannelTable
from tunnelkit.net.channels.contracts import (
    ChannelOpening,
    ChannelRecord,
    Connection,
    LocalSide,
    PathHop,
)
from tunnelkit.net.channels.half_closed import HalfClosedChannels
from tunnelkit.net.channels.inbound import Inbound
from tunnelkit.net.channels.request import AcceptingSide, ChannelRequest
from tunnelkit.net.channels.scheduler import Scheduler
from tunnelkit.net.channels.udp_flow import ChannelUdpFlow
from tunnelkit.net.channels.unanswered import UnansweredRequests
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.stream import TlsStream
from tunnelkit.net.traffic import Traffic

_log = Logger()


class ConnectionOwner(ChannelLogOwner, Protocol):
    """Who is told what happens to a connection as a whole."""

    def connection_up(self, connection: TunnelConnection) -> None:
        """Channels may be opened."""

    def connection_ended(
        self, connection: TunnelConnection, code: Code | None, reason: str
    ) -> None:
        """Every channel is over and the connection is closing; ``code`` None: cleanly."""

    def channel_requested(self, request: ChannelRequest) -> None:
        """The far side wants a channel: attach or refuse ``request``, now or later."""


class TunnelConnection:
    """Channels of one tunnel connection.

    ``peer`` is the verified name of the other end. The stream's handshake is
    over; `start` takes it over from whoever drove it so far.
    """

    def __init__(
        self, shared: Shared, stream: TlsStream, mux: t.TunnelMux, peer: str, owner: ConnectionOwner
    ) -> None:
        self.stream = stream
        self.mux = mux
        self._ask = mux.open
        self.peer = peer
        self.up = False
        self.draining = False
        self.far_address = stream.carrier.far_address
        """Where the connection comes from, or leads to: the other end's, or a relay's."""
        self.started = shared.reactor.seconds()
        self.bytes_sent = 0
        self._shared = shared
        self.clock: Callable[[], float] = shared.reactor.seconds
        self.datagrams = UdpFlows(self)
        self._owner = owner
        self._channel_log = ChannelLog(peer, self.far_address, shared.serials, owner)
        self._channels = ChannelTable(self._channel_log)
        self._requests = UnansweredRequests(shared.early_data, owner.channel_requested)
        self._scheduler = Scheduler(self, shared)
        self._half_closed = HalfClosedChannels(
            shared.reactor, shared.half_closed_limit, self._channels.by_number, self.abort
        )
        self._inbound = Inbound(
            self,
            self._channels.by_number,
            self._requests,
            self._half_closed,
            self._scheduler,
            shared,
        )
        self.tls_received = self._inbound.received
        self.flush = self._inbound.flush
        self.schedule = self._scheduler.schedule
        self.hops: tuple[PathHop, ...] = ()
        """The parties on its path, own end first, once it is up."""
        self._another = _no_other
        self._loss = ""
        self._over = False
        self._ended: t.TunnelEnded | None = None
        self.handlers: dict[type, Callable[[Any], None]] = {
            t.Writable: self._on_writable,
            t.Finished: self._inbound.finished,
            t.TunnelUp: self._on_up,
            t.ChannelRequested: self._on_requested,
            t.ChannelOpened: self.channel_opened,
            t.ChannelEnded: self.channel_ended,
            t.Draining: self._on_draining,
            t.Datagram: self._inbound.datagram,
            t.TunnelEnded: self._on_tunnel_ended,
        }

    def start(self, leftover: bytes = b"") -> None:
        """Begin; ``leftover`` is plaintext that arrived behind what was spoken before."""
        self._shared.holders.add(self)
        self.stream.replace_sink(self)
        if leftover:
            self.tls_received(memoryview(leftover))
        self._scheduler.run()

    def handle(self, event: type, handler: Callable[[Any], None]) -> None:
        """Let ``handler`` have the events of a type that only one channel protocol has."""
        self.handlers[event] = handler

    def make_another(self, make: Callable[[], Deferred[Connection]]) -> None:
        """See `ExtendedConnection`."""
        self._another = make

    def another(self) -> Deferred[Connection]:
        """See `Connection`."""
        return self._another()

    # -- verbs ------------------------------------------------------------

    def open(self, destination: str, side: LocalSide, via: tuple[str, ...] = ()) -> Deferred[str]:
        """Open a channel to ``destination`` for ``side``; ``via``: see `OnwardMux`.

        The result is the far socket's own address. Fails with `ChannelRefused`;
        the side has been reset then. What the application sends before travels
        with the request.
        """
        if via:
            return self._open(
                destination, side, lambda to, now: t.open_onward(self.mux, to, via, now)
            )
        return self._open(destination, side, self._ask)

    def lacks(self, destination: str) -> str:
        """Why the far side cannot be asked for ``destination``, whatever it allows; empty if it
        can, see `Mux.lacks`."""
        return self.mux.lacks(destination)

    def open_accepted(self, listener: Channel, origin: str, side: LocalSide) -> Deferred[str]:
        """Hand a connection to the far side that was accepted for it here, otherwise as `open`.

        ``listener`` is the channel by which it has this end listen, ``origin`` the client.
        """
        number, destination = listener.id, listener.destination
        ask = self.mux.open_accepted
        return self._open(destination, side, lambda _, now: ask(number, origin, now))

    def _open(
        self, destination: str, side: LocalSide, ask: Callable[[str, float], int]
    ) -> Deferred[str]:
        now = self.clock()
        try:
            number = ask(destination, now)
        except ProtocolError as error:
            code = getattr(error, "code", Code.INTERNAL)
            side.reset(code, str(error))
            return fail(ChannelRefused(code, str(error)))
        channel = Channel(self, number, side, destination, False, now)
        opening = self._channels.asked(channel)
        side.attach(channel)
        self._scheduler.want()
        return opening

    def accept(
        self, request: ChannelRequest, side: LocalSide, bound: str, rule: str = ""
    ) -> Channel:
        """`ChannelRequest.attach` ends here."""
        self._requests.remove(request)
        now = self.clock()
        channel = Channel(self, request.channel, side, request.destination, True, now)
        channel.rule = rule
        self._channels.accepted(channel, request.origin or self.far_address, now - request.came)
        request.give_early(channel)
        if channel.far_finished and not self._half_closed.looking:
            self._half_closed.begin()
        events = self.mux.opened(request.channel, bound)
        side.attach(channel)
        if channel.queue or channel.far_finished:
            self.flush(channel)
        if events:
            self.dispatch(events)
        self._scheduler.want()
        if isinstance(side, ChannelUdpFlow) and request.early_datagrams:
            self._shared.poller.after_batch(partial(request.deliver_datagrams, channel, side))
        return channel

    def send_datagram(
        self,
        flow: int,
        source: tuple[str, int],
        destination: tuple[str, int],
        data: bytes | memoryview,
    ) -> bool:
        """Send one datagram, see `DatagramMux.send_datagram`."""
        sent = self.mux.send_datagram(flow, source, destination, data, self.clock())
        if sent:
            self.bytes_sent += len(data)
            self._scheduler.want()
        return sent

    def refuse(self, request: ChannelRequest, code: Code, reason: str) -> None:
        """`ChannelRequest.refuse` ends here."""
        self._requests.remove(request)
        self.dispatch(self.mux.refuse(request.channel, code, reason))
        self._channel_log.refused(request, code, reason)
        self._scheduler.want()

    def request(self, request: ChannelRequest) -> None:
        """The far side wants something; somebody answers."""
        self._owner.channel_requested(request)

    def flow_began(self, destination: str, inbound: bool, near: str) -> ChannelOpening:
        """A flow without a channel has begun, here for ``near``."""
        return self._channel_log.flow_began(destination, inbound, near)

    def flow_ended(self, record: ChannelRecord) -> None:
        """A flow without a channel is over."""
        self._owner.channel_ended(record)

    def abort(self, channel: Channel, code: Code, reason: str) -> None:
        """Reset one channel on both sides."""
        self.dispatch(self.mux.abort(channel.id, code, reason, self.clock()))
        self._scheduler.want()

    def near_finished(self, channel: Channel, now: float) -> None:
        """The application has sent its last byte: the far side is to know."""
        channel.near_finished = True
        if not self._half_closed.looking:
            self._half_closed.begin()
        events = self.mux.finish(channel.id, now)
        if events:
            self.dispatch(events)

    def shutdown(self, grace: float, reason: str) -> None:
        """Drain, see `Mux.shutdown`."""
        self.draining = True
        self.dispatch(self.mux.shutdown(grace, reason, self.clock()))
        self._scheduler.want()

    def end(self, code: Code, reason: str) -> None:
        """End the connection at once; its channels are reset."""
        self.dispatch(self.mux.connection_lost(False, self.clock()))

    @property
    def channel_count(self) -> int:
        """Channels open now."""
        return len(self._channels.by_number)

    @property
    def queued(self) -> int:
        """Bytes that wait for applications here."""
        return self._channels.queued

    @property
    def bytes_received(self) -> int:
        """Payload of channels and flows."""
        return self._inbound.bytes_received

    @property
    def path(self) -> Path:
        """What is known of the way to the other end."""
        return self.mux.path

    def traffic(self) -> Iterator[Traffic]:
        """A row for each channel."""
        return self._channels.traffic(self.peer, self.far_address, self.clock())

    def end_channel(self, serial: int) -> bool:
        """Reset the channel with that number on both sides; False: there is none."""
        channel = self._channels.with_serial(serial)
        if channel is not None:
            self.abort(channel, Code.RESET, "ended by hand")
        return channel is not None

    # -- scheduling -------------------------------------------------------

    def pump(self) -> None:
        """Send what can be sent."""
        self._scheduler.run()

    # -- the TLS stream ---------------------------------------------------

    def tls_ready(self) -> None:
        """Over before a connection begins."""

    def tls_writable(self) -> None:
        """See `TlsSink`."""
        self.pump()

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        """See `TlsSink`."""
        if self._ended is None:
            # What the other end said before it left tells more than that it left.
            self._loss = str(reason)
        self.dispatch(self.mux.connection_lost(clean, self.clock()))

    # -- events -----------------------------------------------------------

    def dispatch(self, events: Iterable[t.Event]) -> None:
        """Do what has happened, as any verb of the mux says."""
        handlers = self.handlers
        for event in events:
            handlers.get(type(event), self.decline)(event)

    def decline(self, event: t.ExtensionEvent) -> None:
        """Nobody here knows ``event``."""
        self.dispatch(self.mux.decline(event))
        self._scheduler.want()

    def _on_up(self, event: t.TunnelUp) -> None:
        self.up = True
        self._owner.connection_up(self)

    def _on_writable(self, event: t.Writable) -> None:
        channel = self._channels.by_number.get(event.channel)
        if channel is not None and not channel.scheduled:
            channel.ready()

    def _on_requested(self, event: t.ChannelRequested) -> None:
        listener = self._channels.by_number.get(event.listener) if event.listener else None
        destination = event.destination if listener is None else listener.destination
        request = ChannelRequest(
            self, event.channel, destination, listener, event.origin, self.clock(), event.via
        )
        self._requests.add(request)
        if event.listener and (listener is None or not isinstance(listener.side, AcceptingSide)):
            request.refuse(Code.NO_SUCH_SERVICE, "nobody listens any more")

    def channel_opened(self, event: t.ChannelOpened) -> None:
        """A channel asked for here is connected."""
        self._channels.opened(event.channel, event.bound, self.clock())

    def channel_ended(self, event: t.ChannelEnded) -> None:
        """A channel is over."""
        if event.channel not in self._requests.by_channel:
            self._channels.ended(event, self.clock())
        else:
            self._requests.abandoned(event.channel)

    def _on_draining(self, event: t.Draining) -> None:
        self.draining = True

    def _on_tunnel_ended(self, event: t.TunnelEnded) -> None:
        # Not here: this may have been caused from within the pump.
        self.up = False
        self._ended = event
        self.datagrams.over(event.code or Code.SHUTDOWN, event.reason)
        self._shared.poller.after_batch(self._finish)

    def _finish(self) -> None:
        event = self._ended
        if self._over or event is None:
            return
        self._scheduler.run()
        self._over = True
        self._scheduler.stop()
        self._half_closed.stop()
        self._shared.holders.discard(self)
        self.stream.close()
        self._owner.connection_ended(self, event.code, self._loss or event.reason)

    # -- memory -----------------------------------------------------------

    def biggest_queue(self) -> int:
        """See `Holder`."""
        channel = self._channels.most_queued()
        return channel.queued if channel is not None else 0

    def drop_biggest_queue(self) -> None:
        """See `Holder`."""
        channel = self._channels.most_queued()
        if channel is not None:
            _log.warn("Closing a channel to {to}: too much data waits", to=channel.destination)
            self.abort(channel, Code.LIMIT, "too much data is waiting for applications")


def _no_other() -> Deferred[Connection]:
    return fail(ChannelRefused(Code.UNREACHABLE, "this end cannot make another connection"))
