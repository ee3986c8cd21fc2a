"""One pairing on one connection that a rendezvous has made (row Q2)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tunnelkit.core.pairing.exchange import Event, Exchange, Failed, Offered, Paired, Party
from tunnelkit.errors import Code, PairingFailed, RemoteProtocolError, TunnelkitError
from tunnelkit.interfaces import IMeeting
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.net.tls.engine import TlsEngine
from tunnelkit.net.tls.stream import TlsStream
from tunnelkit.wire.pairing import Offer

EXPORTER = b"EXPORTER-tunnelkit-pair"
"""Label under which TLS gives the 32 bytes that stand for this connection."""

Judge = Callable[[Offer, str], Coroutine[Any, Any, Offer | None]]
"""``(offer, pin)``: whether to take what the other end offers; raises `PairingFailed` if not.

What it returns is offered instead of what this end has brought."""


class PairingSession:
    """Runs the exchange over ``meeting``; ``done`` fires with the other end's offer.

    Nothing is said in clear beyond what the rendezvous has said already. ``done`` fails with
    `PairingFailed`, `RemoteProtocolError` or what has ended the connection. `tried` says whether
    the code is used up by it.
    """

    def __init__(
        self,
        shared: Shared,
        meeting: IMeeting,
        context: TlsContext,
        party: Party,
        secret: bytes,
        judge: Judge,
    ) -> None:
        self._shared = shared
        self._party = party
        self._secret = secret
        self._judge = judge
        self._exchange: Exchange | None = None
        self._offer: Offer | None = None
        self._unsent = b""
        self._timer = Timer(shared.reactor, self._deadline)
        self._told = False
        self.on_tried: Callable[[PairingSession], object] = _nobody_listens
        """Told, once, when `tried` becomes true."""
        self.done: Deferred[Offer] = Deferred(self._cancel)
        self._stream = TlsStream(
            shared, meeting.carrier, TlsEngine(context, meeting.tls_client), self
        )
        self._stream.start(meeting.leftover)

    @property
    def tried(self) -> bool:
        """Whether the other end has had its try with this code."""
        return self._exchange is not None and self._exchange.tried

    # -- what TLS tells -----------------------------------------------------------

    def tls_ready(self) -> None:
        """See `TlsSink`."""
        channel = self._stream.engine.export(EXPORTER, b"")
        now = self._shared.reactor.seconds()
        self._exchange = Exchange(self._party, self._secret, channel, now)
        self._go_on()

    def tls_received(self, view: memoryview) -> None:
        """See `TlsSink`."""
        exchange = self._exchange
        if exchange is None or exchange.next_deadline() is None:
            return
        try:
            self._handle(exchange.receive(view, self._shared.reactor.seconds()))
        except RemoteProtocolError as error:
            self._go_on()
            self._fail(error)
            return
        self._go_on()

    def tls_writable(self) -> None:
        """See `TlsSink`."""
        self._flush()

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        """See `TlsSink`."""
        if isinstance(reason, TunnelkitError):
            self._fail(reason)
        else:
            used = " after a try with the code, which is used up" if self.tried else ""
            text = f"the other end has left{used}: {reason}"
            self._fail(PairingFailed(text, Code.UNREACHABLE))

    # -- the exchange -------------------------------------------------------------

    def _handle(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Failed):
                self._fail(PairingFailed(event.reason, event.code))
            elif isinstance(event, Offered):
                self._offer = event.offer
                judged = Deferred.fromCoroutine(self._judge(event.offer, event.pin))
                judged.addCallbacks(self._agreed, self._not_agreed)
            elif isinstance(event, Paired):
                assert self._offer is not None
                self._flush()
                self._end()
                self.done.callback(self._offer)

    def _agreed(self, offer: Offer | None) -> None:
        if self._exchange is not None and not self.done.called:
            self._exchange.agree(self._shared.reactor.seconds(), offer)
            self._go_on()

    def _not_agreed(self, failure: Failure) -> None:
        if self._exchange is None or self.done.called:
            return
        error = failure.value
        if not isinstance(error, PairingFailed):
            error = PairingFailed(f"this end could not go on: {error}", Code.INTERNAL)
        self._exchange.decline(error.code, str(error))
        self._go_on()
        self._fail(error)

    def _go_on(self) -> None:
        if self.tried and not self._told:
            self._told = True
            self.on_tried(self)
        self._flush()
        self._timer.stop()
        due = self._exchange.next_deadline() if self._exchange is not None else None
        if due is not None and not self.done.called:
            self._timer.start_at(due)

    def _flush(self) -> None:
        if self._exchange is not None:
            self._unsent += self._exchange.data_to_send()
        if self._unsent and self._stream.writable:
            data, self._unsent = self._unsent, b""
            self._stream.send(memoryview(data))

    def _deadline(self) -> None:
        if self._exchange is not None:
            self._handle(self._exchange.deadline_passed(self._shared.reactor.seconds()))
            self._go_on()

    # -- endings ------------------------------------------------------------------

    def _fail(self, error: TunnelkitError) -> None:
        if not self.done.called:
            self._flush()
            self._end()
            self.done.errback(error)

    def _end(self) -> None:
        self._timer.stop()
        self._stream.close()

    def _cancel(self, _done: Deferred[Offer]) -> None:
        self._timer.stop()
        self._stream.abort()


def _nobody_listens(session: PairingSession) -> None:
    """Until somebody does."""
