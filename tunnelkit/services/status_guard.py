"""Who may ask for a status page: rule X15.

A page of a stranger that the operator's browser has open can send requests to loopback too. So a
request names this very place in its Host, comes from no other page, carries the token in a header
that such a page cannot set unasked, and acts only by POST. No cookie is ever looked at.
"""

from __future__ import annotations

import hmac

import attrs
from twisted.web.http import Request

MAX_BODY = 4096
"""Bytes of a request's body."""


@attrs.frozen
class Refusal:
    """What is answered instead."""

    status: int
    why: str


@attrs.frozen
class Guard:
    """Of one listener."""

    hosts: frozenset[bytes] | None
    """What Host may say, with the port; None: somebody else has looked at it."""
    token: bytes | None = attrs.field(repr=False)
    """None: whoever comes here may ask, through a unix socket or past somebody else."""
    scheme: bytes = b"http"

    def refuses(self, request: Request, method: bytes, *, for_all: bool = False) -> Refusal | None:
        """Why ``request`` for something that is had by ``method`` (GET or POST) is not answered.

        None: it is. What is ``for_all`` needs no token.
        """
        hosts = request.requestHeaders.getRawHeaders(b"host") or []
        known = self.hosts is None or (hosts[:1] and hosts[0].lower() in self.hosts)
        if len(hosts) != 1 or not known:
            return Refusal(421, "the Host is not this place")
        if not request.uri.startswith(b"/"):
            return Refusal(400, "the target has to be a path")
        origins = request.requestHeaders.getRawHeaders(b"origin") or []
        if any(origin.lower() != self.scheme + b"://" + hosts[0].lower() for origin in origins):
            return Refusal(403, "another page has sent this")
        sites = request.requestHeaders.getRawHeaders(b"sec-fetch-site") or []
        if any(site not in (b"same-origin", b"none") for site in sites):
            return Refusal(403, "another page has sent this")
        if not (for_all or self._knows(request)):
            return Refusal(401, "the token is missing or wrong; the log names its file")
        allowed = (b"GET", b"HEAD") if method == b"GET" else (b"POST",)
        if request.method not in allowed:
            return Refusal(405, f"{' or '.join(one.decode() for one in allowed)} only")
        return None

    def _knows(self, request: Request) -> bool:
        if self.token is None:
            return True
        given = request.requestHeaders.getRawHeaders(b"authorization") or []
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token, self.token)
