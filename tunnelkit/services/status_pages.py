"""What a role shows and takes over HTTP (rows O2, O6, O7): its state, metrics, health, commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http, resource, server

from tunnelkit.net.role_status import RoleStatus
from tunnelkit.services.in_turns import send_in_turns
from tunnelkit.services.metrics import OPENMETRICS, TEXT, rendered
from tunnelkit.services.status_guard import MAX_BODY, Guard

MAX_READERS = 16
"""Connections at once."""
IDLE = 60
"""Seconds without a request after which a connection is closed."""

HEADERS = {
    b"Cache-Control": b"no-store",
    b"Referrer-Policy": b"no-referrer",
    b"X-Content-Type-Options": b"nosniff",
    b"X-Frame-Options": b"DENY",
    b"Content-Security-Policy": b"default-src 'none'; frame-ancestors 'none'",
    b"Cross-Origin-Resource-Policy": b"same-origin",
}
"""Of every answer."""
_JSON = "application/json"
_ACTIONS = ("connect", "disconnect", "disconnect-now")
"""Commands of a role that are taken from here, where it has them."""


class StatusPages(resource.Resource):
    """Of one listener. ``commands`` are the role's, as its control socket has them."""

    isLeaf = True

    def __init__(
        self,
        guard: Guard,
        reactor: Any,
        status: Callable[[], RoleStatus],
        commands: Mapping[str, Callable[[], Mapping[str, object]]],
        healthy: Callable[[], bool],
    ) -> None:
        widened: Any = super()
        widened.__init__()
        self._guard = guard
        self._reactor = reactor
        self._status = status
        self._healthy = healthy
        self._shown: dict[bytes, Callable[[server.Request], bytes | int]] = {
            b"/status.json": self._json,
            b"/metrics": self._metrics,
            b"/healthz": self._health,
        }
        self._actions = {
            f"/{name}".encode("ascii"): commands[name] for name in _ACTIONS if name in commands
        }

    def render(self, request: server.Request) -> bytes | int:
        """Answer."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        path = request.path
        act = self._actions.get(path)
        refusal = self._guard.refuses(request, b"GET" if act is None else b"POST")
        if refusal is not None:
            if refusal.status == 401:
                request.setHeader(b"WWW-Authenticate", b"Bearer")
            return _plain(request, refusal.status, refusal.why)
        if act is not None:
            return _sent(request, _JSON, json.dumps(act()).encode("ascii"))
        show = self._shown.get(path)
        if show is None:
            return _plain(request, 404, "there is nothing here")
        return show(request)

    def _json(self, request: server.Request) -> bytes:
        return _sent(request, _JSON, json.dumps(self._status().as_mapping()).encode("ascii"))

    def _metrics(self, request: server.Request) -> int:
        accepts = b",".join(request.requestHeaders.getRawHeaders(b"accept") or [])
        openmetrics = b"application/openmetrics-text" in accepts
        request.setHeader(b"Content-Type", (OPENMETRICS if openmetrics else TEXT).encode("ascii"))
        send_in_turns(request, rendered(self._status(), self._reactor, openmetrics), self._reactor)
        return server.NOT_DONE_YET

    def _health(self, request: server.Request) -> bytes:
        healthy = self._healthy()
        return _plain(request, 200 if healthy else 503, "ok" if healthy else "stopping")


def _plain(request: server.Request, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    return _sent(request, "text/plain; charset=utf-8", text.encode("utf-8") + b"\n")


def _sent(request: server.Request, kind: str, body: bytes) -> bytes:
    request.setHeader(b"Content-Type", kind.encode("ascii"))
    return body


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


class StatusSite(server.Site):
    """Serves `StatusPages` to at most `MAX_READERS` connections."""

    requestFactory = _Request
    noisy = False
    displayTracebacks = False

    def __init__(self, pages: StatusPages, reactor: Any) -> None:
        widened: Any = super()
        widened.__init__(pages, timeout=IDLE, reactor=reactor)
        self._open = 0

    def buildProtocol(self, addr: Any) -> Any:
        """None: there are too many."""
        if self._open >= MAX_READERS:
            return None
        self._open += 1
        widened: Any = super()
        channel = widened.buildProtocol(addr)
        lost = channel.connectionLost

        def over(reason: Failure = connectionDone) -> None:
            self._open -= 1
            lost(reason)

        channel.connectionLost = over
        return channel

    def log(self, request: http.Request) -> None:
        """Its own log of requests is not ours."""
