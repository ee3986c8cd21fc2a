"""A rendezvous of one's own: two ends in containers meet at a unix socket that both mount.

python own_rendezvous.py /shared/meet office.pem laptop inside        # allows service:clock
python own_rendezvous.py /shared/meet laptop.pem office outside       # asks it
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit import Tunnel, load_identity
from tunnelkit.errors import Code
from tunnelkit.interfaces import IRendezvous
from tunnelkit.net.channels.end import TunnelEnd, context_for
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import take_over
from tunnelkit.net.usher.meeting import UsherMeeting


class Arrived(Protocol):
    """Its connection becomes the tunnel's."""

    def __init__(self, inside: bool, met: Callable[[UsherMeeting], object]) -> None:
        self.inside = inside
        self.met = met

    def connectionMade(self) -> None:
        self.met(
            UsherMeeting(take_over(self.transport), not self.inside, host="the shared directory")
        )


@implementer(IRendezvous)
class SharedDirectory:
    """The inside listens at ``path``, the outside connects to it. Who it is, TLS will prove."""

    def __init__(self, reactor: Any, path: str, inside: bool) -> None:
        self.reactor, self.path, self.serves = reactor, path, inside

    async def meet(self, on_waiting: Callable[[str], object] | None = None) -> UsherMeeting:
        """One connection; see `IRendezvous`."""
        met: Deferred[UsherMeeting] = Deferred()
        factory = Factory.forProtocol(lambda: Arrived(self.serves, met.callback))
        if not self.serves:
            await UNIXClientEndpoint(self.reactor, self.path).connect(factory)
            return await met
        port = await UNIXServerEndpoint(self.reactor, self.path).listen(factory)
        try:
            if on_waiting is not None:
                on_waiting(f"at {self.path}")
            return await met
        finally:
            await port.stopListening()


class Clock(Protocol):
    """What the inside has to offer."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(time.strftime("%H:%M\n").encode())
        self.transport.loseConnection()


class Ask(Protocol):
    """What the outside wants."""

    def __init__(self) -> None:
        self.heard, self.done = b"", Deferred[bytes]()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self.heard)


async def main(reactor: Any, path: str, identity_file: str, peer: str, side: str) -> None:
    """Be one of the two ends."""
    identity, protocols = load_identity(identity_file), [LstpProtocol()]
    tunnel = Tunnel(
        Shared.of(reactor),
        "shared",
        lambda request: request.refuse(Code.NOT_ALLOWED, "services only"),
        lambda record: None,
    )
    end = TunnelEnd(
        SharedDirectory(reactor, path, side == "inside"),
        protocols,
        tunnel=tunnel,
        context=context_for(identity.credentials, protocols),
        peers=[peer],
        on_ready=lambda: print("ready", flush=True),
    )
    if side == "inside":
        await tunnel.accept("clock").listen(Factory.forProtocol(Clock))
    end.start()
    if side == "inside":
        await Deferred()
    await tunnel.when_up()
    asked: Any = await tunnel.channel_to("service:clock").connect(Factory.forProtocol(Ask))
    print((await asked.done).decode(), end="")
    await end.stop(1.0)


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
