"""A protocol of one's own on the one port of a Communication Server: it says what time it is.

One file in a directory ``twisted/plugins`` on the Python path is all that it takes:

    mkdir -p mine/twisted/plugins && cp port_protocol.py mine/twisted/plugins/clock.py
    PYTHONPATH=mine tunnelkit secure-proxy-server ...
    openssl s_client -quiet -alpn clock/1 -servername relay.example -connect relay.example:443

Who offers ``clock/1`` by ALPN is given to it, inside TLS; tunnels and browsers go on as before.
Every start of twistd imports this file, so what is heavy is imported where it is used.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.plugin import IPlugin
from zope.interface import implementer

from tunnelkit.interfaces import IPortProtocol


class Clock(Protocol):
    """One connection."""

    def connectionMade(self) -> None:
        """The handshake may not be over yet; what is written waits for it."""
        assert self.transport is not None
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.transport.write(now.encode("ascii") + b"\r\n")
        self.transport.loseConnection()


@implementer(IPlugin, IPortProtocol)
class ClockOnThePort:
    """Found by its interface."""

    name = "clock/1"

    def make_factory(self, reactor: Any) -> IProtocolFactory:
        """For all connections of a server."""
        return Factory.forProtocol(Clock)


clock = ClockOnThePort()
