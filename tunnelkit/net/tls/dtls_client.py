"""One DTLS association that this side begins, as a Twisted protocol (rows W1, W8)."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from tunnelkit.net.tls.dtls_association import DtlsAssociation
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.tls.dtls_engine import DtlsEngine

LIMIT = 30.0
"""Seconds for the handshake."""
_LEAST_WAIT = 0.01


class DtlsClient(DatagramProtocol):
    """Give it to ``reactor.listenUDP(0, ...)``; it shakes hands with ``address``.

    ``protocol`` has its connectionMade once the handshake is complete, or its connectionLost with
    the reason if it does not complete within `LIMIT` seconds. ``session``: what
    ``association.engine.session`` of an earlier one was, to resume it.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        context: DtlsContext,
        protocol: IProtocol,
        address: tuple[str, int],
        session: SSL.Session | None = None,
    ) -> None:
        self._reactor = reactor
        self._context = context
        self._protocol = protocol
        self._address = address
        self._session = session
        self._engine: DtlsEngine | None = None
        self._timer: IDelayedCall | None = None
        self._limit: IDelayedCall | None = None
        self.association: DtlsAssociation | None = None
        """Once the handshake is complete."""

    # -- DatagramProtocol -------------------------------------------------

    def startProtocol(self) -> None:
        """Say hello."""
        self._limit = self._reactor.callLater(LIMIT, self._too_late)
        self._engine = DtlsEngine(self._context, client=True, session=self._session)
        self._advance()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See `DatagramProtocol`."""
        if addr[:2] != self._address or self._engine is None:
            return
        if self.association is not None:
            self.association.receive(datagram)
            return
        received = self._engine.receive(datagram)
        self._advance()
        association = self._made()
        if association is not None:
            for data in received:
                association.deliver(data)

    def stopProtocol(self) -> None:
        """The port is closed."""
        self._stop()

    # -- Place ------------------------------------------------------------

    def flush(self, engine: DtlsEngine) -> None:
        """Send what ``engine`` has to say."""
        if self.transport is not None:
            for datagram in engine.datagrams_to_send():
                self.transport.write(datagram, self._address)

    def ended(self, association: DtlsAssociation) -> None:
        """It is over."""
        self._stop()

    # -- inside -----------------------------------------------------------

    def _made(self) -> DtlsAssociation | None:
        return self.association

    def _advance(self) -> None:
        engine = self._engine
        if engine is None:
            return
        self.flush(engine)
        if engine.over:
            self._fail(str(engine.failure or "the handshake ended"))
        elif engine.established:
            self._stop()
            association = DtlsAssociation(engine, self, self.transport, self._address)
            self.association = association
            association.begin(self._protocol)
        else:
            self._restart_timer(engine)

    def _restart_timer(self, engine: DtlsEngine) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        left = engine.timeout()
        self._timer = None
        if left is not None:
            self._timer = self._reactor.callLater(max(left, _LEAST_WAIT), self._timed_out)

    def _timed_out(self) -> None:
        if self._engine is not None:
            self._engine.timed_out()
            self._advance()

    def _too_late(self) -> None:
        self._fail(f"no handshake within {LIMIT:g} seconds")

    def _fail(self, why: str) -> None:
        self._stop()
        self._engine = None
        self._protocol.connectionLost(Failure(ConnectionLost(why)))

    def _stop(self) -> None:
        for timer in (self._timer, self._limit):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._limit = None
