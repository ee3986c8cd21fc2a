"""A channel protocol of one's own; ``python examples/custom_protocol.py`` shows it at work.

Every frame begins with 9 bytes, big-endian: LENGTH of what follows (4), KIND (1), CHANNEL (4).
`tunnelkit.core.mux.plain` does what does not depend on that; see docs/howto/library.md.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.plain import PlainMux
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.interfaces import IChannelProtocol, IEnd, IRendezvous
from tunnelkit.net.channels.contracts import ExtendedConnection
from tunnelkit.net.channels.end import TunnelEnd, context_for
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.usher.meeting import GateRendezvous, UsherGateFactory, UsherRendezvous
from tunnelkit.testing import ThrowawayCA, throwaway_ca

ALPN = b"example/1"
HEADER = Struct(">IBI")
CREDIT = Struct(">QQ")
OPEN, OPENED, DATA, GRANT, FINISH, RESET, END = range(1, 8)


def check_header(length: int, kind: int) -> None:
    """Before anything is allocated."""
    if not OPEN <= kind <= END or length > (PlainMux.max_frame if kind == DATA else 1024):
        raise RemoteProtocolError(f"a frame of kind {kind} with {length} bytes")


class ExampleMux(PlainMux):
    """How frames look, and which one means what."""

    header = HEADER
    data_kind = DATA
    check_header = staticmethod(check_header)

    # -- writing ----------------------------------------------------------

    def _put(self, kind: int, channel: int, body: bytes = b"") -> None:
        self._out.append(HEADER.pack(len(body), kind, channel) + body)

    def _put_open(self, channel: int, destination: str) -> None:
        self._put(OPEN, channel, destination.encode())

    def _put_opened(self, channel: int, bound: str) -> None:
        self._put(OPENED, channel, bound.encode())

    def _put_finish(self, channel: int) -> None:
        self._put(FINISH, channel)

    def _put_reset(self, channel: int, code: Code, reason: str) -> None:
        self._put(RESET, channel, f"{code} {reason}".encode()[:1024])

    def _put_end(self, code: Code, reason: str) -> None:
        self._put(END, 0, f"{code} {reason}".encode()[:1024])

    def _put_grant(self, channel: int, taken: int, limit: int) -> None:
        self._put(GRANT, channel, CREDIT.pack(taken, limit))

    def _data_header(self, channel: int, size: int) -> bytes:
        return HEADER.pack(size, DATA, channel)

    # -- reading ----------------------------------------------------------

    def message(self, kind: int, flags: int, channel: int, body: bytes) -> None:
        ch = None if kind in (OPEN, END) else self._find(channel)
        if kind == OPEN:
            self._events += self._far_open(channel, body.decode())
        elif kind == END:
            code, _, reason = body.decode().partition(" ")
            self._events += self._far_end(Code.read(code), reason)
        elif ch is not None and kind == RESET:
            code, _, reason = body.decode().partition(" ")
            self._events += self._far_reset(ch, Code.read(code), reason)
        elif ch is not None and kind == OPENED:
            self._events += self._far_opened(ch, body.decode())
        elif ch is not None and kind == FINISH:
            self._events += self._far_finish(ch)
        elif ch is not None:
            self._events += self._far_grant(ch, *CREDIT.unpack(body))


@implementer(IChannelProtocol)
class Channels:
    """The protocol, for a `TunnelEnd`."""

    alpn = (ALPN,)

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def make_mux(self, master: bool, alpn: bytes, now: float) -> ExampleMux:
        """A mux for one connection."""
        return ExampleMux(master, self.budget, now)

    def extend(self, connection: ExtendedConnection, end: IEnd) -> None:
        """There is nothing beside the channels."""


def make_protocol(reactor: Any) -> Channels:
    """With this, `ProtocolMaker("example", "custom_protocol")` lets twistd choose it by name."""
    return Channels(Shared.of(reactor).budget)


# -- at work: two ends, TLS with certificates between them ----------------------------------


class Greeter(Protocol):
    """A service at the far end: says hello to who asks, and ends."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"hello, " + data)
        self.transport.loseConnection()


def make_end(shared: Shared, ca: ThrowawayCA, name: str, peer: str, way: IRendezvous) -> TunnelEnd:
    """Trusts ``ca``, and refuses every destination but the services that it accepts."""
    protocols = [Channels(shared.budget)]
    return TunnelEnd(
        way,
        protocols,
        tunnel=Tunnel(shared, "example", refuse, lambda record: None),
        context=context_for(ca.credentials(name), protocols),
        peers=[peer],
    )


def refuse(request: ChannelRequest) -> None:
    request.refuse(Code.NOT_ALLOWED, "only services are reached here")


async def main(reactor: Any) -> None:
    shared, ca = Shared.of(reactor), throwaway_ca()
    arrivals = GateRendezvous(shared)
    gate = make_end(shared, ca, "gate", "portal", arrivals)
    await gate.tunnel.accept("greeting").listen(Factory.forProtocol(Greeter))
    listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await listening.listen(UsherGateFactory(arrivals))

    way = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    portal = make_end(shared, ca, "portal", "gate", UsherRendezvous(way))
    gate.start()
    portal.start()
    await portal.tunnel.when_up()
    await ask(portal.tunnel)
    await gatherResults([portal.stop(1.0), gate.stop(1.0), port.stopListening()])


async def ask(tunnel: Tunnel) -> None:
    """Open a channel with an ordinary Twisted protocol, and print what comes back."""
    answer: Deferred[bytes] = Deferred()
    asker: Any = await tunnel.channel_to("service:greeting").connect(Factory.forProtocol(Collector))
    asker.done = answer
    asker.transport.write(tunnel.peer.encode())
    print((await answer).decode(), "through", ALPN.decode())


class Collector(Protocol):
    """Keeps what it gets until the end."""

    done: Deferred[bytes]

    def __init__(self) -> None:
        self.got = b""

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self.got)


if __name__ == "__main__":
    react(main)
