"""The flows of one tunnel connection, and which of them a datagram is for.

Where the mux gives each flow a channel, that channel says it. Where each
datagram carries both addresses, the pair says it: a datagram from B to
A is an answer if a live flow here has sent one from A to B; otherwise it is
the far side's, and belongs to the flow of whoever sends from B.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tunnelkit.core.mux.contract import Datagram, TunnelMux
from tunnelkit.errors import ChannelClosed, Code, ProtocolError
from tunnelkit.net.channels.contracts import (
    ChannelOpening,
    ChannelRecord,
    DatagramSink,
    LocalSide,
    Remote,
)
from tunnelkit.net.channels.request import ChannelRequest, RequestConnection
from tunnelkit.net.channels.udp_flow import ChannelUdpFlow, UdpFlow
from tunnelkit.net.sockets.tcp import format_address

ANYWHERE = "udp:*"
IDLE = 60.0
"""Seconds after the last packet between two addresses in which an answer is taken."""
REMOTES = 256
"""Addresses that one flow exchanges datagrams with at a time; the one idle for longest goes."""


class FlowConnection(RequestConnection, Protocol):
    """What flows need of their connection."""

    mux: TunnelMux
    clock: Callable[[], float]

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        """Open a channel."""

    def send_datagram(
        self, flow: int, source: Remote, destination: Remote, data: bytes | memoryview
    ) -> bool:
        """Send one datagram."""

    def request(self, request: ChannelRequest) -> None:
        """The far side wants something; somebody answers."""

    def flow_began(self, destination: str, inbound: bool, near: str) -> ChannelOpening:
        """For the access log."""

    def flow_ended(self, record: ChannelRecord) -> None:
        """A flow without a channel is over."""


class AddressedUdpFlow(UdpFlow):
    """A flow that is told from others by its local peer's address, ``near``."""

    __slots__ = (
        "_datagrams",
        "_opening",
        "_received",
        "_remotes",
        "_sent",
        "_started",
        "destination",
        "inbound",
        "near",
    )

    keeps_names = True

    def __init__(
        self,
        datagrams: UdpFlows,
        sink: DatagramSink,
        near: Remote,
        destination: str,
        inbound: bool,
    ) -> None:
        super().__init__(sink)
        self.near = near
        self.destination = destination
        self.inbound = inbound
        """The far side began it."""
        self._datagrams = datagrams
        self._remotes: OrderedDict[Remote, float] = OrderedDict()
        """When a packet was last exchanged with each; only for flows that began here."""
        self._started = datagrams.now()
        self._sent = 0
        self._received = 0
        self._opening = datagrams.connection.flow_began(destination, inbound, format_address(near))

    def send(self, remote: Remote, data: bytes | memoryview) -> bool:
        """See `UdpFlow`."""
        if self.over:
            return False
        connection = self._datagrams.connection
        try:
            if self.inbound:
                sent = connection.send_datagram(0, remote, self.near, data)
            else:
                self._expect(remote)
                sent = connection.send_datagram(0, self.near, remote, data)
        except ProtocolError as error:
            self.abort(getattr(error, "code", Code.UNREACHABLE), str(error))
            return False
        if sent:
            self._sent += len(data)
        return sent

    def _expect(self, remote: Remote) -> None:
        """Answers of ``remote`` are for this flow from now on."""
        if remote not in self._remotes and len(self._remotes) >= REMOTES:
            oldest, _ = self._remotes.popitem(last=False)
            self._datagrams.unexpect(self, (oldest,))
        self._datagrams.expect(self, remote)
        self._remotes[remote] = self._datagrams.now()
        self._remotes.move_to_end(remote)

    def answered(self, remote: Remote, data: memoryview) -> bool:
        """A datagram of ``remote`` for this flow's peer; False if it comes too late."""
        now = self._datagrams.now()
        if now - self._remotes[remote] > IDLE:
            del self._remotes[remote]
            self._datagrams.unexpect(self, (remote,))
            return False
        self._remotes[remote] = now
        self._remotes.move_to_end(remote)
        self.received(remote, data)
        return True

    def received(self, remote: Remote, data: memoryview) -> None:
        """A datagram for the sink."""
        self._received += len(data)
        self.sink.datagram_received(remote, data)

    def end(self) -> None:
        """See `UdpFlow`."""
        self._over(None, "")

    def abort(self, code: Code, reason: str) -> None:
        """See `UdpFlow`: there is nothing by which the far side could be told."""
        self._over(code, reason)

    def _over(self, code: Code | None, reason: str) -> None:
        if self.over:
            return
        datagrams = self._datagrams
        datagrams.unexpect(self, self._remotes)
        datagrams.forget(self)
        self.ended(code, reason)
        datagrams.connection.flow_ended(
            ChannelRecord(
                datagrams.connection.peer,
                self.destination,
                self.inbound,
                self._sent,
                self._received,
                datagrams.now() - self._started,
                code,
                reason,
                refused=False,
                serial=self._opening.serial,
                origin=self._opening.origin,
            )
        )


class UdpFlows:
    """The flows of ``connection``."""

    def __init__(self, connection: FlowConnection) -> None:
        self.connection = connection
        self.now = connection.clock
        self._near: set[AddressedUdpFlow] = set()
        self._expected: dict[tuple[Remote, Remote], AddressedUdpFlow] = {}
        """Flows that began here, by (their peer's address, the far address)."""
        self._far: dict[Remote, AddressedUdpFlow] = {}
        """Flows of the far side, by the address of its peer."""

    def open(self, destination: str, near: Remote, sink: DatagramSink) -> UdpFlow:
        """A flow of the local peer at ``near`` to ``udp:HOST:PORT`` or ``udp:*``.

        It may be over when this returns; its sink knows why.
        """
        if self.connection.mux.addressed_datagrams:
            pair = AddressedUdpFlow(self, sink, near, destination, False)
            self._near.add(pair)
            sink.flow_opened()
            return pair
        flow = ChannelUdpFlow(sink, near)
        opening = self.connection.open(destination, flow)
        opening.addCallbacks(lambda bound: sink.flow_opened(), _refused)
        return flow

    def received(self, event: Datagram) -> None:
        """A datagram that carries both addresses came."""
        expected = self._expected.get((event.destination, event.source))
        if expected is not None and expected.answered(event.source, event.data):
            return
        flow = self._far.get(event.source)
        if flow is None:
            request = AddressedFlowRequest(self, event.source)
            self.connection.request(request)
            flow = self._far.get(event.source)
        if flow is not None:
            flow.received(event.destination, event.data)

    def over(self, code: Code, reason: str) -> None:
        """The connection has ended."""
        for flow in [*self._near, *self._far.values()]:
            flow.abort(code, reason)

    # -- for the flows ----------------------------------------------------

    def begin_far(self, near: Remote, sink: DatagramSink) -> AddressedUdpFlow:
        """A flow of the far side's peer at ``near`` has been accepted."""
        flow = self._far[near] = AddressedUdpFlow(self, sink, near, ANYWHERE, True)
        return flow

    def expect(self, flow: AddressedUdpFlow, remote: Remote) -> None:
        """What comes from ``remote`` to the flow's peer is for the flow."""
        self._expected[flow.near, remote] = flow

    def unexpect(self, flow: AddressedUdpFlow, remotes: Iterable[Remote]) -> None:
        """The contrary."""
        for remote in remotes:
            if self._expected.get((flow.near, remote)) is flow:
                del self._expected[flow.near, remote]

    def forget(self, flow: AddressedUdpFlow) -> None:
        """The flow is over."""
        self._near.discard(flow)
        if self._far.get(flow.near) is flow:
            del self._far[flow.near]


class AddressedFlowRequest(ChannelRequest):
    """A flow that the far side begins with its first datagram. Who refuses it drops that one."""

    __slots__ = ("_datagrams", "_near")

    def __init__(self, datagrams: UdpFlows, near: Remote) -> None:
        super().__init__(datagrams.connection, 0, ANYWHERE)
        self._datagrams = datagrams
        self._near = near

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        """See `ChannelRequest`."""
        self._connection = None
        return self._datagrams.begin_far(self._near, sink)

    def refuse(self, code: Code, reason: str) -> None:
        """See `ChannelRequest`: nothing can be said."""
        self._connection = None


def _refused(failure: Failure) -> None:
    # The sink has been told already.
    failure.trap(ChannelClosed)
