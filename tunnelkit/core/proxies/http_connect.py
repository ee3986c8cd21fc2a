"""The client's side of HTTP CONNECT, sans-IO (N1; RFC 9110 section 9.3.6, RFC 7617)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from tunnelkit.core.proxies.proxy_client import (
    HANDSHAKE_LIMIT,
    NO_EVENTS,
    Established,
    ProxyEvent,
    Refused,
    TimedOut,
)
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.http_head import (
    RequestHead,
    ResponseHead,
    encode_request_head,
    head_size,
    parse_response_head,
)

_CODES = {
    401: Code.NOT_ALLOWED,
    403: Code.NOT_ALLOWED,
    407: Code.NOT_ALLOWED,
    502: Code.UNREACHABLE,
    503: Code.UNREACHABLE,
    504: Code.TIMED_OUT,
}

MAX_ANSWERS = 16_384
"""Bytes of all heads of the proxy, interim ones included."""


class HttpConnectClient:
    """Asks one HTTP proxy for a tunnel to one destination.

    User name and password go along at once (Basic); a connection that has seen
    a 407 is not used again. Raises `LocalProtocolError` for a destination or
    user name that HTTP cannot carry.
    """

    __slots__ = (
        "_deadline",
        "_inbound",
        "_limit",
        "_outbound",
        "_received",
        "_searched",
        "_user",
        "leftover",
    )

    def __init__(
        self,
        host: str,
        port: int,
        now: float,
        *,
        user: bytes | None = None,
        password: bytes = b"",
        limit: float = HANDSHAKE_LIMIT,
    ) -> None:
        if not 0 < port <= 0xFFFF:
            raise LocalProtocolError(f"port {port} is not within 1 to 65535")
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        fields = [("Host", target)]
        if user is not None:
            if b":" in user:
                raise LocalProtocolError("a user name with a colon cannot be used with HTTP Basic")
            basic = b64encode(user + b":" + password).decode("ascii")
            fields.append(("Proxy-Authorization", f"Basic {basic}"))
        self._outbound = encode_request_head(RequestHead("CONNECT", target, fields=tuple(fields)))
        self._user = user
        self._inbound = bytearray()
        self._searched = 0
        self._received = 0
        self._limit = limit
        self._deadline: float | None = now + limit
        self.leftover = b""

    def receive(self, data: bytes, now: float) -> Sequence[ProxyEvent]:
        """Take bytes from the proxy; raises `RemoteProtocolError` if they are not HTTP."""
        if self._deadline is None:
            raise LocalProtocolError("the handshake is over: these bytes are the inner protocol's")
        self._inbound += data
        try:
            return self._answered()
        except RemoteProtocolError:
            self._deadline = None
            raise

    def data_to_send(self) -> bytes:
        """What is to be sent to the proxy now; empties the queue."""
        data, self._outbound = self._outbound, b""
        return data

    def next_deadline(self) -> float | None:
        """When the proxy's time is over."""
        return self._deadline

    def deadline_passed(self, now: float) -> Sequence[ProxyEvent]:
        """Give up if the proxy's time is over."""
        if self._deadline is None or now < self._deadline:
            return NO_EVENTS
        self._deadline = None
        return (TimedOut(self._limit),)

    def _answered(self) -> Sequence[ProxyEvent]:
        if not b"HTTP/1.".startswith(self._inbound[:7]):
            # Found at the first byte, so that nobody waits for the end of a head that never comes.
            is_tls = self._inbound[0] in (0x15, 0x16)
            hint = ": it speaks TLS, https:// would suit it" if is_tls else ""
            raise RemoteProtocolError(f"its answer is not HTTP/1.x{hint}")
        while (size := head_size(self._inbound, self._searched)) is not None:
            self._searched = 0
            head = parse_response_head(bytes(self._inbound[:size]))
            del self._inbound[:size]
            self._received += size
            if self._received > MAX_ANSWERS:
                raise RemoteProtocolError(f"its answers are longer than {MAX_ANSWERS} bytes")
            if 200 <= head.status < 300:
                # A length or encoding named in this answer means nothing: RFC 9110, 9.3.6.
                self.leftover = bytes(self._inbound)
                self._inbound.clear()
                self._deadline = None
                return (Established("", 0),)
            if not 100 <= head.status < 200 or head.status == 101:
                self._deadline = None
                return (self._refusal(head),)
        self._searched = len(self._inbound)
        if self._received + self._searched >= MAX_ANSWERS:
            raise RemoteProtocolError(f"its answers are longer than {MAX_ANSWERS} bytes")
        return NO_EVENTS

    def _refusal(self, head: ResponseHead) -> Refused:
        line = f"HTTP/{head.version} {head.status} {head.reason}".rstrip()
        line = line.encode("ascii", "backslashreplace").decode("ascii")[:256]
        if head.status != 407:
            return Refused(_CODES.get(head.status, Code.REFUSED), line)
        schemes = [value.split(" ", 1)[0] for value in head.values("Proxy-Authenticate")]
        if schemes and all(scheme.lower() != "basic" for scheme in schemes):
            names = ", ".join(schemes).encode("ascii", "backslashreplace").decode("ascii")[:100]
            said = f"it wants a login by {names}, and only Basic is supported here"
        elif self._user is None:
            said = "it wants a user name and password"
        else:
            said = "it does not accept the user name and password"
        return Refused(Code.NOT_ALLOWED, f"{said} ({line})"[:256], login=True)
