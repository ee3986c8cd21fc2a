"""A server for DTLS devices in a few lines: sends back each datagram.

    python examples/dtls_echo.py IDENTITY.pem PORT
    openssl s_client -dtls1_2 -connect 127.0.0.1:PORT -CAfile IDENTITY.pem

Any Twisted protocol will do; its ``dataReceived`` is called with whole datagrams.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.wire import Echo

from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.tls.dtls_server import DtlsServer
from tunnelkit.policy.identity import load_identity


async def main(reactor: Any, identity_file: str, port: str) -> None:
    context = DtlsContext(load_identity(identity_file).credentials)
    server = DtlsServer(reactor, context, Factory.forProtocol(Echo))
    listening = reactor.listenUDP(int(port), server, interface="127.0.0.1", maxPacketSize=65_535)
    print(f"listening on 127.0.0.1:{listening.getHost().port}", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
