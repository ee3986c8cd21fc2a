"""Web servers inside that browsers reach through a Communication Server (row S10)."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.errors import Code, DialError, TunnelkitError
from tunnelkit.net.secureproxy.hellos import HelloBook, HelloWatch
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.opening import Lent, Opened, Opening
from tunnelkit.net.sockets.quiet import QuietRelays
from tunnelkit.net.sockets.relay import CarrierRelay, Relay, join
from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.tls_carrier import TlsCarrier
from tunnelkit.wire.proxy_protocol import v2_header
from tunnelkit.wire.secureproxy import Incoming, StartPass, StartWeb
from tunnelkit.wire.tls_peek import UNRECOGNIZED_NAME

_log = Logger()

_LAST_WORDS = 5.0
"""Seconds for a browser to leave that was told that there is nothing."""

DialSite = Callable[[], Awaitable[socket.socket]]
"""A connection to the web server, permitted by this client's own rules; raises `DialError`."""
Refuse = Callable[[Code, str], object]


class Sites:
    """``sites`` by the resource's name, ``pass:HOST`` or ``web:HOST``."""

    def __init__(
        self, link: ServerLink, sites: Mapping[str, DialSite], *, proxy_header: bool = False
    ) -> None:
        self._link = link
        self.sites = dict(sites)
        self._proxy_header = proxy_header
        self.hellos = HelloBook(link.shared.reactor.seconds)
        """What those that were passed on unopened began with."""
        self._watches: set[HelloWatch] = set()
        self._relays: set[Relay | CarrierRelay] = set()
        self._quiet = QuietRelays(link.shared.reactor, lambda: self._relays)
        self._drained: list[Deferred[None]] = []

    async def serve(self, incoming: Incoming, refuse: Refuse) -> None:
        """One browser. The web server is dialled first, so that a dead one is a refusal."""
        dial = self.sites.get(incoming.resource)
        if dial is None:
            refuse(Code.NOT_ALLOWED, "this is not published here")
            return
        try:
            sock = await dial()
        except DialError as error:
            _log.warn("{resource}: {reason}", resource=incoming.resource, reason=str(error))
            refuse(error.code, "the web server cannot be reached")
            return
        try:
            opened = await Opening(self._link, incoming).opened
        except TunnelkitError as error:
            sock.close()
            _log.warn("{resource}: {reason}", resource=incoming.resource, reason=str(error))
            return
        except BaseException:
            sock.close()
            raise
        self._join(incoming.resource, opened, sock)

    async def serve_spare(self, resource: str, opened: Opened) -> None:
        """A browser that has taken a connection which waited for it: it is dialled for now."""
        browser = opened.unwrapped.carrier
        try:
            sock = await self.sites[resource]()
        except DialError as error:
            _log.warn("{resource}: {reason}", resource=resource, reason=str(error))
            _TurnedAway(self._link.shared.reactor, browser)
            return
        self._join(resource, opened, sock)

    def _join(self, resource: str, opened: Opened | Lent, sock: socket.socket) -> None:
        start = opened.start
        assert isinstance(start, StartPass | StartWeb)
        poller = self._link.shared.poller
        early = self._header(start, sock) if self._proxy_header else b""
        site = SocketCarrier(poller, sock)
        _log.info(
            "Passing {browser} on to {resource} at {address}",
            browser=start.observed,
            resource=resource,
            address=format_address(sock.getpeername()),
        )
        if isinstance(opened, Lent):
            self._relay(TlsCarrier(opened.stream, opened.leftover), site, b"", early)
            return
        browser = opened.unwrapped.carrier

        def done(to_browser: bytes, to_site: bytes) -> None:
            self._watches.discard(watch)
            browser.resume_reading()
            self._relay(browser, site, to_browser, to_site)

        def gone() -> None:
            self._watches.discard(watch)
            self._check_drained()

        watch = HelloWatch(
            browser,
            site,
            early,
            opened.unwrapped.leftover,
            partial(self.hellos.note, start.host),
            done,
            gone,
        )
        self._watches.add(watch)
        watch.start()

    def _relay(self, browser: Carrier, site: Carrier, to_browser: bytes, to_site: bytes) -> None:
        poller = self._link.shared.poller
        relay = join(poller, browser, site, self._ended, to_a=to_browser, to_b=to_site)
        self._relays.add(relay)
        relay.start()

    def _header(self, start: StartPass | StartWeb, sock: socket.socket) -> bytes:
        host, _, port = start.observed.rpartition(":")
        source = (host.strip("[]"), int(port))
        return v2_header(source, sock.getpeername()[:2])

    def _ended(self, relay: Relay | CarrierRelay, sent: int, received: int, outcome: str) -> None:
        self._relays.discard(relay)
        if not self._relays:
            self._quiet.stop()
        self._check_drained()

    def _check_drained(self) -> None:
        if not self._relays and not self._watches:
            drained, self._drained = self._drained, []
            for done in drained:
                done.callback(None)

    def drain(self) -> Deferred[None]:
        """Fires when nobody is passed on any more."""
        done: Deferred[None] = Deferred()
        if self._relays or self._watches:
            self._drained.append(done)
            self._quiet.start()
        else:
            done.callback(None)
        return done

    def close(self) -> None:
        """End all of them now."""
        for one in [*self._watches, *self._relays]:
            one.abort("this client has stopped")


class _TurnedAway:
    """A browser that gets the alert that the server gives for an absent site (`CarrierSink`).

    What it sends is read until it leaves: bytes that nobody has read would make the end a reset,
    which can overtake the alert.
    """

    def __init__(self, reactor: Any, carrier: Carrier) -> None:
        self._carrier = carrier
        self._timer = Timer(reactor, carrier.abort)
        self._timer.start(_LAST_WORDS)
        carrier.start(self)
        carrier.write(UNRECOGNIZED_NAME)
        carrier.finish_writing()
        carrier.resume_reading()

    def carrier_received(self, view: memoryview) -> None:
        """Of no use any more."""

    def carrier_writable(self) -> None:
        """The alert is all there is."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        self._timer.stop()
