"""A client's control connection, kept up: what it publishes, and who asks for it (S4)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.secureproxy.client import (
    Asked,
    ControlDialogue,
    Draining,
    Ended,
    Event,
    Published,
    RequestRefused,
    Seen,
    SessionOff,
    Welcomed,
)
from tunnelkit.errors import Code, RemoteProtocolError, TunnelkitError
from tunnelkit.net.dial.backoff import Backoff
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.stream import TlsStream
from tunnelkit.wire.secureproxy import ASK, PRESENT, Incoming, Presence, Resource, Welcome

_log = Logger()

REPLACED_PAUSE = 60.0
"""Seconds for which a client that was replaced does not come back."""
_SETTLED = 5.0


class ControlConnection:
    """One connection; ``on_event`` is told what comes, and at last `Ended`, once."""

    def __init__(self, link: ServerLink, purpose: str, on_event: Callable[[Event], object]) -> None:
        self._link = link
        self._clock = link.shared.reactor
        self._dialogue = ControlDialogue(link.hello(purpose), self._clock.seconds())
        self._on_event = on_event
        self._timer = Timer(self._clock, self._deadline)
        self._stream: TlsStream | None = None
        self._unsent = bytearray()
        self._over = False
        self._dialling = Deferred.fromCoroutine(link.connect(self))
        self._dialling.addCallbacks(self._connected, self._not_connected)

    @property
    def welcome(self) -> Welcome | None:
        """What the server said first, once it has."""
        return None if self._over else self._dialogue.welcome

    def publish(self, resources: tuple[Resource, ...]) -> None:
        """This is the whole table."""
        self._dialogue.publish(resources, self._clock.seconds())
        self._go_on()

    def look_up(self, target: str, watch: bool = False) -> None:
        """`Seen` or `RequestRefused` will be told."""
        self._dialogue.look_up(target, self._clock.seconds(), watch=watch)
        self._go_on()

    def refuse(self, session: str, code: Code, reason: str) -> None:
        """No session."""
        self._dialogue.refuse(session, code, reason, self._clock.seconds())
        self._go_on()

    def close(self, reason: str) -> None:
        """Leave; nothing is told any more."""
        if self._over:
            return
        self._over = True
        self._timer.stop()
        self._dialogue.leave(reason, self._clock.seconds())
        self._dialling.cancel()
        if self._stream is not None:
            self._flush()
            self._stream.close()

    def _connected(self, stream: TlsStream) -> None:
        if self._over:
            stream.carrier.abort()
            return
        self._stream = stream
        stream.start(b"")

    def _not_connected(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._end(Code.UNREACHABLE, failure.getErrorMessage())

    # -- what TLS tells -----------------------------------------------------------

    def tls_ready(self) -> None:
        """See `TlsSink`."""
        assert self._stream is not None
        self._link.require_server(self._stream)
        self._go_on()

    def tls_received(self, view: memoryview) -> None:
        """See `TlsSink`."""
        if self._over:
            return
        try:
            events = self._dialogue.receive(view, self._clock.seconds())
        except RemoteProtocolError as error:
            self._go_on()
            self._end(error.code, str(error))
            return
        self._tell(events)
        self._go_on()

    def tls_writable(self) -> None:
        """See `TlsSink`."""
        self._flush()

    def tls_ended(self) -> None:
        """The server has closed the connection."""
        self._end(Code.RESET, "the server closed the connection")

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        """See `TlsSink`."""
        self._end(Code.RESET, str(reason))

    # -- the dialogue -------------------------------------------------------------

    def _go_on(self) -> None:
        if self._over:
            return
        self._flush()
        due = self._dialogue.next_deadline()
        if due is None:
            self._timer.stop()
        else:
            self._timer.start_at(due)

    def _flush(self) -> None:
        self._unsent += self._dialogue.data_to_send()
        stream = self._stream
        if self._unsent and stream is not None and stream.writable:
            data, self._unsent = self._unsent, bytearray()
            stream.send(memoryview(data))

    def _deadline(self) -> None:
        self._tell(self._dialogue.deadline_passed(self._clock.seconds()))
        self._go_on()

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Ended):
                self._end(event.code, event.reason)
            elif not self._over:
                self._on_event(event)

    def _end(self, code: Code, reason: str) -> None:
        if self._over:
            return
        self._flush()
        self._over = True
        self._timer.stop()
        if self._stream is not None:
            self._stream.close()
        self._on_event(Ended(code, reason))


class Registration:
    """Keeps a client present, from `start` to `stop`.

    ``on_asked(incoming, refuse)`` is told of each session that somebody wants,
    ``on_off(session)`` of each that is off again, ``on_present()`` when the server lets it in,
    ``on_published()`` when it has taken the table of resources.
    """

    def __init__(
        self,
        link: ServerLink,
        resources: tuple[Resource, ...],
        on_asked: Callable[[Incoming, Callable[[Code, str], None]], object],
        on_off: Callable[[str], object],
        on_present: Callable[[], object] = lambda: None,
        on_published: Callable[[], object] = lambda: None,
    ) -> None:
        self._link = link
        self._resources = resources
        self._on_asked = on_asked
        self._on_off = on_off
        self._on_present = on_present
        self._on_published = on_published
        self._backoff = Backoff()
        self._current: ControlConnection | None = None
        self._next: ControlConnection | None = None
        """Dialled while the current one is drained."""
        self._retry = Timer(link.shared.reactor, self._dial)
        self._began = 0.0
        self._running = False
        self.last_error = ""
        """Why there is no registration, if there is none."""

    @property
    def present(self) -> bool:
        """Whether the server has let this client in."""
        return self._current is not None and self._current.welcome is not None

    def start(self) -> None:
        """Register, and go on."""
        self._running = True
        self._dial()

    def stop(self, reason: str) -> None:
        """Leave."""
        self._running = False
        self._retry.stop()
        for one in (self._current, self._next):
            if one is not None:
                one.close(reason)
        self._current = self._next = None

    def publish(self, resources: tuple[Resource, ...]) -> None:
        """From now on this is the whole table."""
        self._resources = resources
        if self._current is not None:
            self._current.publish(resources)

    def _dial(self) -> None:
        self._began = self._link.shared.reactor.seconds()
        self._current = self._make()

    def _make(self) -> ControlConnection:
        made: ControlConnection = ControlConnection(
            self._link, PRESENT, lambda event: self._told(made, event)
        )
        made.publish(self._resources)
        return made

    def _told(self, by: ControlConnection, event: Event) -> None:
        if isinstance(event, Welcomed):
            self._welcomed(by, event.welcome)
        elif isinstance(event, Asked):
            session = event.incoming.session
            self._on_asked(event.incoming, lambda code, reason: by.refuse(session, code, reason))
        elif isinstance(event, SessionOff):
            self._on_off(event.session)
        elif isinstance(event, Published):
            self._on_published()
        elif isinstance(event, RequestRefused):
            _log.warn(
                "The server does not publish this: {code}, {reason}",
                code=str(event.code),
                reason=event.reason,
            )
        elif isinstance(event, Draining):
            if self._next is None and by is self._current:
                _log.info("The server is stopping; registering anew")
                self._next = self._make()
        elif isinstance(event, Ended):
            self._ended(by, event)

    def _welcomed(self, by: ControlConnection, welcome: Welcome) -> None:
        if by is self._next:
            old, self._current, self._next = self._current, by, None
            if old is not None:
                old.close("registered anew")
        self.last_error = ""
        _log.info(
            "Present at {server} as seen from {observed}",
            server=welcome.server,
            observed=welcome.observed,
        )
        self._on_present()

    def _ended(self, by: ControlConnection, event: Ended) -> None:
        if by is self._next:
            self._next = None
            return
        if by is not self._current or not self._running:
            return
        clock = self._link.shared.reactor
        if clock.seconds() - self._began >= _SETTLED:
            self._backoff.reset()
        self._current, self._next = self._next, None
        self.last_error = f"{event.code}: {event.reason}"
        if self._current is not None:
            return
        delay = self._backoff.next_delay()
        if event.code is Code.REPLACED:
            delay = max(delay, REPLACED_PAUSE)
        _log.warn(
            "Not present at the server: {reason}; trying again in {delay:.1f} s",
            reason=event.reason,
            delay=delay,
        )
        self._retry.start(delay)


def look_up(link: ServerLink, target: str) -> Deferred[Presence]:
    """Who is there, once: a name, or ``group:`` and a group's. Fails with `RemoteProtocolError`."""
    found: Deferred[Presence] = Deferred(lambda _: connection.close("not wanted any more"))

    def told(event: Event) -> None:
        if found.called or isinstance(event, Welcomed):
            return
        if isinstance(event, Seen):
            connection.close("that was all")
            found.callback(event.presence)
        elif isinstance(event, RequestRefused | Ended):
            connection.close("that was all")
            found.errback(RemoteProtocolError(f"{event.code}: {event.reason}", code=event.code))

    connection = ControlConnection(link, ASK, told)
    connection.look_up(target)
    return found


def greet(link: ServerLink) -> Deferred[Welcome]:
    """Go to the server, and be let in; fails with `RemoteProtocolError`. Nothing is registered."""
    welcomed: Deferred[Welcome] = Deferred(lambda _: connection.close("not wanted any more"))

    def told(event: Event) -> None:
        if welcomed.called:
            return
        if isinstance(event, Welcomed):
            connection.close("that was all")
            welcomed.callback(event.welcome)
        elif isinstance(event, Ended):
            welcomed.errback(RemoteProtocolError(f"{event.code}: {event.reason}", code=event.code))

    connection = ControlConnection(link, ASK, told)
    return welcomed
