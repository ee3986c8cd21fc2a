"""LSTP's messages as a channel protocol, and what it alone has (rows L5, T1 to T3).

Further connections share a tunnel's channels where the rendezvous can meet again under a
name of their own; published services are told to the far side.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from tunnelkit.core.lstp.events import ConnectionRequested, ServicesChanged
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux.contract import ChannelEnded, ChannelOpened, LimitReached
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.socket_table import SocketTable, TrustedSocket, is_trusted_socket
from tunnelkit.errors import ChannelRefused, Code, RemoteProtocolError, TunnelkitError
from tunnelkit.interfaces import IChannelProtocol, IEnd, IMeeting, IRendezvous
from tunnelkit.net.channels.contracts import Connection, ExtendedConnection
from tunnelkit.net.channels.keepalive import learning_keepalive
from tunnelkit.wire.lstp import ALPN

_log = Logger()

MAX_FURTHER = 15
"""Further connections that an end accepts for one tunnel."""
_JOIN_TIMEOUT = 20.0
"""Seconds for the two ends of a further connection to find each other."""


@runtime_checkable
class MeetsAgain(Protocol):
    """A rendezvous by which two ends that have met can meet once more, under a name they agree
    on."""

    def at(self, common: str) -> IRendezvous:
        """The same, under that name."""


@implementer(IChannelProtocol)
class LstpProtocol:
    """What one end says in LSTP; a `ServiceBook` as well.

    ``connections``: how many carry a tunnel's channels, where this end asks for them.
    """

    alpn = (ALPN,)

    def __init__(
        self,
        config: MuxConfig | None = None,
        budget: Budget | None = None,
        connections: int = 1,
    ) -> None:
        self.config = MuxConfig() if config is None else config
        self.connections = connections
        self.published = SocketTable()
        """What this end publishes (row T1)."""
        self.on_services: Callable[[ExtendedConnection, Sequence[TrustedSocket]], object] = (
            _nobody_listens
        )
        """Told of what the far side of a connection publishes, whenever that changes; nothing any
        more when the connection has ended (rows T1, T3)."""
        self._budget = Budget() if budget is None else budget
        self._keepalive = learning_keepalive(self.config.keepalive)
        self._tunnels: set[_Extension] = set()

    def make_mux(self, master: bool, alpn: bytes, now: float) -> LstpMux:
        """A mux for the first connection of a tunnel."""
        return LstpMux(
            master,
            self.config,
            now,
            budget=self._budget,
            published=self.published,
            keepalive=self._keepalive,
        )

    def extend(self, connection: ExtendedConnection, end: IEnd) -> Callable[[], object]:
        """See `IChannelProtocol`."""
        extension = _Extension(self, connection, end)
        self._tunnels.add(extension)
        extension.begin()
        return extension.ended

    def forget(self, extension: _Extension) -> None:
        """Its connection is over."""
        self._tunnels.discard(extension)

    # -- published services -----------------------------------------------

    def announce(self) -> None:
        """``published`` has changed: tell the far sides."""
        for extension in list(self._tunnels):
            extension.announce()

    def service_accepted(self, name: str) -> None:
        """See `ServiceBook`."""
        if any(entry.name == name for entry in self.published):
            raise ValueError(f"service:{name} is accepted already")
        if is_trusted_socket(name):
            self.published.add(TrustedSocket(name))
            self.announce()

    def service_withdrawn(self, name: str) -> None:
        """See `ServiceBook`."""
        if self.published.withdraw(name):
            self.announce()


class _Asked:
    """A further connection that the other end has been asked for."""

    def __init__(self, made: Deferred[Connection] | None = None) -> None:
        self.common = secrets.token_urlsafe(32)
        """Where it meets."""
        self.made = made
        """Who waits for this one alone; None: it shares the tunnel's channels."""


class _Extension:
    """One tunnel's first connection, with its further ones."""

    def __init__(self, protocol: LstpProtocol, connection: ExtendedConnection, end: IEnd) -> None:
        assert isinstance(connection.mux, LstpMux)
        self._protocol = protocol
        self._connection = connection
        self._mux = connection.mux
        self._end = end
        self._over = False
        self._further: set[ExtendedConnection] = set()
        self._accepted = 0
        """Further connections that the other end has asked for, and that are not over."""
        self._asked: dict[int, _Asked] = {}

    def begin(self) -> None:
        """The connection is up."""
        connection = self._connection
        connection.handle(ServicesChanged, self._on_services_changed)
        # What has been published since the handshake.
        self.announce()
        if isinstance(self._end.rendezvous, MeetsAgain):
            connection.handle(ConnectionRequested, self._on_connection_requested)
            connection.make_another(self._another)
            self._ask_for_more()

    def ended(self) -> None:
        """It is over, and the further ones with it."""
        self._over = True
        self._protocol.forget(self)
        for further in list(self._further):
            further.end(Code.RESET, "the tunnel's first connection has ended")
        asked, self._asked = self._asked, {}
        for one in asked.values():
            if one.made is not None:
                one.made.errback(ChannelRefused(Code.RESET, "the tunnel has ended"))
        self._protocol.on_services(self._connection, ())

    # -- trusted sockets --------------------------------------------------

    def announce(self) -> None:
        """Tell the far side what is published here now."""
        self._mux.trusted.announce(self._connection.clock())
        self._connection.pump()

    def _on_services_changed(self, event: ServicesChanged) -> None:
        self._protocol.on_services(self._connection, event.services)

    # -- further connections ----------------------------------------------

    def _ask_for_more(self) -> None:
        for _ in range(self._protocol.connections - 1):
            self._ask(_Asked())

    def _another(self) -> Deferred[Connection]:
        """See `Connection.another`."""
        made: Deferred[Connection] = Deferred()
        try:
            self._ask(_Asked(made))
        except LimitReached as error:
            made.errback(ChannelRefused(error.code, str(error)))
        return made

    def _ask(self, asked: _Asked) -> None:
        connection = self._connection
        self._asked[self._mux.further.request(asked.common, connection.clock())] = asked
        connection.handle(ChannelOpened, self._on_opened)
        connection.handle(ChannelEnded, self._on_ended)
        connection.pump()

    def _answered(self, channel: int) -> _Asked | None:
        """What was asked for with that id; None: it is a channel. Once nothing is asked for, the
        connection has its events without the detour."""
        asked = self._asked.pop(channel, None)
        if not self._asked:
            self._connection.handle(ChannelOpened, self._connection.channel_opened)
            self._connection.handle(ChannelEnded, self._connection.channel_ended)
        return asked

    def _on_connection_requested(self, event: ConnectionRequested) -> None:
        if self._accepted >= MAX_FURTHER:
            reason = f"at most {MAX_FURTHER} further connections"
            self._mux.further.refuse(event.channel, Code.LIMIT, reason)
            return
        self._accepted += 1
        self._mux.further.accept(event.channel)
        self._join(event.join, self._accepted_over)

    def _accepted_over(self) -> None:
        self._accepted -= 1

    def _on_opened(self, event: ChannelOpened) -> None:
        asked = self._answered(event.channel)
        if asked is None:
            self._connection.channel_opened(event)
        else:
            self._join(asked.common, _nothing, asked.made)

    def _on_ended(self, event: ChannelEnded) -> None:
        asked = self._answered(event.channel)
        if asked is None:
            self._connection.channel_ended(event)
            return
        _log.info("The other end refuses a further connection: {why}", why=event.reason)
        if asked.made is not None:
            asked.made.errback(ChannelRefused(event.code or Code.RESET, event.reason))

    def _join(
        self,
        common: str,
        over: Callable[[], object],
        made: Deferred[Connection] | None = None,
    ) -> None:
        """Meet the other end for a further connection, under ``common``; ``over`` is called when
        that has ended, or has not come to be. ``made``: it is for who waits for this alone."""
        rendezvous = self._end.rendezvous
        assert isinstance(rendezvous, MeetsAgain)
        joining = self._meet(rendezvous.at(common), over, made)
        self._end.in_background(Deferred.fromCoroutine(joining))

    async def _meet(
        self,
        rendezvous: IRendezvous,
        over: Callable[[], object],
        made: Deferred[Connection] | None,
    ) -> None:
        end = self._end
        meet = Deferred.fromCoroutine(_met(rendezvous))
        meet.addTimeout(_JOIN_TIMEOUT, end.shared.reactor)

        def ended(connection: ExtendedConnection) -> None:
            self._further.discard(connection)
            over()

        try:
            meeting = await meet
            connection = await end.join(
                meeting, self._connection.peer, self._further_mux, ended, apart=made is not None
            )
        except (TunnelkitError, CancelledError, TimeoutError) as error:
            reason = str(error) or "too slow"
            _log.warn("No further tunnel connection: {reason}", reason=reason)
            over()
            if made is not None:
                made.errback(ChannelRefused(Code.UNREACHABLE, reason))
            return
        if self._over:
            connection.end(Code.RESET, "the tunnel's first connection has ended")
        else:
            self._further.add(connection)
        if made is not None:
            made.callback(connection)
        if self._over or made is not None:
            return
        _log.info(
            "Tunnel {tunnel} with {peer} has {number} connections",
            tunnel=end.tunnel.name,
            peer=connection.peer,
            number=1 + len(self._further),
        )

    def _further_mux(self, master: bool, alpn: bytes, now: float) -> LstpMux:
        """A mux that takes its limits from the first connection's."""
        if alpn != ALPN:
            raise RemoteProtocolError("a further connection speaks another protocol")
        first = self._mux
        return LstpMux(
            master,
            self._protocol.config,
            now,
            budget=first.budget,
            parent=first,
            keepalive=first.keepalive,
        )


def _nothing() -> None:
    """It was this end that has asked."""


async def _met(rendezvous: IRendezvous) -> IMeeting:
    return await rendezvous.meet()


def _nobody_listens(connection: ExtendedConnection, services: Sequence[TrustedSocket]) -> None:
    """What `LstpProtocol.on_services` is where no ports are opened."""
