"""Dials once and says what became of it.

``python -m tests.acceptance.dial_once HOST PORT [VIA ...]``
sends ``ping`` and prints ``GOT`` with what comes back, or ``FAILED`` with the class and
text of the error. The password for a proxy may be in the file named by PASSWORD_FILE.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from tunnelkit.errors import TunnelkitError
from tunnelkit.net.dial.choice import make_dialer
from tunnelkit.net.dial.via import read_password_file


class Ping(Protocol):
    """Waits for the four bytes that come back."""

    def __init__(self) -> None:
        self.received = b""
        self.answered: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"ping")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if len(self.received) == 4:
            self.answered.callback(self.received)


async def main(reactor: Any, host: str, port: str, *via: str) -> None:
    """Dial, and print one line."""
    try:
        file = os.environ.get("PASSWORD_FILE")
        password = None if file is None else read_password_file(file)
        dialer = make_dialer(reactor, via, password=password, connect_limit=5, handshake_limit=5)
        endpoint: Any = dialer.endpoint_for(host, int(port))
        protocol: Ping = await endpoint.connect(Factory.forProtocol(Ping))
        print("GOT", (await protocol.answered).decode(), dialer.describe(), flush=True)
    except TunnelkitError as problem:
        print("FAILED", type(problem).__name__, problem, flush=True)


if __name__ == "__main__":
    react(main, sys.argv[1:])
