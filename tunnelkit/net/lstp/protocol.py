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
from tunnelkit.core.mux.contract import ChannelEnded, ChannelOpened
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.socket_table import SocketTable, TrustedSocket, is_trusted_socket
from tunnelkit.errors import Code, RemoteProtocolError, TunnelkitError
from tunnelkit.interfaces import IChannelProtocol, IEnd, IMeeting, IRendezvous
from tunnelkit.net.channels.contracts import ExtendedConnection
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
        self._tunnels: set[_Extension] = set()

    def make_mux(self, master: bool, alpn: bytes, now: float) -> LstpMux:
        """A mux for the first connection of a tunnel."""
        return LstpMux(master, self.config, now, budget=self._budget, published=self.published)

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
        self._joins: dict[int, str] = {}

    def begin(self) -> None:
        """The connection is up."""
        connection = self._connection
        connection.handle(ServicesChanged, self._on_services_changed)
        # What has been published since the handshake.
        self.announce()
        if isinstance(self._end.rendezvous, MeetsAgain):
            connection.handle(ConnectionRequested, self._on_connection_requested)
            connection.handle(ChannelOpened, self._on_opened)
            connection.handle(ChannelEnded, self._on_ended)
            self._ask_for_more()

    def ended(self) -> None:
        """It is over, and the further ones with it."""
        self._over = True
        self._protocol.forget(self)
        for further in list(self._further):
            further.end(Code.RESET, "the tunnel's first connection has ended")
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
            common = secrets.token_urlsafe(32)
            self._joins[self._mux.further.request(common, self._connection.clock())] = common
        self._connection.pump()

    def _on_connection_requested(self, event: ConnectionRequested) -> None:
        if self._accepted >= MAX_FURTHER:
            reason = f"at most {MAX_FURTHER} further connections"
            self._mux.further.refuse(event.channel, Code.LIMIT, reason)
            return
        self._accepted += 1
        self._mux.further.accept(event.channel)
        self._join(event.join)

    def _on_opened(self, event: ChannelOpened) -> None:
        common = self._joins.pop(event.channel, None)
        if common is None:
            self._connection.channel_opened(event)
        else:
            self._join(common)

    def _on_ended(self, event: ChannelEnded) -> None:
        if self._joins.pop(event.channel, None) is None:
            self._connection.channel_ended(event)
        else:
            _log.info("The other end refuses a further connection: {why}", why=event.reason)

    def _join(self, common: str) -> None:
        """Meet the other end for a further connection, under ``common``."""
        rendezvous = self._end.rendezvous
        assert isinstance(rendezvous, MeetsAgain)
        joining = self._meet(rendezvous.at(common))
        self._end.in_background(Deferred.fromCoroutine(joining))

    async def _meet(self, rendezvous: IRendezvous) -> None:
        end = self._end
        meet = Deferred.fromCoroutine(_met(rendezvous))
        meet.addTimeout(_JOIN_TIMEOUT, end.shared.reactor)
        try:
            meeting = await meet
            connection = await end.join(
                meeting, self._connection.peer, self._further_mux, self._further.discard
            )
        except (TunnelkitError, CancelledError, TimeoutError) as error:
            _log.warn("No further tunnel connection: {reason}", reason=str(error) or "too slow")
            return
        if self._over:
            connection.end(Code.RESET, "the tunnel's first connection has ended")
            return
        self._further.add(connection)
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
        return LstpMux(master, self._protocol.config, now, budget=first.budget, parent=first)


async def _met(rendezvous: IRendezvous) -> IMeeting:
    return await rendezvous.meet()


def _nobody_listens(connection: ExtendedConnection, services: Sequence[TrustedSocket]) -> None:
    """What `LstpProtocol.on_services` is where no ports are opened."""
