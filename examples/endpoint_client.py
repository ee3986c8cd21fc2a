"""Fetch one page through a tunnel: an ordinary Twisted client whose endpoint is a string.

    python endpoint_client.py 'tunnel:service=wiki:config=end.toml'

Any other client endpoint will do as well, for example ``tcp:127.0.0.1:80``.
"""

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure


class Fetch(Protocol):
    """Sends one request and prints the answer."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"GET / HTTP/1.0\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        sys.stdout.write(data.decode("latin-1"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(None)


async def main(reactor: Any, endpoint: str) -> None:
    """Fetch and print."""
    fetch = await connectProtocol(clientFromString(reactor, endpoint), Fetch())
    await fetch.done


if __name__ == "__main__":
    task.react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
