"""What a role shows and takes over HTTP (rows O2, O6, O7): its state, metrics, health, commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.web import resource, server

from tunnelkit.errors import ConfigError
from tunnelkit.net.role_status import RoleStatus
from tunnelkit.policy.printable import printable
from tunnelkit.services.in_turns import send_in_turns
from tunnelkit.services.live import Live
from tunnelkit.services.metrics import OPENMETRICS, TEXT, rendered
from tunnelkit.services.open_now import Question, answered
from tunnelkit.services.page import CONTENT_SECURITY_POLICY, assets
from tunnelkit.services.status_guard import Guard, Refusal
from tunnelkit.services.steering import Steering, Wish, only

HEADERS = {
    b"Cache-Control": b"no-store",
    b"Referrer-Policy": b"no-referrer",
    b"X-Content-Type-Options": b"nosniff",
    b"X-Frame-Options": b"DENY",
    b"Content-Security-Policy": b"default-src 'none'; frame-ancestors 'none'",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Cross-Origin-Opener-Policy": b"same-origin",
}
"""Of every answer."""
_JSON = "application/json"


class StatusPages(resource.Resource):
    """Of one listener. ``site`` knows which connections may ask."""

    isLeaf = True

    def __init__(
        self,
        guard: Guard,
        reactor: Any,
        status: Callable[[], RoleStatus],
        steering: Steering,
        live: Live,
        healthy: Callable[[], bool],
    ) -> None:
        widened: Any = super()
        widened.__init__()
        self._guard = guard
        self._reactor = reactor
        self._status = status
        self._steering = steering
        self._live = live
        self._healthy = healthy
        self._shown: dict[bytes, Callable[[server.Request], bytes | int]] = {
            b"/status.json": self._json,
            b"/metrics": self._metrics,
            b"/healthz": self._health,
            b"/events": self._events,
        }
        if steering.steered is not None:
            self._shown[b"/channels"] = self._channels
        if steering.explain is not None:
            self._shown[b"/policy/explain"] = self._explain
        if steering.forwards() is not None:
            self._shown[b"/forwards"] = self._forwards
        self._actions = {f"/{name}".encode("ascii"): name for name in steering.names}

    def render(self, request: server.Request) -> bytes | int:
        """Answer."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        path = request.path
        asset = assets().get(path)
        action = self._actions.get(path) if request.method == b"POST" else None
        show = self._shown.get(path)
        method = b"POST" if path in self._actions and show is None else b"GET"
        refusal = self._guard.refuses(
            request, method if action is None else b"POST", for_all=asset is not None
        )
        if refusal is None and asset is None:
            site: Any = request.site
            if not site.admit(request.channel):
                refusal = Refusal(503, "too many are reading already: try again later")
        if refusal is not None:
            if refusal.status == 401:
                request.setHeader(b"WWW-Authenticate", b"Bearer")
            return _plain(request, refusal.status, refusal.why)
        if asset is not None:
            request.setHeader(b"Content-Security-Policy", CONTENT_SECURITY_POLICY.encode("ascii"))
            return _sent(request, asset.kind, asset.body)
        if action is not None:
            return self._act(request, action)
        if show is None:
            return _plain(request, 404, "there is nothing here")
        return show(request)

    def _act(self, request: server.Request, action: str) -> bytes:
        content: Any = request.content
        try:
            answer = self._steering.act(action, _wish(content.read()))
        except ConfigError as error:
            return _plain(request, 400, str(error))
        finally:
            # There may have been a passphrase in it.
            content.seek(0)
            content.truncate()
        self._live.news()
        return _sent(request, _JSON, json.dumps(answer).encode("ascii"))

    def _channels(self, request: server.Request) -> bytes | int:
        assert self._steering.steered is not None
        try:
            question = Question.of(_query(request))
        except ConfigError as error:
            return _plain(request, 400, str(error))
        request.setHeader(b"Content-Type", _JSON.encode("ascii"))
        pieces = answered(self._steering.steered.traffic(), question)
        send_in_turns(request, pieces, self._reactor)
        return server.NOT_DONE_YET

    def _explain(self, request: server.Request) -> bytes:
        assert self._steering.explain is not None
        try:
            asked = _query(request)
            only(asked, "peer", "destination")
            answer = self._steering.explain(asked.get("peer", ""), asked.get("destination", ""))
        except ConfigError as error:
            return _plain(request, 400, str(error))
        return _sent(request, _JSON, json.dumps(answer).encode("ascii"))

    def _forwards(self, request: server.Request) -> bytes:
        return _sent(request, _JSON, json.dumps(self._steering.forwards()).encode("ascii"))

    def _events(self, request: server.Request) -> int:
        self._live.watch(request)
        return server.NOT_DONE_YET

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
        if not healthy:
            return _plain(request, 503, "stopping")
        # It lives, and no restart would bring the passphrase.
        locked = self._steering.locked
        return _plain(
            request, 200, f"locked: {locked} waits for its passphrase" if locked else "ok"
        )


def _query(request: server.Request) -> dict[str, str]:
    """What stands behind the question mark, each name once; raises `ConfigError`."""
    found: dict[str, str] = {}
    for name, values in request.args.items():
        if len(values) > 1:
            raise ConfigError(f"{printable(name.decode('utf-8', 'replace'))}: given twice")
        found[name.decode("utf-8", "replace")] = values[0].decode("utf-8", "replace")
    return found


def _wish(body: bytes) -> Wish:
    """What the body says; raises `ConfigError`."""
    try:
        wish = json.loads(body) if body else {}
    except ValueError:
        wish = None
    if not isinstance(wish, dict):
        raise ConfigError("the body is no JSON object: expected one, or nothing")
    return wish


def _plain(request: server.Request, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    return _sent(request, "text/plain; charset=utf-8", text.encode("utf-8") + b"\n")


def _sent(request: server.Request, kind: str, body: bytes) -> bytes:
    request.setHeader(b"Content-Type", kind.encode("ascii"))
    return body
