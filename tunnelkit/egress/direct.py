"""This machine's own way to destinations, by the same rules as for the far side of a tunnel.

For roles that are at no end of a tunnel, and connect for strangers themselves.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from tunnelkit.egress.dial import Egress
from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.net.channels.contracts import (
    END,
    ChannelHandle,
    DatagramSink,
    LocalSide,
    Remote,
)
from tunnelkit.net.channels.udp_flow import UdpFlow
from tunnelkit.policy.destination import parse_destination


class DirectWay:
    """Connects through ``egress``, for whom it is told."""

    def __init__(self, egress: Egress) -> None:
        self.egress = egress

    def stream_to(self, destination: str, peer: str) -> DirectEndpoint:
        """An endpoint: each connect asks the rules of ``peer`` about ``tcp:HOST:PORT``.

        It fails with `ChannelRefused`, as a channel does.
        """
        return DirectEndpoint(self.egress, destination, peer)

    def open_flow(
        self, destination: str, near: Remote, sink: DatagramSink, peer: str
    ) -> UdpFlow | None:
        """A flow of datagrams to ``udp:HOST:PORT``, with a socket of its own."""
        near_flow = _DirectFlow(sink)
        self.egress(_FlowRequest(destination, peer, near_flow))
        return near_flow


@implementer(IStreamClientEndpoint)
@attrs.frozen
class DirectEndpoint:
    """See `DirectWay.stream_to`."""

    _egress: Egress
    _destination: str
    _peer: str

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint`."""
        request = _StreamRequest(self._destination, self._peer, self._egress.reactor)
        request.factory = protocolFactory
        self._egress.dial(request, parse_destination(self._destination), request.take)
        return request.done


class _StreamRequest:
    """An `EgressRequest` of this process itself for a stream."""

    factory: Any = None

    def __init__(self, destination: str, peer: str, reactor: Any) -> None:
        self.destination = destination
        self.peer = peer
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self.done: Deferred[IProtocol] = Deferred(self._cancelled)
        self._reactor = reactor
        self._socket: socket.socket | None = None

    def take(self, sock: socket.socket) -> LocalSide:
        """The connected socket, just before `attach`."""
        self._socket = sock
        return _NoSide()

    def attach(self, side: LocalSide, bound: str, rule: str = "") -> object:
        """See `EgressRequest`."""
        self.gone = True
        sock, made = self._socket, _Remembered(self.factory)
        assert sock is not None
        self._reactor.adoptStreamConnection(sock.fileno(), sock.family, made)
        sock.close()
        self.done.callback(made.protocol)
        return None

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        """See `EgressRequest`: never asked of a stream."""
        raise NotImplementedError

    def refuse(self, code: Code, reason: str) -> object:
        """See `EgressRequest`."""
        self.gone = True
        self.done.errback(ChannelRefused(code, reason))
        return None

    def _cancelled(self, done: Deferred[IProtocol]) -> None:
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()


class _Remembered:
    """A factory that remembers the one protocol it has made."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self.protocol: Any = None

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, address: Any) -> Any:
        self.protocol = self._factory.buildProtocol(address)
        return self.protocol


class _NoSide:
    """What stands for the application's side where the socket itself is handed over."""

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`."""
        return END

    def push(self, view: memoryview) -> int:
        """See `LocalSide`."""
        return len(view)

    def finish(self) -> None:
        """See `LocalSide`."""

    def close(self) -> None:
        """See `LocalSide`."""

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""


class _DirectFlow(UdpFlow):
    """One end of a flow within this process; what is sent comes out at ``other``."""

    __slots__ = ("other",)

    keeps_names = True

    def __init__(self, sink: DatagramSink) -> None:
        super().__init__(sink)
        self.other: _DirectFlow | None = None

    def send(self, remote: Remote, data: bytes | memoryview) -> bool:
        """See `UdpFlow`."""
        other = self.other
        if self.over or other is None or other.over:
            return False
        other.sink.datagram_received(remote, memoryview(data))
        return True

    def end(self) -> None:
        """See `UdpFlow`."""
        self._both_ended(None, "")

    def abort(self, code: Code, reason: str) -> None:
        """See `UdpFlow`."""
        self._both_ended(code, reason)

    def _both_ended(self, code: Code | None, reason: str) -> None:
        self.ended(code, reason)
        if self.other is not None:
            self.other.ended(code, reason)


class _FlowRequest:
    """An `EgressRequest` of this process itself for a flow."""

    def __init__(self, destination: str, peer: str, near: _DirectFlow) -> None:
        self.destination = destination
        self.peer = peer
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self._near = near

    def attach(self, side: LocalSide, bound: str, rule: str = "") -> object:
        """See `EgressRequest`: never asked of a flow."""
        raise NotImplementedError

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        """See `EgressRequest`."""
        self.gone = True
        far = _DirectFlow(sink)
        far.other, self._near.other = self._near, far
        self._near.sink.flow_opened()
        return far

    def refuse(self, code: Code, reason: str) -> object:
        """See `EgressRequest`."""
        self.gone = True
        self._near.ended(code, reason)
        return None
