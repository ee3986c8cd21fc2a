"""A device's association with a proxy: CoAP in, answers out (row W2)."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.wtls.coap_blocks import Response
from tunnelkit.core.wtls.coap_server import CoapServer, Request
from tunnelkit.core.wtls.http_mapping import CannotBeServed, HttpMapping, error_response
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.dtls_association import DtlsAssociation
from tunnelkit.wire.coap import Code

_log = Logger()

ANONYMOUS = "anonymous"
"""What rules and logs call a device without a certificate."""
KEPT_BYTES = 64 << 20
"""Bytes of answers in blocks that are kept for all devices together."""


class CoapAssociation(Protocol):
    """``answer`` is asked for each request; it may raise `CannotBeServed`."""

    transport: DtlsAssociation

    def __init__(
        self,
        reactor: Any,
        address: tuple[str, int],
        answer: Callable[[CoapAssociation, Request], Awaitable[Response]],
        kept: KeptBodies,
        made: Callable[[CoapAssociation], object] = lambda association: None,
        ended: Callable[[CoapAssociation], object] = lambda association: None,
    ) -> None:
        self.address = address
        """Where the device is."""
        self.name = ANONYMOUS
        """What its certificate says."""
        self.mapping = HttpMapping()
        self.sent_away = False
        """It has been told to come again."""
        self.over = False
        self._answer = answer
        self._kept = kept
        self._made = made
        self._ended = ended
        self._reactor = reactor
        first_id, spread = os.urandom(2), os.urandom(1)
        self.coap = CoapServer(int.from_bytes(first_id, "big"), spread[0] / 255)
        self._timer = Timer(reactor, self._due)
        self._closing = Timer(reactor, self.close)
        self._ending = Timer(reactor, self._end)
        self._last_call: tuple[Response, float] | None = None
        self.close_when_answered = False
        """What is asked now is the last."""

    def close(self) -> None:
        """Say close_notify."""
        if not self.over:
            self.transport.loseConnection()

    def close_in(self, seconds: float) -> None:
        """Say it later, unless it is over before."""
        self._closing.start(seconds)

    def end_in(self, seconds: float, refusal: Response, last_call: float) -> None:
        """Answer what is asked then, later blocks too, with ``refusal``, and close; without
        anything asked close ``last_call`` seconds later. Said again, the new time counts."""
        self._last_call = refusal, last_call
        self._ending.start(seconds)

    def _end(self) -> None:
        if self._last_call is not None:
            refusal, seconds = self._last_call
            self.coap.refuse_with(refusal)
            self.close_when_answered = True
            self._closing.start(seconds)

    def connectionMade(self) -> None:
        """The handshake is complete."""
        self.name = self.transport.peer_name or ANONYMOUS
        self._made(self)

    def dataReceived(self, data: bytes) -> None:
        """One datagram of the device."""
        for request in self.coap.receive(data, self._reactor.seconds()):
            Deferred.fromCoroutine(self._serve(request))
        self._close_if_answered()
        self.flush()

    def connectionLost(self, reason: Any = None) -> None:
        """It is over; what is still being fetched will be of no use."""
        self.over = True
        self._timer.stop()
        self._closing.stop()
        self._ending.stop()
        self._kept.forget(self)
        self._ended(self)

    def flush(self) -> None:
        """Send what is ready."""
        if self.over:
            return
        for data in self.coap.data_to_send():
            self.transport.write(data)
        due = self.coap.next_deadline()
        if due is not None and not self.over:
            self._timer.start_by(due)

    async def _serve(self, request: Request) -> None:
        try:
            response = await self._answer(self, request)
        except CannotBeServed as refusal:
            response = refusal.response
        except Exception:
            _log.failure("A device's request failed", Failure())
            response = error_response(Code.INTERNAL_SERVER_ERROR, "the proxy failed")
        if not self.over:
            self.coap.respond(request, response, self._reactor.seconds())
            self._kept.changed(self)
            self._close_if_answered()
            self.flush()

    def _close_if_answered(self) -> None:
        if self.close_when_answered and self.coap.has_answers:
            self.flush()
            self.close()

    def _due(self) -> None:
        self.coap.deadline_passed(self._reactor.seconds())
        self.flush()


class KeptBodies:
    """Bounds the memory for answers in blocks, of all devices together (rule X25)."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most = most
        self._sizes: OrderedDict[CoapAssociation, int] = OrderedDict()
        self._total = 0

    def changed(self, association: CoapAssociation) -> None:
        """``association`` may keep another one now; the oldest ones go if it is too much."""
        self.forget(association)
        size = association.coap.kept_body
        if size:
            self._sizes[association] = size
            self._total += size
        while self._total > self._most and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            oldest.coap.forget_body()
            self.forget(oldest)

    def forget(self, association: CoapAssociation) -> None:
        """It keeps nothing any more."""
        self._total -= self._sizes.pop(association, 0)
