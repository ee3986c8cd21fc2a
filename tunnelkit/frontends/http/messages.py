"""What an HTTP proxy makes of heads: where a request leads, what is sent on (RFC 9110, 9112)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

import attrs

from tunnelkit.core.proxies.socks_server import Check
from tunnelkit.errors import Code, ConfigError
from tunnelkit.policy.destination import TCP, Destination, destination_to, split_host_port
from tunnelkit.wire.http_body import Body, request_body, response_length
from tunnelkit.wire.http_head import Fields, RequestHead, ResponseHead, encode_response_head

CONNECT = "CONNECT"
VIA = "tunnelkit"
"""What this proxy calls itself; nothing tells who the client is."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_URL = re.compile(r"http://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE)
"""Authority and path; a fragment is the client's own."""
_TWO_ATS = "the address in the URL has more than one @"
_BAD_AUTHORITY = "the address in the URL is not HOST or HOST:PORT, with an optional USER:PW@"

REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_TOLD = {
    Code.NOT_ALLOWED: (403, "the far side of the tunnel does not allow that"),
    Code.REFUSED: (502, "the connection was refused there"),
    Code.UNREACHABLE: (502, "it cannot be reached from the far side, or the tunnel is down"),
    Code.NO_SUCH_HOST: (502, "there is no such host at the far side"),
    Code.TIMED_OUT: (504, "no answer came in time"),
    Code.LIMIT: (503, "too much is going on at once"),
    Code.SHUTDOWN: (503, "the far side is shutting down"),
    Code.RESET: (502, "the connection was reset before the answer"),
}


class Refused(Exception):
    """The request is answered with an error page."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def told(code: Code) -> tuple[int, str]:
    """Status and words for a channel that failed."""
    return _TOLD.get(code, (502, "the tunnel failed"))


@attrs.frozen
class Target:
    """Where a request leads."""

    destination: Destination
    path: str
    """What the origin server is asked for; empty for CONNECT."""


def target_of(head: RequestHead) -> Target:
    """Raises `Refused` for a request that a proxy has no use for."""
    hosts = list(head.values("Host"))
    if len(hosts) > 1 or (not hosts and head.version == "1.1"):
        raise Refused(400, f"expected one Host field, not {len(hosts)}")
    if head.method == CONNECT:
        if request_body(head).length != 0:
            raise Refused(400, "a CONNECT request has no body")
        return Target(_destination(head.target, None), "")
    if head.method == "TRACE":
        raise Refused(405, "TRACE is not passed on: it shows what others have added")
    match = _URL.fullmatch(head.target)
    if match is None:
        raise Refused(
            400, "this is a proxy: expected an absolute http:// URL, or CONNECT for anything else"
        )
    path = match[2]
    if not path:
        path = "*" if head.method == "OPTIONS" else "/"
    elif path.startswith("?"):
        path = f"/{path}"
    # The client says in Authorization whatever the origin is to know of user and password.
    userinfo, _, authority = match[1].rpartition("@")
    if "@" in userinfo:
        raise Refused(400, _TWO_ATS)
    try:
        return Target(_destination(authority, 80), path)
    except Refused:
        if "@" not in head.target:
            raise
        # It may be a piece of a password that would be repeated.
        raise Refused(400, _BAD_AUTHORITY) from None


def _destination(authority: str, default_port: int | None) -> Destination:
    if "@" in authority:
        raise Refused(400, "user and password do not belong into the address")
    if default_port is not None:
        port = authority.rpartition("]")[2].partition(":")[2]
        if not port:
            authority = f"{authority.removesuffix(':')}:{default_port}"
    try:
        host, port = split_host_port(authority)
        if not (port.isascii() and port.isdigit() and len(port) <= 5):
            raise ConfigError("the port is not a number")
        return destination_to(TCP, host, int(port))
    except ConfigError as error:
        raise Refused(400, str(error)) from None


def keeps_alive(head: RequestHead) -> bool:
    """Whether the client goes on using the connection after this request."""
    options = set(_options(head, "Connection")) | set(_options(head, "Proxy-Connection"))
    if head.version == "1.0":
        return "keep-alive" in options
    return "close" not in options


def request_for_origin(head: RequestHead, target: Target, body: Body) -> RequestHead:
    """The head to send on: the origin's own Host, and nothing meant for this proxy."""
    where = target.destination
    host = f"[{where.host}]" if ":" in where.host else where.host
    fields = [("Host", host if where.port == 80 else f"{host}:{where.port}")]
    fields += _end_to_end(head, {"host", "content-length"})
    if body.length is None:
        fields.append(("Transfer-Encoding", "chunked"))
    elif any(head.values("Content-Length")):
        fields.append(("Content-Length", str(body.length)))
    fields += [("Via", f"{head.version} {VIA}"), ("Connection", "close")]
    return RequestHead(head.method, target.path, version="1.1", fields=tuple(fields))


def response_for_client(
    head: ResponseHead, request: RequestHead, body: Body, keep: bool
) -> ResponseHead:
    """The head to send back; a body of unknown length goes in chunks where the client can."""
    fields = list(_end_to_end(head, {"content-length"}))
    length = response_length(head)
    if length is not None and body.length is not None and head.status >= 200:
        fields.append(("Content-Length", str(length)))
    if body.length is None and request.version != "1.0":
        fields.append(("Transfer-Encoding", "chunked"))
    fields.append(("Via", f"{head.version} {VIA}"))
    if head.status >= 200 and (not keep or request.version == "1.0"):
        fields.append(("Connection", "keep-alive" if keep else "close"))
    return ResponseHead(head.status, head.reason, version="1.1", fields=tuple(fields))


def _end_to_end(head: RequestHead | ResponseHead, also: set[str]) -> Iterator[tuple[str, str]]:
    # A field that Connection names is of this hop only; those that frame the message are not,
    # whatever it says (RFC 9110, section 7.6.1).
    dropped = (set(_options(head, "Connection")) - {"content-length"}) | _HOP_BY_HOP | also
    return ((name, value) for name, value in head.fields if name.lower() not in dropped)


def _options(head: RequestHead | ResponseHead, name: str) -> Iterator[str]:
    for value in head.values(name):
        for option in value.split(","):
            yield option.strip().lower()


def is_login(head: RequestHead, check: Check) -> bool:
    """Whether the client shows a user name and password that ``check`` knows (RFC 7617)."""
    for value in head.values("Proxy-Authorization"):
        scheme, _, text = value.partition(" ")
        if scheme.lower() == "basic":
            try:
                user, colon, password = base64.b64decode(text.strip(), validate=True).partition(
                    b":"
                )
            except (binascii.Error, ValueError):
                return False
            return bool(colon) and check(user, password)
    return False


def error_page(status: int, why: str, method: str) -> bytes:
    """The whole response, after which the connection ends."""
    body = f"{status} {REASONS[status]}: {why}\n".encode("ascii", "replace")
    fields: Fields = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    )
    if status == 407:
        fields += (("Proxy-Authenticate", 'Basic realm="tunnelkit", charset="UTF-8"'),)
    head = encode_response_head(ResponseHead(status, REASONS[status], fields=fields))
    return head if method == "HEAD" else head + body
