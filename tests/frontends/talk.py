"""Small servers and clients on loopback for the tests of front ends."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.errors import ChannelRefused

reactor: Any = global_reactor


@implementer(IHalfCloseableProtocol)
class Talk(Protocol):
    """Collects what comes; tells when enough has come and when the connection is over."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.closed: Deferred[None] = Deferred()
        self.was_reset = False
        self._waits: list[tuple[Callable[[], bool], Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._check()

    def readConnectionLost(self) -> None:
        self.ended = True
        self._check()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True
        self.was_reset = not reason.check(ConnectionDone)
        self._check()
        self.closed.callback(None)

    def _check(self) -> None:
        for wait in list(self._waits):
            if wait[0]():
                self._waits.remove(wait)
                wait[1].callback(self.data)

    def _when(self, condition: Callable[[], bool]) -> Deferred[bytes]:
        result: Deferred[bytes] = Deferred()
        self._waits.append((condition, result))
        self._check()
        return result

    def received(self, size: int) -> Deferred[bytes]:
        """All data once there are ``size`` bytes, or no more can come."""
        return self._when(lambda: len(self.data) >= size or self.ended)

    def end(self) -> Deferred[bytes]:
        """All data once the other side has finished."""
        return self._when(lambda: self.ended)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def half_close(self) -> None:
        transport: Any = self.transport
        transport.loseWriteConnection()

    def close(self) -> Deferred[None]:
        assert self.transport is not None
        self.transport.loseConnection()
        return self.closed


class Echo(Talk):
    """Sends everything back, its end included."""

    def dataReceived(self, data: bytes) -> None:
        self.write(data)

    def readConnectionLost(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


async def is_reset(endpoint: IStreamClientEndpoint) -> bool:
    """Whether a client that connects is reset, perhaps so soon that its connect already fails."""
    try:
        talk = cast(Talk, await connectProtocol(endpoint, Talk()))
    except ConnectError as error:
        return bool(error.osError == errno.ECONNRESET)
    await talk.closed
    return talk.was_reset


async def refused(answer: Deferred[str]) -> ChannelRefused:
    """The refusal that ``answer`` fails with."""
    with pytest.raises(ChannelRefused) as caught:
        await answer
    return caught.value


class Server(Factory):
    """Makes protocols and keeps them."""

    def __init__(self, protocol: Callable[[], Talk]) -> None:
        self._make = protocol
        self.made: list[Talk] = []

    def buildProtocol(self, addr: object) -> Talk:
        protocol = self._make()
        self.made.append(protocol)
        return protocol


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; the test's time limit bounds it."""
    while not condition():
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.002, pause.callback, None)
        await pause


class BlackHole:
    """A port of 127.0.0.1 that leaves connects unanswered: its queue is full."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers = [socket.socket() for _ in range(4)]
        for filler in self._fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))

    def close(self) -> None:
        for sock in (*self._fillers, self._listener):
            sock.close()
