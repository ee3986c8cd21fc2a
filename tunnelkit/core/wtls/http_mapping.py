"""CoAP requests for a proxy as HTTP requests, and HTTP answers as CoAP (RFC 7252, 10.1; row W2)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import attrs

from tunnelkit.core.wtls.coap_blocks import Response, etag_of
from tunnelkit.core.wtls.media_types import to_name, to_number
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.coap import Code, Message, Option
from tunnelkit.wire.coap_options import Number, number_in, text_of, uint

PORTS = {"http": 80, "https": 443}
METHODS = {Code.GET: "GET", Code.POST: "POST", Code.PUT: "PUT", Code.DELETE: "DELETE"}
TAGS = 16
"""Entity tags of HTTP that are remembered for an association; CoAP's have 8 bytes at most."""

_HOST = re.compile(r"[a-z0-9._-]{1,253}\Z|\[[0-9a-f:.]{2,45}\]\Z")
# What a request line may hold as it is; anything else is sent as %XX.
_IN_TARGET = "/?:@!$&'()*+,;=-._~%[]"
_SAME = {
    400: Code.BAD_REQUEST,
    401: Code.UNAUTHORIZED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    406: Code.NOT_ACCEPTABLE,
    412: Code.PRECONDITION_FAILED,
    413: Code.REQUEST_ENTITY_TOO_LARGE,
    415: Code.UNSUPPORTED_CONTENT_FORMAT,
    500: Code.INTERNAL_SERVER_ERROR,
    501: Code.NOT_IMPLEMENTED,
    502: Code.BAD_GATEWAY,
    503: Code.SERVICE_UNAVAILABLE,
    504: Code.GATEWAY_TIMEOUT,
}


class CannotBeServed(Exception):
    """The request has an answer already: ``response``."""

    def __init__(self, code: Code, text: str, max_age: int | None = None) -> None:
        super().__init__(text)
        self.response = error_response(code, text, max_age)


@attrs.frozen
class Url:
    """Where a request wants to go."""

    scheme: str
    """``http`` or ``https``."""
    host: str
    """In lower case, without brackets."""
    port: int
    target: str
    """Path and query, printable ASCII without spaces; begins with a slash."""

    @property
    def authority(self) -> str:
        """For the Host field."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


@attrs.frozen
class HttpRequest:
    """One request of HTTP."""

    method: str
    url: Url
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def error_response(code: Code, text: str, max_age: int | None = None) -> Response:
    """An answer of the proxy's own, with words for people (5.5.2)."""
    options = [Option(Number.CONTENT_FORMAT, b"")]
    if max_age is not None:
        options.append(Option(Number.MAX_AGE, uint(max_age)))
    return Response(code, tuple(options), text.encode("utf-8"))


def url_of(message: Message) -> Url:
    """The URL that a request asks the proxy for (5.7.2); raises `CannotBeServed`."""
    try:
        proxy_uri = message.value(Number.PROXY_URI)
        if proxy_uri is not None:
            return parse_url(text_of(proxy_uri))
        scheme = message.value(Number.PROXY_SCHEME)
        if scheme is None:
            raise CannotBeServed(Code.NOT_FOUND, "this is a proxy: ask with Proxy-Uri")
        host = text_of(message.value(Number.URI_HOST) or b"")
        port = number_in(message, Number.URI_PORT)
        path = "/".join(quote(text_of(v), "") for v in message.values(Number.URI_PATH))
        query = "&".join(quote(text_of(v), "=") for v in message.values(Number.URI_QUERY))
        return parse_url(
            f"{text_of(scheme)}://{host}{f':{port}' if port is not None else ''}/{path}"
            + (f"?{query}" if query else "")
        )
    except RemoteProtocolError as error:
        raise CannotBeServed(Code.BAD_REQUEST, str(error)) from None


def parse_url(text: str) -> Url:
    """An absolute URL of the web; raises `CannotBeServed`."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise CannotBeServed(Code.BAD_REQUEST, "this is not a URL") from None
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise CannotBeServed(Code.PROXYING_NOT_SUPPORTED, "http and https are proxied, no others")
    if "@" in parts.netloc:
        raise CannotBeServed(Code.BAD_REQUEST, "a URL with a user name is not proxied")
    name = (parts.hostname or "").lower().removesuffix(".")
    if not _HOST.match(f"[{name}]" if ":" in name else name) or port == 0:
        raise CannotBeServed(Code.BAD_REQUEST, "the URL has no possible host and port")
    target = quote(parts.path or "/", _IN_TARGET)
    if parts.query:
        target += "?" + quote(parts.query, _IN_TARGET)
    return Url(scheme, name, PORTS[scheme] if port is None else port, target)


class HttpMapping:
    """The mapping within one association: it remembers which entity tags it has shortened."""

    def __init__(self) -> None:
        self._tags: OrderedDict[bytes, str] = OrderedDict()

    def request(self, message: Message, url: Url, body: bytes) -> HttpRequest:
        """``message`` as a request of HTTP for ``url``; raises `CannotBeServed`."""
        try:
            method = METHODS[Code(message.code)]
        except (KeyError, ValueError):
            raise CannotBeServed(Code.METHOD_NOT_ALLOWED, "no such method") from None
        headers: list[tuple[str, str]] = []
        accept = number_in(message, Number.ACCEPT)
        if accept is not None:
            headers.append(("Accept", to_name(accept)))
        if body:
            kind = number_in(message, Number.CONTENT_FORMAT)
            headers.append(("Content-Type", to_name(42 if kind is None else kind)))
        if message.value(Number.IF_NONE_MATCH) is not None:
            headers.append(("If-None-Match", "*"))
        else:
            known = [self._tags[t] for t in message.values(Number.ETAG) if t in self._tags]
            if known and method == "GET":
                headers.append(("If-None-Match", ", ".join(known)))
        wanted = message.values(Number.IF_MATCH)
        if wanted:
            matching = ["*" if not t else self._tags.get(t, "") for t in wanted]
            if not any(matching):
                raise CannotBeServed(Code.PRECONDITION_FAILED, "the entity tag is not known here")
            headers.append(("If-Match", ", ".join(filter(None, matching))))
        return HttpRequest(method, url, tuple(headers), body)

    def response(
        self, request: HttpRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> Response:
        """An answer of HTTP, as CoAP; ``headers`` have names in lower case."""
        if 300 <= status < 400 and status != 304:
            where = headers.get("location", "nowhere")[:200]
            return error_response(Code.BAD_GATEWAY, f"the server redirects to {where}")
        code = _code(request.method, status)
        if code >> 5 != 2:
            after = headers.get("retry-after", "")
            age = int(after) if after.isascii() and after.isdigit() and len(after) < 6 else 60
            text = f"the server answered {status}"
            return error_response(code, text, max(1, age) if code == 0xA3 else None)
        options: list[Option] = []
        tag = headers.get("etag", "")
        if tag and tag.isascii() and tag.isprintable():
            options.append(Option(Number.ETAG, self._remember(tag)))
        if code == Code.VALID:
            body = b""
        if body:
            kind = to_number(headers.get("content-type", ""))
            options.append(Option(Number.CONTENT_FORMAT, uint(kind)))
        age_left = max_age(headers)
        if age_left is not None and code in (Code.CONTENT, Code.VALID):
            options.append(Option(Number.MAX_AGE, uint(age_left)))
        return Response(code, tuple(options), body)

    def _remember(self, tag: str) -> bytes:
        short = etag_of(tag.encode())
        self._tags[short] = tag
        self._tags.move_to_end(short)
        if len(self._tags) > TAGS:
            self._tags.popitem(last=False)
        return short


def max_age(headers: Mapping[str, str]) -> int | None:
    """Seconds that an answer stays fresh; None: HTTP does not say."""
    control = headers.get("cache-control", "").lower()
    if "no-store" in control or "no-cache" in control:
        return 0
    found = re.search(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", control)
    if not found:
        return None
    age = headers.get("age", "")
    old = int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0
    return max(0, int(found[1]) - old)


def _code(method: str, status: int) -> Code:
    if status == 304:
        return Code.VALID
    if 200 <= status < 300:
        if status == 201:
            return Code.CREATED
        if method == "DELETE":
            return Code.DELETED
        return Code.CONTENT if method == "GET" else Code.CHANGED
    default = Code.BAD_REQUEST if 400 <= status < 500 else Code.BAD_GATEWAY
    return _SAME.get(status, default)
