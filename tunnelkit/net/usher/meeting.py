"""How portal and gate get a byte stream: one dials, the other is dialled (rows U1, U2, U10).

There is nobody in between, so the meeting is the connection itself: the
portal is the TLS client, and the certificates say everything.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from zope.interface import implementer

from tunnelkit.core.prologue import Export
from tunnelkit.interfaces import IMeeting, IRendezvous
from tunnelkit.net.channels.contracts import PathHop
from tunnelkit.net.dial.any_endpoint import connect_by
from tunnelkit.net.sockets.arrival import Arrival
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier, take_over


@implementer(IMeeting)
class UsherMeeting:
    """One TCP connection between portal and gate; ``host``: from where a portal has come."""

    announced = ""

    def __init__(
        self, carrier: Carrier, portal: bool, leftover: bytes = b"", *, host: str = ""
    ) -> None:
        self.carrier = carrier
        self.tls_client = self.exclusive = portal
        self.leftover = leftover
        self.host = host
        portal_hop, gate_hop = PathHop("", "portal"), PathHop("", "gate")
        # The certificates say their names.
        self.hops = (portal_hop, gate_hop) if portal else (gate_hop, portal_hop)
        self.caller = f"a portal from {carrier.far_address or host}" if host else ""
        carrier.start(self)
        carrier.pause_reading()

    def prologue(
        self,
        certificate_name: str,
        allowed: frozenset[str],
        same_key: bool,
        export: Export,
        now: float,
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
    """A portal's: dials the gate behind ``endpoint``."""

    serves = False

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    async def meet(self, on_waiting: Callable[[str], object] | None = None) -> UsherMeeting:
        """A connection to the gate; raises `DialError`."""
        protocol: Any = await connect_by(self._endpoint, _DialledFactory())
        meeting: UsherMeeting = protocol.meeting
        return meeting


@implementer(IRendezvous)
class GateRendezvous:
    """A gate's: portals dial it, each has a tunnel of its own.

    Connections come from `accept` (raw sockets) or from `UsherGateFactory` (any
    Twisted endpoint). They are taken in while somebody asks for them.
    """

    serves = True

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._asked: Deferred[UsherMeeting] | None = None

    def meet(self, on_waiting: Callable[[str], object] | None = None) -> Deferred[UsherMeeting]:
        """The next connection."""
        self._asked = Deferred(self._cancelled)
        if on_waiting is not None:
            on_waiting("")
        return self._asked

    def _cancelled(self, asked: Deferred[UsherMeeting]) -> None:
        self._asked = None

    def accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """A connection from a listener."""
        self.enter(SocketCarrier(self._shared.poller, sock), address[0])

    def enter(self, carrier: Carrier, host: str, early: bytes = b"") -> None:
        """A connection from ``host``, which has to prove who it is; ``early`` was read already."""
        asked, self._asked = self._asked, None
        if asked is None:
            carrier.abort()
            return
        asked.callback(UsherMeeting(carrier, False, early, host=host or "elsewhere"))


class Entrance(Protocol):
    """Takes connections in, as `GateRendezvous` does."""

    def enter(self, carrier: Carrier, host: str) -> None:
        """A connection from ``host``."""


class UsherGateFactory(Factory):
    """Gives what any Twisted server endpoint accepts to a gate."""

    noisy = False

    def __init__(self, gate: Entrance) -> None:
        self.gate = gate

    def buildProtocol(self, addr: Any) -> TwistedProtocol:
        """The connection's carrier takes its place at once."""
        return Arrival(self.gate.enter, getattr(addr, "host", ""))


class _DialledFactory(Factory):
    noisy = False

    def buildProtocol(self, addr: Any) -> TwistedProtocol:
        return _Dialled()


class _Dialled(TwistedProtocol):
    def connectionMade(self) -> None:
        self.meeting = UsherMeeting(take_over(self.transport), True)

    def dataReceived(self, data: bytes) -> None:
        self.meeting.carrier_received(memoryview(data))
