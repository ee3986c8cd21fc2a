"""The ways to domain proxies: a flow of datagrams for each device in tunnel mode (row W5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IStreamClientEndpoint

from tunnelkit.core.wtls.mapping import Mapping
from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import DatagramSink, Remote
from tunnelkit.net.channels.udp_flow import UdpFlow
from tunnelkit.policy.destination import UDP, destination_to


class Way(Protocol):
    """Where the proxy's connections and datagrams go: through a tunnel, or directly."""

    def stream_to(self, destination: str, peer: str) -> IStreamClientEndpoint:
        """An endpoint for ``tcp:HOST:PORT``."""

    def open_flow(
        self, destination: str, near: Remote, sink: DatagramSink, peer: str
    ) -> UdpFlow | None:
        """A flow to ``udp:HOST:PORT``, with a port of its own there; None: not now."""


class Tunnel(Protocol):
    """What is needed of a tunnel."""

    def channel_to(self, destination: str) -> IStreamClientEndpoint:
        """See `ITunnel`."""

    def open_flow(self, destination: str, near: Remote, sink: DatagramSink) -> UdpFlow | None:
        """See `FlowOpener`."""


class TunnelWay:
    """Through a tunnel: the far side's rules decide, and know this end by its name."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def stream_to(self, destination: str, peer: str) -> IStreamClientEndpoint:
        """See `Way`."""
        return self._tunnel.channel_to(destination)

    def open_flow(
        self, destination: str, near: Remote, sink: DatagramSink, peer: str
    ) -> UdpFlow | None:
        """See `Way`."""
        return self._tunnel.open_flow(destination, near, sink)


class Path:
    """One mapping's way to its domain proxy; the `DatagramSink` of its flow."""

    __slots__ = ("_ended", "_flow", "_mapping", "_received", "_remote")

    def __init__(
        self,
        mapping: Mapping,
        received: Callable[[Mapping, memoryview], object],
        ended: Callable[[Mapping, str], object],
    ) -> None:
        """``ended`` is called if it cannot be had, or ends by itself."""
        self._mapping = mapping
        self._received = received
        self._ended: Callable[[Mapping, str], object] | None = ended
        self._flow: UdpFlow | None = None
        self._remote = mapping.target

    def open(self, way: Way, peer: str) -> None:
        """Have a flow."""
        destination = destination_to(UDP, *self._mapping.target)
        flow = way.open_flow(str(destination), self._mapping.device, self, peer)
        if flow is None:
            self.flow_ended(Code.UNREACHABLE, "the tunnel is down")
        elif self._ended is not None:
            self._flow = flow

    def send(self, data: bytes | memoryview) -> None:
        """Send one datagram to the domain proxy, or drop it."""
        if self._flow is not None:
            self._flow.send(self._remote, data)

    def close(self) -> None:
        """The mapping is over."""
        self._ended = None
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.end()

    # -- DatagramSink -----------------------------------------------------

    def flow_opened(self) -> None:
        """See `DatagramSink`."""

    def datagram_received(self, remote: Remote, data: memoryview) -> None:
        """See `DatagramSink`."""
        if self._ended is not None:
            self._received(self._mapping, data)

    def flow_ended(self, code: Code | None, reason: str) -> None:
        """See `DatagramSink`."""
        ended, self._ended, self._flow = self._ended, None, None
        if ended is not None:
            ended(self._mapping, f"{code}: {reason}" if code is not None else "its path has ended")
