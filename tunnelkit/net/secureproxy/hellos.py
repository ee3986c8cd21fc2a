"""What a browser and a web server inside said first, kept by the publisher (row S15).

Who compares it with what a browser sent and got knows whether anybody has ended
TLS in between: such a one has a ServerHello of its own on one side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.net.sockets.carrier import Carrier
from tunnelkit.wire.tls_hellos import CLIENT_HELLO, SERVER_HELLO, HelloDigest

KEPT = 60.0
"""Seconds for which a pair of hellos is kept."""
MOST = 4096
"""Pairs that are kept at once: at more than that a minute, the newest."""


@attrs.frozen
class HelloPair:
    """One connection that was passed on."""

    host: str
    """The name that the browser asked for."""
    client_hello: str
    """SHA-256 of the message, in hex."""
    server_hello: str
    at: float
    """When, by the clock of the book that keeps it."""


class HelloBook:
    """The pairs of the last minute; ``now`` is a clock that never goes back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._pairs: deque[HelloPair] = deque(maxlen=MOST)

    def note(self, host: str, client_hello: str, server_hello: str) -> None:
        """A connection to ``host`` has begun so."""
        self._pairs.append(HelloPair(host, client_hello, server_hello, self._now()))

    def pairs(self) -> list[HelloPair]:
        """Those of the last minute, the oldest first."""
        oldest = self._now() - KEPT
        while self._pairs and self._pairs[0].at < oldest:
            self._pairs.popleft()
        return list(self._pairs)


class HelloWatch:
    """Passes on a browser's hello and waits for the web server's, then ``on_done(to_browser,
    to_site)`` is called with what has not been passed on yet; both carriers are the caller's
    again, the browser's with its reading paused.

    ``note`` is told both digests; not where this is no TLS, which is passed on all the same.
    ``on_end()``: one of the two is gone before, and both are closed.
    """

    def __init__(
        self,
        browser: Carrier,
        site: Carrier,
        early: bytes,
        seen: bytes,
        note: Callable[[str, str], object],
        on_done: Callable[[bytes, bytes], object],
        on_end: Callable[[], object],
    ) -> None:
        self._browser = _Side(self, browser)
        self._site = _Side(self, site)
        self._to_site = bytearray(early)
        self._seen = seen
        self._to_browser = bytearray()
        self._note = note
        self._on_done = on_done
        self._on_end = on_end
        self._client_hello = HelloDigest(CLIENT_HELLO)
        self._server_hello = HelloDigest(SERVER_HELLO)
        self._said: str | None = None
        """The digest of the browser's hello."""
        self._over = False

    def start(self) -> None:
        """Begin; everything may have happened when this returns."""
        self._site.carrier.start(self._site)
        self._browser.carrier.start(self._browser)
        self.received(self._browser, memoryview(self._seen))
        if not self._over and self._said is None:
            self._browser.carrier.resume_reading()

    def abort(self, reason: str) -> None:
        """End both."""
        self._over = True
        self._browser.carrier.abort()
        self._site.carrier.abort()
        self._on_end()

    def received(self, side: _Side, view: memoryview) -> None:
        """Bytes of one of the two."""
        if self._over:
            return
        try:
            if side is self._browser:
                self._to_site += view
                if self._said is None:
                    self._said = self._client_hello.feed(view)
                self.flush()
                if self._said is not None:
                    side.carrier.pause_reading()
                return
            self._to_browser += view
            answered = self._server_hello.feed(view)
        except RemoteProtocolError:
            self._done()
            return
        if answered is not None:
            if self._said is not None:
                self._note(self._said, answered)
            self._done()

    def flush(self) -> None:
        """Go on with what the web server has not taken."""
        if self._to_site:
            del self._to_site[: self._site.carrier.write(self._to_site)]

    def _done(self) -> None:
        self._over = True
        self._browser.carrier.pause_reading()
        self._on_done(bytes(self._to_browser), bytes(self._to_site))

    def lost(self, side: _Side, clean: bool) -> None:
        """One of the two is gone."""
        if self._over:
            return
        self._over = True
        other = self._site if side is self._browser else self._browser
        if clean:
            other.carrier.write(self._to_browser)
            other.carrier.close()
        else:
            other.carrier.abort()
        self._on_end()


class _Side:
    """One of the two carriers (`CarrierSink`)."""

    def __init__(self, watch: HelloWatch, carrier: Carrier) -> None:
        self._watch = watch
        self.carrier = carrier

    def carrier_received(self, view: memoryview) -> None:
        self._watch.received(self, view)

    def carrier_writable(self) -> None:
        self._watch.flush()

    def carrier_lost(self, reason: str, clean: bool) -> None:
        self._watch.lost(self, clean)
