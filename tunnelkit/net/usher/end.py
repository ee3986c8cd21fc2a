"""The two ends of Usher: a portal dials a gate, and both may open sessions (rows U1, U2, U10, U12).

There is nobody in between, so the meeting is the connection itself: the
portal is the TLS client, and the certificates say everything.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from zope.interface import implementer

from tunnelkit.core.usher.mux import UsherChannels, UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.errors import TunnelkitError
from tunnelkit.interfaces import IMeeting, IRendezvous
from tunnelkit.net.channels.end import DiallingEnd, End, TunnelMember
from tunnelkit.net.channels.establish import secure
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier, take_over
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.wire.usher import Version

_log = Logger()

MAX_UNPROVED = 200
"""Connections whose certificate has not been seen yet (rule X16); the oldest goes first."""
MAX_UNPROVED_PER_ADDRESS = 16


@attrs.frozen
class UsherSettings:
    """How an end of Usher behaves, beyond who it is."""

    name: str
    """This end's name, as in its certificate."""
    peers: frozenset[str]
    """Names that the other end's certificate may have."""
    mux: UsherConfig = attrs.field(factory=UsherConfig)


@implementer(IMeeting)
class UsherMeeting:
    """One TCP connection between portal and gate."""

    announced = ""

    def __init__(self, carrier: Carrier, portal: bool, leftover: bytes = b"") -> None:
        self.carrier = carrier
        self.tls_client = portal
        self.leftover = leftover
        self.hops: tuple[object, ...] = ()
        carrier.start(self)
        carrier.pause_reading()

    def prologue(
        self, certificate_name: str, allowed: frozenset[str], same_key: bool, now: float
    ) -> None:
        """None: the certificates say everything."""

    def carrier_received(self, view: memoryview) -> None:
        """Bytes that were behind a network proxy's answer belong to TLS."""
        self.leftover += view

    def carrier_writable(self) -> None:
        """Nothing is written before TLS."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """Told again when TLS starts: the carrier is closed."""


@implementer(IRendezvous)
class UsherRendezvous:
    """Dials the gate behind ``endpoint``."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    async def meet(self) -> UsherMeeting:
        """A connection to the gate; raises `DialError`."""
        protocol: Any = await maybeDeferred(self._endpoint.connect, _DialledFactory())
        meeting: UsherMeeting = protocol.meeting
        return meeting


class UsherPortal(DiallingEnd):
    """Keeps one tunnel to its gate; ready when it is up."""

    def __init__(
        self,
        shared: Shared,
        rendezvous: UsherRendezvous,
        context: TlsContext,
        settings: UsherSettings,
        tunnel: Tunnel,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(shared, context, tunnel, on_ready)
        self.settings = settings
        self._rendezvous = rendezvous

    async def attempt(self) -> bool:
        """Dial the gate and stay until the tunnel is over."""
        meeting = await self._rendezvous.meet()
        owner = _UsherTunnel(self, self.settings.name)
        await _secure(self, meeting, self.settings, owner)
        await owner.over
        return False


class UsherGate(End):
    """Takes portals in; each has a tunnel of its own. Ready from the start.

    Connections come from `accept` (raw sockets) or from `UsherGateFactory`
    (any Twisted endpoint).
    """

    def __init__(
        self,
        shared: Shared,
        context: TlsContext,
        settings: UsherSettings,
        tunnel: Tunnel,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(shared, context, tunnel, on_ready)
        self.settings = settings
        self._unproved: dict[Deferred[None], str] = {}

    def start(self) -> None:
        """Portals may come."""
        super().start()
        self.told_ready()

    def accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """A connection from a listener."""
        self.enter(SocketCarrier(self.shared.poller, sock), address[0])

    def enter(self, carrier: Carrier, host: str, early: bytes = b"") -> None:
        """A connection from ``host``, which has to prove who it is; ``early`` was read already."""
        if not self._running:
            carrier.abort()
            return
        self._make_room(host)
        # `_take_in` runs at once and waits for the handshake.
        meeting = UsherMeeting(carrier, False, early)
        task = Deferred.fromCoroutine(self._take_in(meeting, host))
        self._unproved[task] = host
        task.addBoth(self._proved, task)
        self.in_background(task)

    def _make_room(self, host: str) -> None:
        """Early drop: who has been here longest without proof, from this address or from any."""
        same = [task for task, other in self._unproved.items() if other == host]
        if len(same) >= MAX_UNPROVED_PER_ADDRESS:
            same[0].cancel()
        elif len(self._unproved) >= MAX_UNPROVED:
            next(iter(self._unproved)).cancel()

    def _proved(self, result: Any, task: Deferred[None]) -> Any:
        self._unproved.pop(task, None)
        return result

    async def _take_in(self, meeting: UsherMeeting, host: str) -> None:
        owner = _UsherTunnel(self, self.settings.name)
        try:
            await _secure(self, meeting, self.settings, owner)
        except TunnelkitError as error:
            _log.warn(
                "Refused a portal from {address}: {reason}",
                address=meeting.carrier.far_address or host,
                reason=str(error),
            )


class Entrance(Protocol):
    """Takes connections in, as `UsherGate` does."""

    def enter(self, carrier: Carrier, host: str) -> None:
        """A connection from ``host``."""


class UsherGateFactory(Factory):
    """Gives what any Twisted server endpoint accepts to a gate."""

    noisy = False

    def __init__(self, gate: Entrance) -> None:
        self.gate = gate

    def buildProtocol(self, addr: Any) -> TwistedProtocol:
        """The connection's carrier takes its place at once."""
        return _Accepted(self.gate, getattr(addr, "host", ""))


class _Accepted(TwistedProtocol):
    def __init__(self, gate: Entrance, host: str) -> None:
        self._gate = gate
        self._host = host

    def connectionMade(self) -> None:
        self._gate.enter(take_over(self.transport), self._host)


class _DialledFactory(Factory):
    noisy = False

    def buildProtocol(self, addr: Any) -> TwistedProtocol:
        return _Dialled()


class _Dialled(TwistedProtocol):
    def connectionMade(self) -> None:
        self.meeting = UsherMeeting(take_over(self.transport), True)

    def dataReceived(self, data: bytes) -> None:
        self.meeting.carrier_received(memoryview(data))


class _UsherTunnel(TunnelMember):
    """The path of an Usher tunnel is its two ends."""

    def __init__(self, end: End, name: str) -> None:
        super().__init__(end, ())
        self._name = name

    def connection_up(self, connection: Any) -> None:
        self._topology = (self._name, connection.peer)
        super().connection_up(connection)


async def _secure(
    end: End, meeting: UsherMeeting, settings: UsherSettings, owner: TunnelMember
) -> None:
    budget = end.shared.budget

    def make_mux(master: bool, alpn: bytes, now: float) -> UsherMux:
        return UsherChannels(Version.of(alpn), settings.mux, budget).make_mux(master, now)

    await secure(end.shared, meeting, end.context, settings.peers, make_mux, owner)
