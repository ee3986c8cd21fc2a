"""A DNS server on loopback that says what a test wants it to."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.names import dns as names

Say = Callable[[bytes, bool], list[bytes]]
"""From a query, and whether it came over TCP, to the answers."""


def question(name: str = "www.example", kind: int = names.A, number: int = 7) -> bytes:
    """An ordinary query."""
    message = names.Message(id=number, recDes=1)
    message.queries = [names.Query(name.encode(), kind)]
    data: bytes = message.toStr()
    return data


def parsed(data: bytes) -> names.Message:
    message = names.Message()
    message.fromStr(data)
    return message


def first_address(answer: bytes | names.Message) -> str:
    """The first address that an answer holds."""
    message = answer if isinstance(answer, names.Message) else parsed(answer)
    payload = message.answers[0].payload
    assert isinstance(payload, names.Record_A)
    return str(payload.dottedQuad())


def address(query: bytes, host: str = "192.0.2.1", ttl: int = 300, copies: int = 1) -> bytes:
    """The answer to ``query``: an address, several times if it is to be long."""
    message = parsed(query)
    message.answer = 1
    message.trunc = 0
    message.maxSize = 65535
    name = message.queries[0].name.name
    payload = names.Record_A(host, ttl=ttl)
    message.answers = [names.RRHeader(name, names.A, ttl=ttl, payload=payload)] * copies
    message.additional = []
    data: bytes = message.toStr()
    return data


def cut(answer: bytes) -> bytes:
    """``answer`` with the bit set that says: there is more over TCP."""
    return answer[:2] + bytes([answer[2] | 2]) + answer[3:]


def coded(query: bytes, code: int) -> bytes:
    """An answer with no more than a code."""
    message = parsed(query)
    message.answer = 1
    message.rCode = code
    data: bytes = message.toStr()
    return data


class Resolver(DatagramProtocol):
    """Listens on UDP and TCP; ``say`` may be replaced."""

    transport: Any

    def __init__(self, reactor: Any, say: Say, host: str = "127.0.0.1", port: int = 0) -> None:
        self.say = say
        self.queries: list[bytes] = []
        self.senders: list[tuple[str, int]] = []
        self._streams: list[_Stream] = []
        while True:
            self._tcp = reactor.listenTCP(
                port, Factory.forProtocol(lambda: _Stream(self)), interface=host
            )
            self.port: int = self._tcp.getHost().port
            try:
                self._udp = reactor.listenUDP(self.port, self, interface=host, maxPacketSize=65535)
                break
            except CannotListenError:
                # Somebody has that number for UDP: another one.
                self._tcp.stopListening()

    @property
    def server(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.queries.append(datagram)
        self.senders.append(addr)
        for answer in self.say(datagram, False):
            self.transport.write(answer, addr)

    def add(self, stream: _Stream) -> None:
        self._streams.append(stream)

    def close(self) -> Deferred[Any]:
        for stream in self._streams:
            stream.transport.abortConnection()
        closed = [stream.closed for stream in self._streams]
        return gatherResults([self._udp.stopListening(), self._tcp.stopListening(), *closed])


class _Stream(Protocol):
    transport: Any

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._buffer = b""
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._resolver.add(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            size = struct.unpack_from(">H", self._buffer)[0]
            if len(self._buffer) < 2 + size:
                return
            query, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            self._resolver.queries.append(query)
            for answer in self._resolver.say(query, True):
                self.transport.write(struct.pack(">H", len(answer)) + answer)

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)


class UdpFlows(DatagramProtocol):
    """A client: sends, and gives the next datagram that comes."""

    transport: Any

    def __init__(self, reactor: Any) -> None:
        self._waiting: list[Deferred[bytes]] = []
        self._received: list[bytes] = []
        self.port = reactor.listenUDP(0, self, interface="127.0.0.1", maxPacketSize=65535)

    def ask(self, query: bytes, server: tuple[str, int]) -> Deferred[bytes]:
        """Send; fires with the next answer to anything."""
        self.transport.write(query, server)
        return self.next()

    def next(self) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()
        self._waiting.append(done)
        self._deliver()
        return done

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._received.append(datagram)
        self._deliver()

    def _deliver(self) -> None:
        while self._waiting and self._received:
            self._waiting.pop(0).callback(self._received.pop(0))
