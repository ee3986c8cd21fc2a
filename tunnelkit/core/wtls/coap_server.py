"""The server's side of CoAP within one association (RFC 7252, 4 and 5; RFC 7959; row W2).

Datagrams go in by `receive`, which gives whole requests; whoever answers one
calls `respond`. Repeated requests are answered without being asked again.
"""

from __future__ import annotations

from collections import OrderedDict

import attrs

from tunnelkit.core.wtls.coap_blocks import Response, Upload, part_of, request_key
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.coap import (
    Code,
    Message,
    Option,
    Type,
    decode,
    empty,
    encode,
    is_request,
    rejected,
)
from tunnelkit.wire.coap_options import Number, block_in, uint, unacceptable

EXCHANGE_LIFETIME = 247.0
"""Seconds in which a Message ID means the same confirmable message (4.8.2)."""
NON_LIFETIME = 145.0
ANSWERS = 16
"""Answers that are kept for repeated requests."""
ANSWER_BYTES = 65_536
OPEN_REQUESTS = 16
"""Requests that may be unanswered at once."""
ACK_AFTER = 1.5
"""Seconds until a request whose answer takes longer is acknowledged: less than a device waits."""
ACK_TIMEOUT = 2.0
MAX_RETRANSMIT = 4


@attrs.frozen(eq=False)
class Request:
    """One whole request; ``message`` is its last block."""

    message: Message
    body: bytes


class _Exchange:
    """One request, by its Message ID."""

    __slots__ = ("acknowledge_at", "acknowledged", "answer", "expires")

    def __init__(self, expires: float, acknowledge_at: float | None) -> None:
        self.expires = expires
        self.acknowledge_at = acknowledge_at
        self.acknowledged = False
        self.answer = b""


class _Repeated:
    """A confirmable answer that has not been acknowledged."""

    __slots__ = ("at", "data", "left", "wait")

    def __init__(self, data: bytes, now: float, wait: float) -> None:
        self.data = data
        self.wait = wait
        self.at = now + wait
        self.left = MAX_RETRANSMIT


class CoapServer:
    """``first_id``: the first Message ID of its own, at random; ``spread`` from 0 to 1: how much
    longer than 2 s it waits for an acknowledgement, in seconds."""

    def __init__(self, first_id: int, spread: float = 0.5) -> None:
        self._next_id = first_id & 0xFFFF
        self._wait = ACK_TIMEOUT + spread
        self._exchanges: OrderedDict[int, _Exchange] = OrderedDict()
        self._kept_bytes = 0
        self._unanswered = 0
        self._upload = Upload()
        self._body: tuple[object, Response, float] | None = None
        """The last answer in blocks: what it was to, and until when it is kept."""
        self._repeated: dict[int, _Repeated] = {}
        self._refusal: Response | None = None
        self._out: list[bytes] = []

    def refuse_with(self, response: Response) -> None:
        """Answer whatever is asked from now on with ``response``, later blocks too."""
        self._refusal = response

    def receive(self, datagram: bytes, now: float) -> list[Request]:
        """Take a datagram; the request that is complete now, if any."""
        try:
            message = decode(datagram)
        except RemoteProtocolError:
            reset = rejected(datagram)
            if reset is not None:
                self._say(reset)
            return []
        if message.type in (Type.ACK, Type.RST):
            self._repeated.pop(message.message_id, None)
            return []
        if not is_request(message.code):
            if message.type is Type.CON:
                # An empty one is a ping (4.3); an answer was not asked for here.
                self._say(empty(Type.RST, message.message_id))
            return []
        return self._request(message, now)

    def respond(self, request: Request, response: Response, now: float) -> None:
        """Answer ``request``."""
        message = request.message
        self._unanswered -= 1
        part = part_of(response, message)
        if part.payload != response.payload and part.code == response.code:
            self._body = (request_key(message), response, now + EXCHANGE_LIFETIME)
        self._answer(message, part, now)

    @property
    def kept_body(self) -> int:
        """Bytes of the answer that is kept for its later blocks."""
        return 0 if self._body is None else len(self._body[1].payload)

    def forget_body(self) -> None:
        """Keep it no longer: a later block is asked for anew."""
        self._body = None

    @property
    def has_answers(self) -> bool:
        """Whether something waits for `data_to_send`."""
        return bool(self._out)

    def data_to_send(self) -> list[bytes]:
        """Datagrams that have to go out now."""
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """When `deadline_passed` has to be called."""
        times = [each.at for each in self._repeated.values()]
        times += [
            each.acknowledge_at
            for each in self._exchanges.values()
            if each.acknowledge_at is not None
        ]
        return min(times, default=None)

    def deadline_passed(self, now: float) -> None:
        """Acknowledge what takes longer; repeat what was not acknowledged."""
        for number, exchange in self._exchanges.items():
            if exchange.acknowledge_at is not None and exchange.acknowledge_at <= now:
                exchange.acknowledge_at = None
                exchange.acknowledged = True
                self._say(empty(Type.ACK, number))
        for number, again in list(self._repeated.items()):
            if again.at <= now:
                if not again.left:
                    del self._repeated[number]
                    continue
                again.left -= 1
                again.wait *= 2
                again.at = now + again.wait
                self._out.append(again.data)

    # -- inside -----------------------------------------------------------

    def _request(self, message: Message, now: float) -> list[Request]:
        self._forget(now)
        number, confirmable = message.message_id, message.type is Type.CON
        known = self._exchanges.get(number)
        if known is not None:
            if known.answer:
                self._out.append(known.answer)
            elif known.acknowledged:
                self._say(empty(Type.ACK, number))
            return []
        self._exchanges[number] = _Exchange(
            now + (EXCHANGE_LIFETIME if confirmable else NON_LIFETIME),
            now + ACK_AFTER if confirmable else None,
        )
        answer = self._own_answer(message, now)
        if isinstance(answer, Response):
            self._answer(message, answer, now)
            return []
        self._unanswered += 1
        return [Request(message, answer)]

    def _own_answer(self, message: Message, now: float) -> bytes | Response:
        """What needs nobody else, or the body of the request."""
        if self._refusal is not None:
            return self._refusal
        wrong = unacceptable(message)
        if wrong is not None:
            return Response(Code.BAD_OPTION, (), f"option {wrong} is not understood".encode())
        if self._unanswered >= OPEN_REQUESTS:
            soon = Option(Number.MAX_AGE, uint(1))
            return Response(Code.SERVICE_UNAVAILABLE, (soon,), b"too many requests at once")
        try:
            first, second = block_in(message, Number.BLOCK1), block_in(message, Number.BLOCK2)
        except RemoteProtocolError as error:
            return Response(Code.BAD_REQUEST, (), str(error).encode())
        if second is not None and second.number and self._body is not None:
            key, response, until = self._body
            if key == request_key(message) and until > now:
                return part_of(response, message)
        if first is None:
            return message.payload
        return self._upload.take(message, first)

    def _answer(self, message: Message, response: Response, now: float) -> None:
        exchange = self._exchanges.get(message.message_id)
        kind, number = Type.ACK, message.message_id
        if message.type is Type.NON:
            kind, number = Type.NON, self._new_id()
        elif exchange is None or exchange.acknowledged:
            kind, number = Type.CON, self._new_id()
        data = encode(
            Message(kind, response.code, number, message.token, response.options, response.payload)
        )
        self._out.append(data)
        if kind is Type.CON:
            self._repeated[number] = _Repeated(data, now, self._wait)
        if exchange is not None:
            exchange.acknowledge_at = None
            exchange.answer = data
            self._kept_bytes += len(data)
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop what is too old, and the oldest of what is too much."""
        for number, old in list(self._exchanges.items()):
            crowded = len(self._exchanges) > ANSWERS or self._kept_bytes > ANSWER_BYTES
            if old.expires > now and not crowded:
                return
            if old.expires <= now or old.answer:
                del self._exchanges[number]
                self._kept_bytes -= len(old.answer)

    def _new_id(self) -> int:
        number = self._next_id
        self._next_id = (number + 1) & 0xFFFF
        return number

    def _say(self, message: Message) -> None:
        self._out.append(encode(message))
