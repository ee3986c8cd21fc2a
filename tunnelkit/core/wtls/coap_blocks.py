"""Bodies that are larger than a datagram, in blocks (RFC 7959; row W2)."""

from __future__ import annotations

import hashlib

import attrs

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.coap import Code, Message, Option, in_order
from tunnelkit.wire.coap_options import MAX_ETAG, Block, Number, block_in, uint

MAX_UPLOAD = 65_536
"""Bytes of a body that a device sends."""
BLOCK_SIZE = 512
"""Bytes of the blocks that are sent, unless the other side asks for smaller ones."""

_NOT_IN_KEY = frozenset({Number.BLOCK1, Number.BLOCK2, Number.SIZE1, Number.SIZE2})


@attrs.frozen
class Response:
    """A whole answer, however it travels."""

    code: int
    options: tuple[Option, ...] = ()
    payload: bytes = b""


def request_key(message: Message) -> tuple[int, tuple[Option, ...]]:
    """What requests for blocks of the same thing have in common."""
    return message.code, tuple(o for o in message.options if o.number not in _NOT_IN_KEY)


class Upload:
    """The body of one request, on its way here."""

    __slots__ = ("_body", "_key")

    def __init__(self) -> None:
        self._key: object = None
        self._body = bytearray()

    def take(self, message: Message, block: Block) -> bytes | Response:
        """Take a block: the body if that was the last, otherwise what to answer."""
        key = request_key(message)
        if block.number == 0:
            self._key, self._body = key, bytearray()
        if key != self._key or block.offset != len(self._body):
            return Response(Code.REQUEST_ENTITY_INCOMPLETE, (), b"a block is missing")
        whole = len(message.payload) == block.size
        if (block.more and not whole) or len(message.payload) > block.size:
            self._key = None
            return Response(Code.BAD_REQUEST, (), b"a block has the wrong size")
        if len(self._body) + len(message.payload) > MAX_UPLOAD:
            self._key = None
            size = Option(Number.SIZE1, uint(MAX_UPLOAD))
            return Response(Code.REQUEST_ENTITY_TOO_LARGE, (size,))
        self._body += message.payload
        if block.more:
            return Response(Code.CONTINUE, (block.option(Number.BLOCK1),))
        self._key = None
        return bytes(self._body)


def part_of(response: Response, asked: Message) -> Response:
    """What of ``response`` goes out as the answer to ``asked``: the whole, or one block."""
    try:
        block = block_in(asked, Number.BLOCK2)
        first = block_in(asked, Number.BLOCK1)
    except RemoteProtocolError as error:
        return Response(Code.BAD_REQUEST, (), str(error).encode())
    options = list(response.options)
    if first is not None and Number.BLOCK1 not in {option.number for option in options}:
        options.append(first.option(Number.BLOCK1))
    size = min(BLOCK_SIZE, block.size if block is not None else BLOCK_SIZE)
    if len(response.payload) <= size and (block is None or not block.number):
        return Response(response.code, in_order(options), response.payload)
    # A smaller size than was asked for moves the number, not the place (2.2).
    offset = block.offset if block is not None else 0
    number = offset // size
    piece = response.payload[offset : offset + size]
    if not piece:
        return Response(Code.BAD_REQUEST, (), b"there is no such block")
    more = offset + size < len(response.payload)
    options.append(Block(number, more, size).option(Number.BLOCK2))
    if not number:
        options.append(Option(Number.SIZE2, uint(len(response.payload))))
    if not any(option.number == Number.ETAG for option in options):
        options.append(Option(Number.ETAG, etag_of(response.payload)))
    return Response(response.code, in_order(options), piece)


def etag_of(what: bytes) -> bytes:
    """A tag of 8 bytes that changes with ``what``."""
    return hashlib.sha256(what).digest()[:MAX_ETAG]
