"""LSTP's tunnel as a whole, beneath its channels: properties, limits, further connections, the end.

`TunnelActions` is the part of `LstpMux` that messages on channel 0, time, and
answers to requests for further connections concern.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from tunnelkit.core.lstp.actions import read
from tunnelkit.core.lstp.channel import LstpChannel, State
from tunnelkit.core.lstp.compression import NONE, agreed
from tunnelkit.core.lstp.datagrams import DatagramActions
from tunnelkit.core.lstp.socket_table import SocketTable, TrustedSocket, is_trusted_socket
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.path import Path
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import MessageType as M

_SHORTEST_KEEPALIVE = 1.0
"""A peer that announces less seconds than this is taken at this many."""


@attrs.frozen
class MuxConfig:
    """What this end says of itself in its PROPERTY_EXCHANGE."""

    window: int = 262_144
    """Bytes the peer may send on a new channel before the first grant."""
    max_channels: int = 1024
    """Channels that the peer may have open at once."""
    keepalive: float = 10.0
    """This end sends something at least every so many seconds."""
    software: str = ""
    compression: tuple[str, ...] = (NONE,)
    """What this end can do, the best first, of `tunnelkit.core.lstp.compression.AVAILABLE`."""


@attrs.define
class _Peer:
    """What the other end said of itself; absent fields keep their value."""

    window: int = 262_144
    max_channels: int = 1024
    keepalive: float = 10.0


class TunnelActions(DatagramActions):
    """What concerns one tunnel connection as a whole; parameters as for `LstpMux`."""

    def __init__(
        self,
        master: bool,
        config: MuxConfig,
        now: float,
        budget: Budget | None,
        parent: TunnelActions | None,
        published: SocketTable | None,
    ) -> None:
        super().__init__(budget if budget is not None else Budget(), now)
        self.config = config
        self._peer: _Peer = _Peer() if parent is None else attrs.evolve(parent._peer)
        self._settled = parent is not None
        """Window and compression are known: the first PROPERTY_EXCHANGE says them."""
        self._master = master
        self._next_id = 1 if master else 2
        self._joins: set[int] = set()
        """Ids under which further connections have been asked for."""
        self._heard = now
        self._said = now
        self._up = False
        self._drained_by: float | None = None
        self.trusted: SocketTable = SocketTable() if parent is None else parent.trusted
        """What the far side publishes (rows T1, T2)."""
        self._further = parent is not None
        self._published = SocketTable() if published is None else published
        self._announced: tuple[TrustedSocket, ...] = tuple(self._published)
        self._compression: str = NONE if parent is None else parent._compression
        """What has been agreed on for all channels."""
        own = lstp.PropertyExchange()
        if parent is None:
            own = lstp.PropertyExchange(
                software=config.software or None,
                window=config.window,
                max_channels=config.max_channels,
                keepalive=config.keepalive,
                compression=config.compression if config.compression != (NONE,) else None,
                services=self._published.announcement(now) if self._announced else None,
            )
        self._put(lstp.encode(own))

    @property
    def path(self) -> Path:
        """What is known of the way to the other end."""
        return self.flow.path

    @property
    def budget(self) -> Budget:
        """What all channels of the process may hold."""
        return self.flow.budget

    # -- trusted sockets --------------------------------------------------

    def announce(self, now: float) -> None:
        """Send the table of what is published here, if it has changed since it was sent."""
        self._now = now
        entries = tuple(self._published)
        if entries != self._announced and not self._over:
            self._announced = entries
            services = self._published.announcement(now)
            self._put(lstp.encode(lstp.PropertyExchange(services=services)))

    def _check_published(self, service: str) -> None:
        """Nothing is asked of the far side that it has not published (row T2)."""
        if is_trusted_socket(service) and self.trusted.get(service, self._now) is None:
            raise t.LimitReached("the far side does not publish it", Code.NO_SUCH_SERVICE)

    def _services_changed(self) -> t.ServicesChanged:
        return t.ServicesChanged(tuple(self.trusted))

    # -- further connections ----------------------------------------------

    def request_connection(self, join: str, now: float) -> int:
        """Ask for a further tunnel connection that meets under ``join``; raises `LimitReached`.

        The answer is `ChannelOpened` or `ChannelEnded` for the id that is returned.
        """
        self._now = now
        self._check_open()
        number = self._allocate()
        self._joins.add(number)
        self._put(lstp.encode(lstp.ConnectionRequest("connection", join=join), number))
        return number

    def accept_connection(self, channel: int) -> None:
        """Answer `ConnectionRequested`: this end dials too."""
        self._put(lstp.encode(lstp.ConnectionAck(), channel))

    def refuse_connection(self, channel: int, code: Code, reason: str) -> None:
        """Answer `ConnectionRequested`: it does not."""
        self._put(lstp.encode(lstp.ConnectionNack(code, reason), channel))
        self._remember(channel)

    def _join_answered(self, number: int, kind: int, flags: int, body: bytes) -> list[t.Event]:
        self._joins.discard(number)
        try:
            message = read(kind, flags, body)
            if isinstance(message, lstp.ConnectionAck):
                return [t.ChannelOpened(number)]
            if not isinstance(message, lstp.ConnectionNack | lstp.Error):
                raise RemoteProtocolError(f"{M(kind).name} in answer to a CONNECTION_REQUEST")
        except RemoteProtocolError as error:
            self._put_error(number, error.code, str(error))
            return [t.ChannelEnded(number, error.code, str(error), refused=True)]
        return [t.ChannelEnded(number, message.code, message.reason, refused=True)]

    # -- life -------------------------------------------------------------

    def shutdown(self, grace: float, reason: str, now: float) -> Sequence[t.Event]:
        """Drain: no new channels, the end when the open ones are over or after ``grace``.

        Said again, or after the far side has said it, it can only shorten the time.
        """
        self._now = now
        if self._over or (self._drained_by is not None and self._drained_by <= now + grace):
            return t.NO_EVENTS
        self._draining = True
        self._drained_by = now + grace
        self._put(lstp.encode(lstp.Shutdown(grace, reason)))
        return self._maybe_over()

    def connection_lost(self, clean: bool, now: float) -> Sequence[t.Event]:
        """The connection is gone; every channel still open is reset."""
        self._now = now
        if self._over:
            return t.NO_EVENTS
        # A tunnel whose last channel has ended is over already, so this is no clean end for anyone.
        if clean and self._draining:
            return self._all_over(Code.SHUTDOWN, "the far side has shut down")
        return self._all_over(Code.RESET, "the tunnel connection was lost")

    def fail(self, code: Code, reason: str) -> Sequence[t.Event]:
        """End the tunnel with a fatal ERROR."""
        if self._over:
            return t.NO_EVENTS
        self._put(lstp.encode(lstp.Error(code, reason, fatal=True)))
        return self._all_over(code, reason)

    # -- output and time --------------------------------------------------

    def data_to_send(self) -> bytes:
        """Everything due except payload."""
        out = self._out
        if self._granting:
            for ch in self._granting.values():
                ch.report_at = 0.0
                if not ch.far_finished and not ch.reported_end:
                    out.append(lstp.encode(lstp.ServiceDataResume(*ch.inbound.report()), ch.id))
            self._granting.clear()
        if not out:
            return b""
        self._said = self._now
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._datagrams_waiting = 0
        return data

    def next_deadline(self) -> float | None:
        """See `types.Mux`."""
        if self._over:
            return None
        due = min(self._said + self.config.keepalive, self._heard + 3 * self._peer.keepalive)
        if self._drained_by is not None:
            due = min(due, self._drained_by)
        trusted_until = self.trusted.next_deadline()
        if trusted_until is not None and not self._further:
            due = min(due, trusted_until)
        flow_due = self.flow.next_deadline(self._now)
        return due if flow_due is None else min(due, flow_due)

    def deadline_passed(self, now: float) -> Sequence[t.Event]:
        """See `types.Mux`."""
        self._now = now
        if self._over:
            return t.NO_EVENTS
        if now >= self._heard + 3 * self._peer.keepalive:
            return self.fail(Code.TIMED_OUT, "nothing was heard of the far side")
        if self._drained_by is not None and now >= self._drained_by:
            return self._all_over(Code.SHUTDOWN, "the time to drain is over")
        for channel in self.flow.due_reports(now):
            assert isinstance(channel, LstpChannel)
            self._report(channel)
        if now >= self._said + self.config.keepalive:
            # One is enough while the connection takes nothing.
            self._said = now
            if not self._out:
                self._put(lstp.encode(lstp.PropertyExchange()))
        self.flow.find_stalled(self._channels.values(), now)
        if not self._further and self.trusted.expire(now):
            return [self._services_changed()]
        return t.NO_EVENTS

    # -- input on channel 0 -----------------------------------------------

    def _tunnel_message(self, kind: int, message: lstp.Message) -> Sequence[t.Event]:
        if isinstance(message, lstp.PropertyExchange):
            return self._properties(message)
        if isinstance(message, lstp.Error):
            if message.fatal:
                return self._all_over(message.code, message.reason)
            return t.NO_EVENTS
        if self._up and isinstance(message, lstp.Shutdown):
            self._draining = True
            by = self._now + message.grace
            self._drained_by = by if self._drained_by is None else min(by, self._drained_by)
            return [t.Draining(message.grace, message.reason), *self._maybe_over()]
        when = "after the setup" if self._up else "before the PROPERTY_EXCHANGE"
        raise RemoteProtocolError(f"{M(kind).name} on channel 0 {when}")

    def _properties(self, message: lstp.PropertyExchange) -> Sequence[t.Event]:
        peer = self._peer
        if not self._settled:
            self._settled = True
            if message.window is not None:
                peer.window = message.window
            own, others = self.config.compression, message.compression or (NONE,)
            self._compression = agreed(own, others) if self._master else agreed(others, own)
        if message.max_channels is not None:
            peer.max_channels = message.max_channels
        if message.keepalive is not None:
            peer.keepalive = max(message.keepalive, _SHORTEST_KEEPALIVE)
        events: list[t.Event] = []
        if not self._up:
            self._up = True
            events.append(t.TunnelUp(message.software or ""))
        # The tunnel has one table, that of its first connection.
        news = None if self._further else message.services
        if news is not None and self.trusted.take(news, self._now):
            events.append(self._services_changed())
        return events

    # -- channels begin ---------------------------------------------------

    def _check_open(self) -> None:
        if not self._up or self._over or self._draining:
            raise t.LimitReached("the tunnel takes no new channels now", Code.SHUTDOWN)

    def _allocate(self) -> int:
        while True:
            number = self._next_id
            self._next_id = number + 2 if number + 2 <= 0xFFFFFFFF else 2 - self._master
            if number not in self._channels and number not in self._joins:
                return number

    def _new(self, number: int, state: State, *, opener: bool) -> LstpChannel:
        ch = LstpChannel(number, state, opener, self.config.window, self._peer.window, self.budget)
        self._channels[number] = ch
        return ch

    def _nack(self, number: int, code: Code, reason: str) -> Sequence[t.Event]:
        self.refuse_connection(number, code, reason)
        return t.NO_EVENTS
