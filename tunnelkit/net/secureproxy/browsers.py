"""Those who wait at a Communication Server for a client that publishes a site (row S10)."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from tunnelkit.core.secureproxy.session import Visitor
from tunnelkit.errors import DialError
from tunnelkit.net.sockets.socket_carrier import Carrier
from tunnelkit.net.tls.tls_carrier import TlsCarrier
from tunnelkit.wire.tls_peek import UNRECOGNIZED_NAME


class VisitorHost(Protocol):
    """The server, as those who wait see it."""

    def browser_lost(self, visitor: Visitor) -> None:
        """A browser that waits is gone."""

    def errand_over(self, visitor: Visitor) -> None:
        """A lent connection has ended, or is not waited for any more."""


class Browser:
    """A browser's connection that waits for its publisher (`CarrierSink`)."""

    def __init__(
        self, server: VisitorHost, visitor: Visitor, carrier: Carrier, seen: bytes
    ) -> None:
        self._server = server
        self._visitor = visitor
        self._carrier = carrier
        self._seen = seen
        carrier.hand_over(self)

    def turn_away(self, reason: str) -> None:
        """Nobody will come."""
        refuse(self._carrier, UNRECOGNIZED_NAME)

    def give_away(self) -> tuple[Carrier, bytes]:
        """The connection, and what it has said so far."""
        return self._carrier, self._seen

    def carrier_received(self, view: memoryview) -> None:
        """Not while it is paused."""
        self._seen += view

    def carrier_writable(self) -> None:
        """Nothing is written here."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """It has been reset."""
        self._server.browser_lost(self._visitor)


class Errand:
    """Waits for a client that is asked by HTTP. ``carrier`` fires with the connection to it, and
    fails with `DialError`; `over` must be called when the connection, or the waiting, is over."""

    def __init__(self, server: VisitorHost, visitor: Visitor) -> None:
        self._server = server
        self._visitor = visitor
        self._over = False
        self.carrier: Deferred[TlsCarrier] = Deferred(lambda _: self.over())

    def turn_away(self, reason: str) -> None:
        """Nobody will come."""
        self._over = True
        if not self.carrier.called:
            self.carrier.errback(DialError(reason))

    def lent(self, carrier: TlsCarrier) -> None:
        """The client is there."""
        self.carrier.callback(carrier)

    def over(self) -> None:
        """Nothing more is to be sent."""
        if not self._over:
            self._over = True
            self._server.errand_over(self._visitor)


def refuse(carrier: Carrier, alert: bytes) -> None:
    """Say why in TLS's words, without TLS, and close."""
    carrier.write(alert)
    carrier.close()
