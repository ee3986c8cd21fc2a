"""A program that speaks Usher itself: it asks a web server behind a gate, without any local port.

    python examples/usherfied.py GATE-HOST:PORT IDENTITY.pem GATE-NAME tcp:HOST:PORT PATH

See docs/howto/library.md.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure

from tunnelkit.errors import Code
from tunnelkit.net.channels.end import TunnelEnd, context_for
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.usher.meeting import UsherRendezvous
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.policy.identity import load_identity


class Fetch(Protocol):
    """Any Twisted protocol will do: this one says one line of HTTP/1.0, and half-closes."""

    transport: Any

    def __init__(self, path: str) -> None:
        self.answer = b""
        self.done: Deferred[bytes] = Deferred()
        self._request = f"GET {path} HTTP/1.0\r\n\r\n".encode()

    def connectionMade(self) -> None:
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self.answer += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self.answer)


def refuse(request: ChannelRequest) -> None:
    """The gate may reach nothing here."""
    request.refuse(Code.NOT_ALLOWED, "this program serves nobody")


async def main(
    reactor: Any, gate: str, identity_file: str, name: str, destination: str, path: str
) -> None:
    identity = load_identity(identity_file)
    shared = Shared.of(reactor)
    tunnel = Tunnel(shared, "usherfied", refuse, lambda record: None)
    protocols = [UsherProtocol()]
    portal = TunnelEnd(
        UsherRendezvous(clientFromString(reactor, f"tcp:{gate}")),
        protocols,
        tunnel=tunnel,
        context=context_for(identity.credentials, protocols),
        peers=[name],
    )
    portal.start()
    try:
        fetch: Any = await tunnel.channel_to(destination).connect(
            Factory.forProtocol(lambda: Fetch(path))
        )
        sys.stdout.write((await fetch.done).decode("utf-8", "replace"))
    finally:
        await portal.stop(5.0)


if __name__ == "__main__":
    react(main, sys.argv[1:])
