"""CoAP within an association: both sides, and what a network does between them (row W2)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import CASES, damaged
from tests.wire.wtls_vectors import VECTORS
from tunnelkit.core.wtls.coap_blocks import MAX_UPLOAD, Response
from tunnelkit.core.wtls.coap_client import CoapClient
from tunnelkit.core.wtls.coap_server import ANSWERS, OPEN_REQUESTS, CoapServer, Request
from tunnelkit.errors import LocalProtocolError
from tunnelkit.wire.coap import Code, Message, Option, Type, decode, empty, encode, in_order
from tunnelkit.wire.coap_options import Block, Number, block_in, uint

URL = "http://web.example/"
PAGE = Response(Code.CONTENT, (Option(Number.CONTENT_FORMAT, b""),), b"a page")
LONG = Response(Code.CONTENT, (Option(Number.CONTENT_FORMAT, b""),), bytes(range(256)) * 5)


def get(number: int = 1, kind: Type = Type.CON, *options: Option) -> bytes:
    where = Option(Number.PROXY_URI, URL.encode())
    return encode(Message(kind, Code.GET, number, b"t", in_order([where, *options])))


class Served:
    """A server to which messages are said."""

    def __init__(self) -> None:
        self.server = CoapServer(0x7000)
        self.now = 0.0

    def hears(self, data: bytes) -> list[Request]:
        return self.server.receive(data, self.now)

    def says(self) -> list[Message]:
        return [decode(data) for data in self.server.data_to_send()]

    def answers(self, data: bytes, response: Response = PAGE) -> Message:
        """What comes back for ``data``, which has to be a request that is asked on."""
        (request,) = self.hears(data)
        self.server.respond(request, response, self.now)
        (message,) = self.says()
        return message

    def refuses(self, data: bytes) -> Message:
        assert self.hears(data) == []
        (message,) = self.says()
        return message

    def waits(self, seconds: float) -> list[tuple[float, Message]]:
        said = []
        end = self.now + seconds
        while (due := self.server.next_deadline()) is not None and due <= end:
            self.now = due
            self.server.deadline_passed(due)
            said += [(due, message) for message in self.says()]
        self.now = end
        return said


def test_a_quick_answer_rides_on_the_acknowledgement() -> None:
    message = Served().answers(get())
    assert (message.type, message.message_id, message.token) == (Type.ACK, 1, b"t")
    assert (message.code, message.payload) == (Code.CONTENT, b"a page")


def test_a_non_confirmable_request_has_such_an_answer() -> None:
    message = Served().answers(get(1, Type.NON))
    assert (message.type, message.message_id) == (Type.NON, 0x7000)


def test_a_slow_answer_comes_by_itself_and_is_repeated_until_acknowledged() -> None:
    world = Served()
    (request,) = world.hears(get())
    assert world.waits(3) == [(1.5, empty(Type.ACK, 1))]
    world.server.respond(request, PAGE, world.now)
    (message,) = world.says()
    assert (message.type, message.message_id, message.token) == (Type.CON, 0x7000, b"t")
    assert [when for when, _ in world.waits(10)] == [5.5, 10.5]
    world.hears(encode(empty(Type.ACK, 0x7000)))
    assert world.waits(100) == []


def test_an_answer_that_nobody_acknowledges_is_given_up() -> None:
    world = Served()
    (request,) = world.hears(get())
    world.waits(2)
    world.server.respond(request, PAGE, world.now)
    world.says()
    assert [when for when, _ in world.waits(1000)] == [4.5, 9.5, 19.5, 39.5]
    assert world.server.next_deadline() is None


def test_a_repeated_request_gets_the_same_answer_and_is_not_asked_again() -> None:
    world = Served()
    first = world.answers(get())
    assert world.refuses(get()) == first
    world.now = 246.0
    assert world.refuses(get()) == first
    world.now = 248.0
    assert len(world.hears(get())) == 1


def test_a_request_repeated_before_its_answer_is_acknowledged_at_most() -> None:
    world = Served()
    assert len(world.hears(get())) == 1
    assert world.hears(get()) == []
    assert world.says() == []
    world.waits(2)
    assert world.refuses(get()) == empty(Type.ACK, 1)


def test_only_the_newest_answers_are_kept() -> None:
    world = Served()
    for number in range(ANSWERS + 2):
        world.answers(get(number))
    assert len(world.hears(get(0))) == 1
    assert world.hears(get(ANSWERS + 1)) == []


def test_large_answers_push_older_ones_out() -> None:
    world = Served()
    page = Response(Code.CONTENT, (Option(2000, bytes(30_000)),), b"x")
    for number in range(3):
        world.answers(get(number), page)
    assert len(world.hears(get(0))) == 1


def test_a_ping_is_answered_and_what_makes_no_sense_is_reset_or_ignored() -> None:
    world = Served()
    assert world.refuses(encode(empty(Type.CON, 9))) == empty(Type.RST, 9)
    assert world.refuses(encode(Message(Type.CON, Code.CONTENT, 8))) == empty(Type.RST, 8)
    assert world.refuses(b"\x4f\x01\x00\x07") == empty(Type.RST, 7)
    for data in (b"", b"\x5f\x01\x00\x07", encode(Message(Type.NON, Code.CONTENT, 6))):
        assert world.hears(data) == []
    assert world.says() == []


def test_an_option_that_is_not_understood_is_4_02() -> None:
    world = Served()
    assert world.refuses(get(1, Type.CON, Option(9, b""))).code == Code.BAD_OPTION
    assert world.refuses(get(2, Type.CON, Option(Number.BLOCK2, b"\x07"))).code == Code.BAD_REQUEST


def test_only_so_many_requests_are_open_at_once() -> None:
    world = Served()
    for number in range(OPEN_REQUESTS):
        assert len(world.hears(get(number))) == 1
    message = world.refuses(get(99))
    assert message.code == Code.SERVICE_UNAVAILABLE
    assert message.value(Number.MAX_AGE) == b"\x01"


# -- blocks -----------------------------------------------------------------


def test_a_long_answer_goes_in_blocks_of_512_of_one_and_the_same_body() -> None:
    world = Served()
    first = world.answers(get(1), LONG)
    assert block_in(first, Number.BLOCK2) == Block(0, True, 512)
    assert first.value(Number.SIZE2) == uint(1280)
    second = world.refuses(get(2, Type.CON, Block(1, False, 512).option(Number.BLOCK2)))
    third = world.refuses(get(3, Type.CON, Block(2, False, 512).option(Number.BLOCK2)))
    assert block_in(third, Number.BLOCK2) == Block(2, False, 512)
    assert first.payload + second.payload + third.payload == LONG.payload
    assert len({message.value(Number.ETAG) for message in (first, second, third)}) == 1


def test_smaller_blocks_are_sent_if_asked_for_and_larger_ones_are_not() -> None:
    world = Served()
    small = world.answers(get(1, Type.CON, Block(0, False, 64).option(Number.BLOCK2)), LONG)
    assert block_in(small, Number.BLOCK2) == Block(0, True, 64)
    large = world.answers(get(2, Type.CON, Block(0, False, 1024).option(Number.BLOCK2)), LONG)
    assert block_in(large, Number.BLOCK2) == Block(0, True, 512)
    next_one = world.refuses(get(3, Type.CON, Block(1, False, 1024).option(Number.BLOCK2)))
    assert block_in(next_one, Number.BLOCK2) == Block(2, False, 512)


def test_a_block_that_there_is_not_is_4_00() -> None:
    world = Served()
    world.answers(get(1), LONG)
    far = world.refuses(get(2, Type.CON, Block(9, False, 512).option(Number.BLOCK2)))
    assert far.code == Code.BAD_REQUEST


def test_in_the_middle_of_a_transfer_it_can_be_said_that_it_is_over() -> None:
    world = Served()
    world.answers(get(1), LONG)
    assert world.server.kept_body == len(LONG.payload)
    world.server.refuse_with(Response(Code.SERVICE_UNAVAILABLE, (), b"over"))
    refused = world.refuses(get(2, Type.CON, Block(1, False, 512).option(Number.BLOCK2)))
    assert (refused.code, refused.payload) == (Code.SERVICE_UNAVAILABLE, b"over")
    assert not world.server.has_answers


def test_a_body_that_is_kept_no_longer_is_asked_for_anew() -> None:
    world = Served()
    world.answers(get(1), LONG)
    world.server.forget_body()
    assert world.server.kept_body == 0
    again = world.answers(get(2, Type.CON, Block(1, False, 512).option(Number.BLOCK2)), LONG)
    assert again.payload == LONG.payload[512:1024]


def put(number: int, block: Block, piece: bytes) -> bytes:
    where = Option(Number.PROXY_URI, URL.encode())
    options = in_order([where, block.option(Number.BLOCK1)])
    return encode(Message(Type.CON, Code.PUT, number, b"t", options, piece))


def test_a_body_comes_in_blocks_in_order() -> None:
    world = Served()
    first = world.refuses(put(1, Block(0, True, 16), b"0123456789abcdef"))
    assert first.code == Code.CONTINUE
    assert block_in(first, Number.BLOCK1) == Block(0, True, 16)
    (request,) = world.hears(put(2, Block(1, False, 16), b"end"))
    assert request.body == b"0123456789abcdefend"
    world.server.respond(request, Response(Code.CHANGED), 0.0)
    (last,) = world.says()
    assert block_in(last, Number.BLOCK1) == Block(1, False, 16)


@pytest.mark.parametrize(
    ("block", "piece", "code"),
    [
        (Block(2, True, 16), bytes(16), Code.REQUEST_ENTITY_INCOMPLETE),
        (Block(1, True, 16), bytes(15), Code.BAD_REQUEST),
        (Block(1, False, 16), bytes(17), Code.BAD_REQUEST),
    ],
)
def test_blocks_out_of_order_or_of_a_wrong_size_are_refused(
    block: Block, piece: bytes, code: Code
) -> None:
    world = Served()
    world.refuses(put(1, Block(0, True, 16), bytes(16)))
    assert world.refuses(put(2, block, piece)).code == code


def test_a_body_over_64_kib_is_4_13() -> None:
    world = Served()
    for number in range(MAX_UPLOAD // 1024):
        answer = world.refuses(put(number, Block(number, True, 1024), bytes(1024)))
        assert answer.code == Code.CONTINUE
    last = world.refuses(put(64, Block(64, False, 1024), b"x"))
    assert last.code == Code.REQUEST_ENTITY_TOO_LARGE
    assert last.value(Number.SIZE1) == uint(MAX_UPLOAD)


# -- both sides --------------------------------------------------------------


class Link:
    """A client and a server, and a network that loses, delays and repeats."""

    def __init__(self, seed: int, loss: float, answer: Response, thinking: float = 0.0) -> None:
        self.chance = Random(seed)
        self.loss = loss
        self.answer = answer
        self.thinking = thinking
        self.client = CoapClient(self.chance.randrange(65_536))
        self.server = CoapServer(self.chance.randrange(65_536))
        self.bodies: list[bytes] = []
        self.now = 0.0
        self._number = 0
        self._due: list[tuple[float, int, str, object]] = []

    def ask(self, method: int, body: bytes = b"") -> Response | None:
        """The answer; None: it was given up."""
        self.client.ask(method, URL, body, now=self.now)
        while True:
            self._carry()
            times = [self.client.next_deadline(), self.server.next_deadline()]
            times += [min(self._due)[0]] if self._due else []
            self.now = min(time for time in times if time is not None)
            if not self.client.deadline_passed(self.now):
                return None
            self.server.deadline_passed(self.now)
            for entry in sorted(each for each in self._due if each[0] <= self.now):
                self._due.remove(entry)
                response = self._arrive(entry[2], entry[3])
                if response is not None:
                    return response

    def _arrive(self, where: str, what: object) -> Response | None:
        if where == "answer":
            assert isinstance(what, Request)
            self.server.respond(what, self.answer, self.now)
            return None
        assert isinstance(what, bytes)
        if where == "client":
            return self.client.receive(what, self.now)
        for request in self.server.receive(what, self.now):
            self.bodies.append(request.body)
            self._later("answer", request, self.thinking)
        return None

    def _carry(self) -> None:
        for data in self.client.data_to_send():
            self._send("server", data)
        for data in self.server.data_to_send():
            self._send("client", data)

    def _send(self, where: str, data: bytes) -> None:
        for _ in range(2 if self.chance.random() < 0.05 else 1):
            if self.chance.random() >= self.loss:
                self._later(where, data, 0.3 if self.chance.random() < 0.1 else 0.01)

    def _later(self, where: str, what: object, seconds: float) -> None:
        self._number += 1
        self._due.append((self.now + seconds, self._number, where, what))


BODY = Random(7).randbytes(65_536)


@pytest.mark.parametrize("thinking", [0.0, 5.0])
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_64_kib_both_ways_over_a_network_that_loses(loss: float, thinking: float) -> None:
    link = Link(3, loss, Response(Code.CHANGED, (), BODY[::-1]), thinking)
    response = link.ask(Code.POST, BODY)
    assert response is not None
    assert response.payload == BODY[::-1]
    assert link.bodies == [BODY]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.integers(0, 3000),
    st.integers(0, 3000),
)
def test_a_transfer_is_complete_or_given_up(seed: int, loss: float, there: int, back: int) -> None:
    link = Link(seed, loss, Response(Code.CHANGED, (), BODY[:back]))
    response = link.ask(Code.POST, BODY[:there])
    assert response is None or (response.payload, link.bodies[0]) == (BODY[:back], BODY[:there])
    assert len(link.bodies) <= 1
    assert response is not None or loss


def test_a_client_asks_one_thing_at_a_time() -> None:
    client = CoapClient(1)
    client.ask(Code.GET, URL, now=0.0)
    with pytest.raises(LocalProtocolError, match="one request"):
        client.ask(Code.GET, URL, now=0.0)
    for data in (b"", b"\x60\x45\x00\x01", encode(Message(Type.NON, Code.CONTENT, 5, b"?"))):
        assert client.receive(data, 0.0) is None


def test_damaged_messages_raise_nothing() -> None:
    world = Served()
    seeds = [get(), put(3, Block(0, True, 16), bytes(16)), VECTORS["request"]]
    asked = 0
    for data in damaged(seeds, seed=11):
        world.now += 1.0
        for request in world.hears(data):
            asked += 1
            world.server.respond(request, LONG, world.now)
        world.server.data_to_send()
        world.server.deadline_passed(world.now)
    assert asked > CASES // 200
