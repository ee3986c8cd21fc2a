"""A Twisted protocol as the application's side of a channel: what endpoints over a tunnel give.

`ChannelTransport` is an `ITCPTransport`: half-close, push producers both ways,
and a reset that is not mistaken for an end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.errors import ChannelRefused, ChannelReset, Code
from tunnelkit.net.channels.contracts import END, ChannelHandle, LocalSide

_HIGH_WATER = 64 * 1024
"""Bytes written and not yet sent at which the protocol's producer is paused."""


@implementer(IAddress)
@attrs.frozen
class TunnelAddress:
    """One end of a channel: ``peer`` is a verified name, ``destination`` what was asked for."""

    peer: str
    destination: str


@implementer(ITCPTransport)
class ChannelTransport:
    """Transport of a Twisted protocol whose connection is a channel."""

    disconnecting = False
    disconnected = False

    def __init__(self, protocol: IProtocol, near: TunnelAddress, far: TunnelAddress) -> None:
        self._protocol: Any = protocol
        self._near = near
        self._far = far
        self._channel: ChannelHandle | None = None
        self._outbound: deque[bytes] = deque()
        self._outbound_size = 0
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        self._reading = True
        self._finishing = False
        self._detached = False
        """The protocol has had its connectionLost."""

    def begin(self) -> None:
        """Give the protocol its transport."""
        self._protocol.makeConnection(self)

    # -- LocalSide --------------------------------------------------------

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""
        self._channel = channel
        if self._outbound or self._finishing or self._detached:
            channel.ready()

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`."""
        if self._detached and not self._finishing:
            raise ConnectionResetError(0, "the application gave up before the channel was open")
        filled = 0
        while self._outbound and filled < len(view):
            piece = self._outbound[0]
            size = min(len(piece), len(view) - filled)
            view[filled : filled + size] = piece[:size]
            filled += size
            if size < len(piece):
                self._outbound[0] = piece[size:]
            else:
                self._outbound.popleft()
        self._outbound_size -= filled
        if self._outbound_size < _HIGH_WATER // 2:
            self._resume_producer()
        if filled:
            if not self._outbound and self._finishing and self._channel is not None:
                self._channel.ready()
            return filled
        return END if self._finishing and not self._outbound else 0

    def push(self, view: memoryview) -> int:
        """See `LocalSide`."""
        if self._detached:
            raise ConnectionResetError(0, "the application has closed the connection")
        if not self._reading:
            return 0
        self._protocol.dataReceived(bytes(view))
        return len(view)

    def finish(self) -> None:
        """See `LocalSide`: half-close where the protocol understands it, otherwise the end."""
        if self._detached:
            return
        if IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.readConnectionLost()
        else:
            self.loseConnection()

    def close(self) -> None:
        """See `LocalSide`."""
        self._lose(Failure(ConnectionDone()))

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        self._lose(Failure(_Reset(code, reason)))

    def _lose(self, why: Failure) -> None:
        self._channel = None
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.stopProducing()
        if not self._detached:
            self._detached = True
            self.disconnected = True
            self._protocol.connectionLost(why)

    # -- ITransport -------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue; a registered producer is paused when too much is queued."""
        if self._finishing or self._detached or not data:
            return
        self._outbound.append(bytes(data))
        self._outbound_size += len(data)
        if (
            self._outbound_size >= _HIGH_WATER
            and self._producer is not None
            and self._streaming
            and not self._producer_paused
        ):
            self._producer_paused = True
            self._producer.pauseProducing()
        if self._channel is not None:
            self._channel.ready()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See ``ITransport``."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Send what is queued, then end. Data that still comes makes it a reset, as in TCP."""
        if self._detached:
            return
        self.disconnecting = True
        self.loseWriteConnection()
        if self._producer is None:
            self._let_go()

    def _let_go(self) -> None:
        self._detached = True
        self.disconnected = True
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def loseWriteConnection(self) -> None:
        """Half-close: the far side sees the end behind what was written."""
        if not self._finishing and self._producer is None:
            self._finishing = True
            if self._channel is not None:
                self._channel.ready()

    def abortConnection(self) -> None:
        """Reset the channel."""
        self._outbound.clear()
        self._outbound_size = 0
        if self._channel is not None:
            self._channel.abort(Code.RESET, "the application aborted the connection")
        else:
            self._lose(Failure(ConnectionLost()))

    def getPeer(self) -> Any:
        """The far side's verified name, and the destination."""
        return self._far

    def getHost(self) -> Any:
        """This side."""
        return self._near

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is ever delayed."""

    def getTcpNoDelay(self) -> bool:
        """Always."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """The tunnel has a keepalive of its own."""

    def getTcpKeepAlive(self) -> bool:
        """Always."""
        return True

    # -- producers --------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer``."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._detached:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producer_paused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        self._producer = None
        if self.disconnecting:
            self.loseWriteConnection()
            if not self._detached:
                self._let_go()

    def _resume_producer(self) -> None:
        if self._producer is None:
            return
        if not self._streaming:
            self._producer.resumeProducing()
        elif self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()

    def pauseProducing(self) -> None:
        """Take no more data from the tunnel: the sender is held back by its credit."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Undo `pauseProducing`."""
        if not self._reading:
            self._reading = True
            if self._channel is not None:
                self._channel.drained()

    def stopProducing(self) -> None:
        """See ``IPushProducer``."""
        self.loseConnection()


class _Reset(ChannelReset, ConnectionLost):
    """How a protocol hears of a channel that ended early: a ConnectionLost with its code."""

    def __init__(self, code: Code, reason: str) -> None:
        ChannelReset.__init__(self, code, reason)


class OpensChannels(Protocol):
    """What `ChannelEndpoint` needs of a tunnel."""

    @property
    def peer(self) -> str:
        """Verified name of the other end."""

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        """See `tunnelkit.net.channels.tunnel.Tunnel.open`."""


@implementer(IStreamClientEndpoint)
class ChannelEndpoint:
    """Each connect opens one channel to ``destination``."""

    def __init__(self, tunnel: OpensChannels, destination: str) -> None:
        self._tunnel = tunnel
        self._destination = destination

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """A connected protocol once the far side has connected; fails with `ChannelRefused`."""
        address = TunnelAddress(self._tunnel.peer, self._destination)
        protocol = protocolFactory.buildProtocol(address)
        if protocol is None:
            return fail(ChannelRefused(Code.REFUSED, "the factory makes no protocol"))
        side = _Opening(protocol, TunnelAddress("", ""), address)
        opening: Deferred[str] = self._tunnel.open(self._destination, side)

        def opened(bound: str) -> IProtocol:
            side.begin()
            return protocol

        return opening.addCallback(opened)


class _Opening(ChannelTransport):
    """Not begun yet: a refusal is told by the Deferred, not by the protocol."""

    def begin(self) -> None:
        self._begun = True
        super().begin()

    _begun = False

    def reset(self, code: Code, reason: str) -> None:
        if self._begun:
            super().reset(code, reason)
