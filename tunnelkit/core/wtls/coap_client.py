"""The device's side of CoAP within one association: one request after the other (row W2).

It is what tests, the demonstration and the measurements use as a device; bodies go in blocks.
"""

from __future__ import annotations

from tunnelkit.core.wtls.coap_blocks import BLOCK_SIZE, Response
from tunnelkit.core.wtls.coap_server import ACK_TIMEOUT, MAX_RETRANSMIT
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.coap import Code, Message, Option, Type, decode, empty, encode, in_order
from tunnelkit.wire.coap_options import Block, Number, block_in

MAX_BODY = 1 << 20
_SEPARATE_WAIT = 60.0
"""Seconds that an answer may take once the request has been acknowledged."""


class CoapClient:
    """``first_id``: its first Message ID, at random."""

    def __init__(self, first_id: int) -> None:
        self._next_id = first_id & 0xFFFF
        self._request: tuple[int, tuple[Option, ...], bytes] | None = None
        """Method, options and body of what is asked."""
        self._token = b""
        self._waiting: Message | None = None
        """The message that has not been answered."""
        self._at = 0.0
        self._wait = 0.0
        self._left = 0
        self._sent = 0
        """Bytes of the body that have been taken."""
        self._body = bytearray()
        self._out: list[bytes] = []

    def ask(self, method: int, url: str, body: bytes = b"", *, now: float) -> None:
        """Ask a proxy for ``url``."""
        if self._request is not None:
            raise LocalProtocolError("one request at a time")
        option = Option(Number.PROXY_URI, url.encode())
        self._request = (method, (option,), body)
        self._sent, self._body = 0, bytearray()
        self._send_request(None, now)

    def receive(self, datagram: bytes, now: float) -> Response | None:
        """Take a datagram; the answer, once it is complete."""
        try:
            message = decode(datagram)
        except RemoteProtocolError:
            return None
        waiting = self._waiting
        if message.type is Type.CON:
            self._out.append(encode(empty(Type.ACK, message.message_id)))
        if waiting is None:
            return None
        if message.code == Code.EMPTY:
            if message.message_id == waiting.message_id and message.type is Type.ACK:
                self._left, self._at = 0, now + _SEPARATE_WAIT
            return None
        if message.token != waiting.token:
            return None
        self._waiting = None
        return self._answered(message, now)

    def data_to_send(self) -> list[bytes]:
        """Datagrams that have to go out now."""
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """When `deadline_passed` has to be called."""
        return None if self._waiting is None else self._at

    def deadline_passed(self, now: float) -> bool:
        """Repeat what was not answered; False: it has been repeated often enough."""
        if self._waiting is None or self._at > now:
            return True
        if not self._left:
            self._waiting = self._request = None
            return False
        self._left -= 1
        self._wait *= 2
        self._at = now + self._wait
        self._out.append(encode(self._waiting))
        return True

    def _answered(self, message: Message, now: float) -> Response | None:
        assert self._request is not None
        if message.code == Code.CONTINUE:
            self._sent += BLOCK_SIZE
            self._send_request(None, now)
            return None
        block = block_in(message, Number.BLOCK2)
        if block is not None and block.offset == len(self._body) < MAX_BODY:
            self._body += message.payload
            if block.more:
                self._send_request(Block(block.number + 1, False, block.size), now)
                return None
        elif block is not None:
            self._request = None
            raise RemoteProtocolError("a block of the answer is missing")
        self._request = None
        return Response(message.code, message.options, bytes(self._body) or message.payload)

    def _send_request(self, next_block: Block | None, now: float) -> None:
        assert self._request is not None
        method, options, body = self._request
        wanted = list(options)
        piece = b""
        if next_block is not None:
            wanted.append(next_block.option(Number.BLOCK2))
        elif body:
            piece = body[self._sent : self._sent + BLOCK_SIZE]
            more = self._sent + BLOCK_SIZE < len(body)
            wanted.append(Block(self._sent // BLOCK_SIZE, more, BLOCK_SIZE).option(Number.BLOCK1))
        number = self._next_id
        self._next_id = (number + 1) & 0xFFFF
        token = number.to_bytes(2, "big")
        message = Message(Type.CON, method, number, token, in_order(wanted), piece)
        self._waiting = message
        self._left, self._wait = MAX_RETRANSMIT, ACK_TIMEOUT
        self._at = now + self._wait
        self._out.append(encode(message))
