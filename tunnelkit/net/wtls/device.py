"""A device: asks a proxy for URLs by CoAP over DTLS, from a port that it keeps (row W4).

For tests, the demonstration and measurements; real devices have a stack of their own.
"""

from __future__ import annotations

import os
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from tunnelkit.core.wtls.coap_blocks import Response
from tunnelkit.core.wtls.coap_client import CoapClient
from tunnelkit.errors import DialError, DialTimeout, RemoteProtocolError
from tunnelkit.net.sockets.datagram_port import Address, DatagramPort
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer, on_monotonic_clock
from tunnelkit.net.sockets.udp import bind_udp
from tunnelkit.net.tls.dtls_association import DtlsAssociation
from tunnelkit.net.tls.dtls_client import DtlsClient
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.wire.coap import Code


class Device:
    """One device at one port; `connect` begins an association, `ask` uses it."""

    def __init__(self, reactor: Any, port: DatagramPort, proxy: Address) -> None:
        self._reactor = reactor
        self._port = port
        self._proxy = proxy
        self._client: DtlsClient | None = None
        self._asking = _Asking(reactor)
        port.start()

    @classmethod
    def bound(cls, reactor: Any, decision: Any, proxy: Address) -> Device:
        """A device at the port that ``decision`` (of `Policy.own`) allows."""
        holder: list[Device] = []
        sock = bind_udp(decision)
        port = DatagramPort(
            Poller.of(reactor), sock, lambda data, where: holder[0]._received(data, where)
        )
        device = cls(on_monotonic_clock(reactor), port, proxy)
        holder.append(device)
        return device

    async def connect(self, context: DtlsContext, session: SSL.Session | None = None) -> None:
        """Begin an association, in place of one that there is; raises `DialError`."""
        asking = self._asking = _Asking(self._reactor)
        self._client = DtlsClient(self._reactor, context, asking, self._proxy, session)
        transport: Any = self._port
        self._client.makeConnection(transport)
        await asking.up

    async def ask(self, url: str, method: int = Code.GET, body: bytes = b"") -> Response:
        """What the proxy answers; raises `DialError` if nothing comes."""
        return await self._asking.ask(url, method, body)

    @property
    def session(self) -> SSL.Session | None:
        """What the association can be resumed with."""
        client = self._client
        if client is None or client.association is None:
            return None
        return client.association.engine.session

    def disconnect(self) -> None:
        """Say close_notify."""
        self._asking.close()

    def close(self) -> None:
        """Say it, and give the port back."""
        self.disconnect()
        if self._client is not None:
            self._client.stopProtocol()
        self._port.close()

    def _received(self, data: bytes, where: Address) -> None:
        if self._client is not None:
            self._client.datagramReceived(data, where)


class _Asking(Protocol):
    """The device's side of one association."""

    transport: DtlsAssociation | None = None

    def __init__(self, reactor: Any) -> None:
        self.up: Deferred[None] = Deferred()
        self._reactor = reactor
        self._coap = CoapClient(int.from_bytes(os.urandom(2), "big"))
        self._answer: Deferred[Response] | None = None
        self._timer = Timer(reactor, self._due)
        self._over = False

    async def ask(self, url: str, method: int, body: bytes) -> Response:
        if self._over or self.transport is None:
            raise DialError("there is no association")
        answer: Deferred[Response] = Deferred()
        self._answer = answer
        self._coap.ask(method, url, body, now=self._reactor.seconds())
        self._flush()
        return await answer

    def close(self) -> None:
        if self.transport is not None and not self._over:
            self.transport.loseConnection()

    def connectionMade(self) -> None:
        self.up.callback(None)

    def dataReceived(self, data: bytes) -> None:
        try:
            response = self._coap.receive(data, self._reactor.seconds())
        except RemoteProtocolError as error:
            self._fail(DialError(str(error)))
            return
        self._flush()
        if response is not None:
            answer, self._answer = self._answer, None
            if answer is not None:
                answer.callback(response)

    def connectionLost(self, reason: Any = None) -> None:
        self._over = True
        self._timer.stop()
        why = DialError(str(reason.value) if isinstance(reason, Failure) else "closed")
        self._fail(why)

    def _fail(self, why: DialError) -> None:
        answer, self._answer = self._answer, None
        if not self.up.called:
            self.up.errback(why)
        elif answer is not None:
            answer.errback(why)

    def _flush(self) -> None:
        if self._over or self.transport is None:
            return
        for data in self._coap.data_to_send():
            self.transport.write(data)
        due = self._coap.next_deadline()
        if due is not None:
            self._timer.start_at(due)
        else:
            self._timer.stop()

    def _due(self) -> None:
        if not self._coap.deadline_passed(self._reactor.seconds()):
            self._fail(DialTimeout("the proxy did not answer"))
        self._flush()
