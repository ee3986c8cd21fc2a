"""Heads of HTTP/1.0 and 1.1 messages (RFC 9112): the start line and the header fields.

Requests are read strictly, because what two programs read differently can be used to
smuggle: lines end with CR LF, nothing is folded, no blank stands before a colon. Responses
may do all that, as those of many servers do: each ends with its connection, and what is
passed on is written anew. No control character stands anywhere. Texts are ISO 8859-1, as
HTTP has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError

MAX_HEAD = 65_536
"""Bytes of a head, the empty line included."""
MAX_FIELDS = 512

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_REQUEST = re.compile(rb"([^ ]+) ([^ ]+) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*))?", re.DOTALL)
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
_EMPTY_LINE = re.compile(rb"\n\r?\n")

Fields = tuple[tuple[str, str], ...]
"""Header fields in order: name as it was sent, value without blanks around it."""


@attrs.frozen
class _Head:
    version: str = attrs.field(kw_only=True, default="1.1")
    """``1.0`` or ``1.1``."""
    fields: Fields = attrs.field(kw_only=True, default=(), repr=False)
    """Not shown in repr: they carry passwords and cookies."""

    def values(self, name: str) -> Iterator[str]:
        """The values of every field called ``name`` (any case), in order."""
        wanted = name.lower()
        return (value for field, value in self.fields if field.lower() == wanted)


@attrs.frozen
class RequestHead(_Head):
    """What a client asks: ``METHOD TARGET HTTP/1.x`` and fields."""

    method: str
    target: str


@attrs.frozen
class ResponseHead(_Head):
    """What a server answers: ``HTTP/1.x STATUS REASON`` and fields."""

    status: int
    """100 to 999."""
    reason: str = ""


def empty_lines_size(data: bytes | bytearray) -> int:
    """How many bytes at the start of ``data`` are empty lines (RFC 9112, section 2.2)."""
    match = _EMPTY_LINES.match(data)
    return match.end() if match else 0


def head_size(data: bytes | bytearray, seen: int = 0) -> int | None:
    """How many bytes at the start of ``data`` are its head; None: the head is not complete yet.

    ``seen``: for so many of its bytes the answer was None before; they are not looked
    through again (X24). Raises `RemoteProtocolError` for a head of more than `MAX_HEAD`
    bytes, and as soon as a line ends without CR.
    """
    end = data.find(b"\r\n\r\n", max(0, seen - 3), MAX_HEAD)
    # A CR that was the last byte belongs to the line end that begins now.
    begin = seen - data.endswith(b"\r", 0, seen)
    new = data[begin : MAX_HEAD if end < 0 else end]
    if new.count(b"\n") != new.count(b"\r\n"):
        raise RemoteProtocolError("a line of the HTTP head ends without CR")
    if end >= 0:
        return end + 4
    _demand_room(data)
    return None


def response_head_size(data: bytes | bytearray, seen: int = 0) -> int | None:
    """`head_size` for a response, whose lines may end without CR."""
    match = _EMPTY_LINE.search(data, max(0, seen - 2), MAX_HEAD)
    if match is None:
        _demand_room(data)
        return None
    return match.end()


def _demand_room(data: bytes | bytearray) -> None:
    if len(data) >= MAX_HEAD:
        raise RemoteProtocolError(f"the HTTP head is longer than {MAX_HEAD} bytes")


def _fields(lines: list[bytes]) -> Fields:
    if len(lines) > MAX_FIELDS:
        raise RemoteProtocolError(f"the HTTP head has more than {MAX_FIELDS} fields")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise RemoteProtocolError("a line of the HTTP head is not a header field")
        value = value.strip(b" \t")
        if not _VALUE.fullmatch(value):
            raise RemoteProtocolError("a field of the HTTP head has control characters")
        fields.append((name.decode("ascii"), value.decode("latin-1")))
    return tuple(fields)


def _lines(head: bytes) -> list[bytes]:
    if not head.endswith(b"\r\n\r\n"):
        raise LocalProtocolError("not a whole head: see head_size")
    return head[:-4].split(b"\r\n")


def _response_lines(head: bytes) -> list[bytes]:
    if not _EMPTY_LINE.search(head, max(0, len(head) - 3)):
        raise LocalProtocolError("not a whole head: see response_head_size")
    unfolded: list[list[bytes]] = []
    for line in head.split(b"\n")[:-2]:
        line = line.removesuffix(b"\r")
        if len(unfolded) > 1 and line.startswith((b" ", b"\t")):
            unfolded[-1].append(line.strip(b" \t"))
            continue
        name, colon, value = line.partition(b":")
        unfolded.append([name.rstrip(b" \t") + colon + value if unfolded else line])
    return [b" ".join(parts) for parts in unfolded]


def parse_request_head(head: bytes) -> RequestHead:
    """The head of a request, its empty line included; raises `RemoteProtocolError`."""
    first, *rest = _lines(head)
    match = _REQUEST.fullmatch(first)
    if match is None:
        raise RemoteProtocolError("the first line is not an HTTP/1.x request")
    method, target, minor = match.groups()
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise RemoteProtocolError("the HTTP request line has characters that do not belong there")
    return RequestHead(
        method.decode("ascii"),
        target.decode("latin-1"),
        version=f"1.{minor.decode()}",
        fields=_fields(rest),
    )


def parse_response_head(head: bytes) -> ResponseHead:
    """The head of a response, its empty line included; raises `RemoteProtocolError`.

    Lines may end without CR, fields may be folded, and a blank may stand before the colon.
    """
    first, *rest = _response_lines(head)
    match = _STATUS.fullmatch(first)
    if match is None:
        raise RemoteProtocolError("the first line is not an HTTP/1.x status line")
    minor, status, reason = match.groups(default=b"")
    if not _VALUE.fullmatch(reason):
        raise RemoteProtocolError("the HTTP status line has control characters")
    return ResponseHead(
        int(status),
        reason.decode("latin-1").strip(),
        version=f"1.{minor.decode()}",
        fields=_fields(rest),
    )


def _encoded(first: str, fields: Fields) -> bytes:
    lines = [_line(first, "start line")]
    for name, value in fields:
        if not _TOKEN.fullmatch(name.encode("latin-1", "replace")):
            raise LocalProtocolError(f"{name!r} is no name for a header field")
        lines.append(_line(f"{name}: {value}" if value else f"{name}:", f"value of {name}"))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _line(text: str, what: str) -> bytes:
    try:
        line = text.encode("latin-1")
    except UnicodeEncodeError:
        line = b"\n"
    if not _VALUE.fullmatch(line):
        # The text itself may be a secret: it is not repeated.
        raise LocalProtocolError(f"the HTTP {what} has characters that HTTP cannot carry")
    return line


def encode_request_head(head: RequestHead) -> bytes:
    """The bytes of a request's head; raises `LocalProtocolError` for what HTTP cannot carry."""
    for part, allowed in ((head.method, _TOKEN), (head.target, _TARGET)):
        if not allowed.fullmatch(part.encode("latin-1", "replace")):
            raise LocalProtocolError(f"{part[:300]!r} cannot stand in an HTTP request line")
    return _encoded(f"{head.method} {head.target} HTTP/{head.version}", head.fields)


def encode_response_head(head: ResponseHead) -> bytes:
    """The bytes of a response's head; raises `LocalProtocolError` for what HTTP cannot carry."""
    return _encoded(f"HTTP/{head.version} {head.status} {head.reason}", head.fields)
