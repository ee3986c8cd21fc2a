"""A client's connection for one session: until START, and TLS with the server is off (S6, S10)."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tunnelkit.core.secureproxy.dialogue import Event, Refused, SessionDialogue, Started
from tunnelkit.errors import AuthError, Code, DialError, RemoteProtocolError, TunnelkitError
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.stream import TlsStream, Unwrapped
from tunnelkit.wire.secureproxy import (
    SESSION,
    Connect,
    Incoming,
    Spare,
    StartPass,
    StartSecure,
    StartWeb,
)


@attrs.frozen
class Opened:
    """The other side is there, and TLS with the server is off."""

    start: StartSecure | StartPass
    unwrapped: Unwrapped


@attrs.frozen
class Lent:
    """START_WEB has come: the TLS stays."""

    start: StartWeb
    stream: TlsStream
    leftover: bytes
    """HTTP that came behind it."""


class Opening:
    """``opened`` fires with `Opened` or `Lent`; it may be cancelled.

    Fails with `DialError` where the server refuses (its ``code`` is the server's), `AuthError`
    where the server is another, `RemoteProtocolError` where it says something else than was
    asked for.
    """

    def __init__(self, link: ServerLink, purpose: Connect | Incoming | Spare) -> None:
        self._link = link
        clock = link.shared.reactor
        self._dialogue = SessionDialogue(link.hello(SESSION), purpose, clock.seconds())
        self._clock = clock
        self._timer = Timer(clock, self._deadline)
        self._stream: TlsStream | None = None
        self._started = False
        self.opened: Deferred[Opened | Lent] = Deferred(self._cancelled)
        self._dialling = Deferred.fromCoroutine(link.connect(self))
        self._dialling.addCallbacks(self._connected, self._not_connected)

    def _connected(self, stream: TlsStream) -> None:
        self._stream = stream
        stream.start(b"")

    def _not_connected(self, failure: Failure) -> None:
        if not self.opened.called:
            self.opened.errback(failure)

    # -- what TLS tells ----------------------------------------------------------

    def tls_ready(self) -> None:
        """See `TlsSink`."""
        assert self._stream is not None
        self._link.require_server(self._stream)
        self._go_on()

    def tls_received(self, view: memoryview) -> None:
        """See `TlsSink`."""
        if self.opened.called:
            return
        try:
            events = self._dialogue.receive(view, self._clock.seconds())
        except RemoteProtocolError as error:
            self._go_on()
            self._fail(error)
            return
        self._handle(events)
        self._go_on()

    def tls_writable(self) -> None:
        """Nothing waits: these are few and short messages."""

    def tls_ended(self) -> None:
        """The server ends its TLS: so it must behind START, otherwise it goes away."""
        if not self._started or self.opened.called:
            self._fail(DialError("the server closed the connection"))

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        """See `TlsSink`."""
        if isinstance(reason, AuthError | RemoteProtocolError):
            self._fail(reason)
        else:
            self._fail(DialError(f"the connection to the server was lost: {reason}"))

    # -- the dialogue --------------------------------------------------------------

    def _go_on(self) -> None:
        stream = self._stream
        data = self._dialogue.data_to_send()
        if data and stream is not None and stream.writable:
            stream.send(memoryview(data))
        due = self._dialogue.next_deadline()
        if due is None or self.opened.called:
            self._timer.stop()
        else:
            self._timer.start_at(due)

    def _deadline(self) -> None:
        self._handle(self._dialogue.deadline_passed(self._clock.seconds()))
        self._go_on()

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Refused):
                self._fail(_refusal(event.code, event.reason))
            elif isinstance(event, Started):
                self._begin(event)

    def _begin(self, event: Started) -> None:
        stream, start = self._stream, event.start
        assert stream is not None
        self._started = True
        self._timer.stop()
        if isinstance(start, StartWeb):
            self.opened.callback(Lent(start, stream, self._dialogue.leftover))
            return
        stream.unwrap().addCallbacks(
            lambda unwrapped: self._off(start, unwrapped), self._not_connected
        )

    def _off(self, start: StartSecure | StartPass, unwrapped: Unwrapped) -> None:
        if self.opened.called:
            unwrapped.carrier.abort()
        else:
            self.opened.callback(Opened(start, unwrapped))

    def _cancelled(self, _opened: object) -> None:
        self._timer.stop()
        self._dialling.cancel()
        if self._stream is not None:
            self._stream.abort()

    def _fail(self, error: TunnelkitError) -> None:
        self._timer.stop()
        if self._stream is not None:
            self._stream.close()
        if not self.opened.called:
            self.opened.errback(error)


def _refusal(code: Code, reason: str) -> DialError:
    return DialError(f"the server says {code}: {reason}", code=code)
