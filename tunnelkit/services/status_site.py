"""The HTTP server of a role's status: few connections, small requests (rows O6, X7, X15).

Whoever has not shown the token holds none of the readers' places. Strangers have places of their
own, and the oldest gives way to the next one that comes.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.web import http, resource, server

from tunnelkit.services.status_guard import MAX_BODY

MAX_READERS = 16
"""Connections at once that have shown the token."""
MAX_STRANGERS = 16
"""Connections at once that have not."""
IDLE = 60
"""Seconds without a request after which a connection is closed."""
PATIENCE = 15
"""Seconds in which a stranger has to ask for something."""


class _Request(server.Request):
    """One whose body is small: what is larger is refused before any of it is kept (X7)."""

    _taken = 0

    def gotLength(self, length: int | None) -> None:
        """Twisted's."""
        widened: Any = super()
        widened.gotLength(length)
        if length is not None and length > MAX_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Twisted's, as far as the limit."""
        self._taken += len(data)
        if self._taken <= MAX_BODY:
            widened: Any = super()
            widened.handleContentChunk(data)
        else:
            self._refuse()

    def _refuse(self) -> None:
        channel: Any = self.channel
        channel.transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        channel.loseConnection()


class _Connection(http.HTTPChannel):
    """One that tells its site when it is over."""

    site: StatusSite
    _log: Any = Logger(observer=LogPublisher())
    """Twisted's: that somebody has asked nothing for a while is no news."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's."""
        self.site.over(self)
        widened: Any = super()
        widened.connectionLost(reason)


class StatusSite(server.Site):
    """Serves ``pages`` to at most `MAX_READERS` connections that may ask."""

    requestFactory = _Request
    protocol: Any = _Connection
    noisy = False
    displayTracebacks = False

    def __init__(self, pages: resource.Resource, reactor: Any) -> None:
        widened: Any = super()
        widened.__init__(pages, timeout=PATIENCE, reactor=reactor)
        self._strangers: dict[Any, None] = {}
        """In the order in which they came."""
        self._readers: set[Any] = set()

    def buildProtocol(self, addr: Any) -> Any:
        """A stranger's connection, in place of the oldest one's if there are too many."""
        if len(self._strangers) >= MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.transport.abortConnection()
        widened: Any = super()
        connection = widened.buildProtocol(addr)
        self._strangers[connection] = None
        return connection

    def admit(self, connection: Any) -> bool:
        """It may ask: whether there is room for it among the readers."""
        if connection in self._readers:
            return True
        if len(self._readers) >= MAX_READERS:
            return False
        self._strangers.pop(connection, None)
        self._readers.add(connection)
        connection.timeOut = IDLE
        return True

    def over(self, connection: Any) -> None:
        """It has ended."""
        self._strangers.pop(connection, None)
        self._readers.discard(connection)

    def log(self, request: http.Request) -> None:
        """Its own log of requests is not ours."""
