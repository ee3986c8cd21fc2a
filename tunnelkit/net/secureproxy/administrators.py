"""Who may see the pages of a Communication Server under its own name: administrators (S8; X15).

One shows a certificate in TLS, logs in with each request (``Authorization: Basic``), or sends a
secret of the login file alone (``Bearer``). The policy says whether he is one.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import resource, server

from tunnelkit.core.counted_address import counted_address
from tunnelkit.core.secureproxy.accounts import Failures
from tunnelkit.core.secureproxy.commands import Decided
from tunnelkit.core.secureproxy.policy import Verdict
from tunnelkit.errors import AuthError, NotAuthorized, PeerNotTrusted
from tunnelkit.net.secureproxy.http import HEADERS, plain
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.tls.context import Listing, certificate_name, listings
from tunnelkit.wire.secureproxy import Login

_log = Logger()

ANYBODY = "*"
"""To whom failures count where a secret comes without a name."""
_HOW = (b'Basic realm="administrators", charset="UTF-8"', b"Bearer")
"""What browsers and others are asked for."""


class TooManyFailures(AuthError):
    """There were too many failed logins from here in the last minute."""


class Administrators:
    """Knows them. ``may(name)`` is what the policy of the moment says.

    ``by_login`` and ``by_secret`` give a name, and fail for what is nobody's; None: nobody logs in
    so. ``revoked(listings)``: whether a certificate is on a revocation list. ``failures`` counts
    by name and address; ``record`` is told of who is known and not let in.
    """

    def __init__(
        self,
        may: Callable[[str], Verdict],
        revoked: Callable[[tuple[Listing, ...]], bool],
        failures: Failures,
        clock: Callable[[], float],
        record: Callable[[Decided], object],
        by_login: Callable[[Login], Awaitable[str]] | None = None,
        by_secret: Callable[[str], Awaitable[str]] | None = None,
    ) -> None:
        self._may = may
        self._revoked = revoked
        self._failures = failures
        self._clock = clock
        self._record = record
        self._by_login = by_login
        self._by_secret = by_secret

    async def admit(self, request: server.Request) -> None:
        """Raises `AuthError` unless an administrator asks: `NotAuthorized` for somebody else."""
        name = await self._who(request)
        verdict = self._may(name)
        if not verdict:
            address = request.getClientAddress()
            observed = format_address((address.host, address.port))
            self._record(Decided(name, "administrate", "", False, verdict.rule, observed))
            raise NotAuthorized("this is for administrators only")

    async def _who(self, request: server.Request) -> str:
        given = request.requestHeaders.getRawHeaders(b"authorization") or []
        if not given:
            return self._by_certificate(request)
        scheme, _, value = given[0].partition(b" ")
        if len(given) == 1 and scheme.lower() == b"basic" and self._by_login is not None:
            login = _login_in(value)
            return await self._checked(request, login.name, partial(self._by_login, login))
        if len(given) == 1 and scheme.lower() == b"bearer" and self._by_secret is not None:
            secret = value.decode("utf-8", "replace")
            return await self._checked(request, ANYBODY, partial(self._by_secret, secret))
        raise AuthError("nobody logs in here like that")

    def _by_certificate(self, request: server.Request) -> str:
        channel: Any = request.channel
        shown = channel.transport.getPeerCertificate()
        if shown is None:
            raise AuthError("a certificate or a login is needed")
        certificate = shown.to_cryptography()
        # It was good when the connection began.
        if self._revoked(listings((certificate,))):
            raise AuthError("the certificate has been revoked")
        return certificate_name(certificate)

    async def _checked(
        self, request: server.Request, name: str, check: Callable[[], Awaitable[str]]
    ) -> str:
        """The name that ``check`` finds, unless there were too many failures."""
        address = counted_address(request.getClientAddress().host)
        if self._failures.too_many(name, address, self._clock()):
            raise TooManyFailures()
        try:
            return await check()
        except Exception:
            self._failures.add(name, address, self._clock())
            raise AuthError("the login is wrong") from None


def _login_in(value: bytes) -> Login:
    """What ``Basic`` says (RFC 7617)."""
    try:
        text = b64decode(value, validate=True).decode("utf-8")
    except (NoBase64, UnicodeDecodeError):
        text = ""
    name, colon, secret = text.partition(":")
    if not colon:
        raise AuthError("that is no login")
    return Login(name, password=secret)


class ForAdministrators(resource.Resource):
    """``pages``, for administrators only."""

    isLeaf = True

    def __init__(self, administrators: Administrators, pages: resource.Resource) -> None:
        widened: Any = super()
        widened.__init__()
        self._administrators = administrators
        self._pages = pages

    def render(self, request: server.Request) -> int:
        """Answer once it is known who asks."""
        gone: list[object] = []
        left: Any = request.notifyFinish()
        left.addErrback(gone.append)
        asked: Any = Deferred.fromCoroutine(self._administrators.admit(request))
        asked.addCallbacks(
            lambda _: self._pages.render(request),
            lambda failure: _refused(request, failure),
        )
        asked.addErrback(_broken, request)
        asked.addCallback(_send, request, gone)
        return server.NOT_DONE_YET


def _refused(request: server.Request, failure: Failure) -> bytes:
    failure.trap(AuthError)
    if failure.check(NotAuthorized, PeerNotTrusted):
        status = 403
    elif failure.check(TooManyFailures):
        status = 429
    else:
        status = 401
        for how in _HOW:
            request.responseHeaders.addRawHeader(b"WWW-Authenticate", how)
    return plain(request, status, failure.getErrorMessage())


def _broken(failure: Failure, request: server.Request) -> bytes:
    _log.failure("A page could not be made", failure)
    return plain(request, 500, "this page could not be made; the log says why")


def _send(body: bytes | int, request: server.Request, gone: list[object]) -> None:
    if isinstance(body, bytes) and not gone:
        security = b"Strict-Transport-Security"
        request.setHeader(security, HEADERS[security])
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(b"" if request.method == b"HEAD" else body)
        request.finish()
