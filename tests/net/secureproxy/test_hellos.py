"""A publisher passes hellos on and keeps their digests for a minute (row S15)."""

from __future__ import annotations

import hashlib

import pytest

from tests.wire.test_tls_hellos import message, record
from tunnelkit.net.secureproxy.hellos import KEPT, MOST, HelloBook, HelloWatch
from tunnelkit.net.sockets.carrier import CarrierSink
from tunnelkit.wire.tls_hellos import CLIENT_HELLO, SERVER_HELLO

HELLO = record(message(CLIENT_HELLO, b"from a browser"))
ANSWER = record(message(SERVER_HELLO, b"from the site")) + record(b"certificate", 23)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class MemoryCarrier:
    """Takes ``room`` bytes at a time."""

    near_address = far_address = ""
    sink: CarrierSink

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.written = b""
        self.reading = False
        self.ended = ""

    def start(self, sink: CarrierSink) -> None:
        self.sink = sink

    hand_over = start

    def write(self, view: memoryview | bytes | bytearray) -> int:
        taken = bytes(view[: self.room])
        self.written += taken
        return len(taken)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_low_water(self, size: int) -> None:
        raise AssertionError(size)

    def finish_writing(self) -> None:
        raise AssertionError("nobody ends one direction")

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class World:
    def __init__(self, *, early: bytes = b"", seen: bytes = b"", room: int = 1 << 20) -> None:
        self.browser, self.site = MemoryCarrier(), MemoryCarrier(room)
        self.told: list[object] = []
        self.watch = HelloWatch(
            self.browser,
            self.site,
            early,
            seen,
            lambda *both: self.told.append(both),
            lambda *rest: self.told.append(("done", *rest)),
            lambda: self.told.append("gone"),
        )
        self.watch.start()

    def from_browser(self, data: bytes) -> None:
        self.browser.sink.carrier_received(memoryview(data))

    def from_site(self, data: bytes) -> None:
        self.site.sink.carrier_received(memoryview(data))


BOTH = (
    digest(message(CLIENT_HELLO, b"from a browser")),
    digest(message(SERVER_HELLO, b"from the site")),
)


@pytest.mark.parametrize("seen", [0, 7, len(HELLO)])
def test_the_hello_goes_on_at_once_and_the_answer_with_what_follows(seen: int) -> None:
    world = World(early=b"PROXY", seen=HELLO[:seen])
    assert world.site.written == b"PROXY" + HELLO[:seen]
    for at in range(seen, len(HELLO)):
        assert world.browser.reading
        world.from_browser(HELLO[at : at + 1])
    assert world.site.written == b"PROXY" + HELLO
    assert not world.browser.reading
    world.from_site(ANSWER[:9])
    assert world.told == []
    world.from_site(ANSWER[9:])
    assert world.told == [BOTH, ("done", ANSWER, b"")]


def test_a_site_that_takes_little_gets_the_rest_later() -> None:
    world = World(seen=HELLO, room=10)
    assert world.site.written == HELLO[:10]
    world.site.sink.carrier_writable()
    assert world.site.written == HELLO[:20]
    world.from_site(ANSWER)
    assert world.told == [BOTH, ("done", ANSWER, HELLO[20:])]


def test_what_is_no_tls_is_passed_on_all_the_same() -> None:
    world = World(seen=b"GET / HTTP/1.1")
    assert world.told == [("done", b"", b"GET / HTTP/1.1")]
    world = World(seen=HELLO)
    world.from_site(record(b"an alert", 21))
    assert world.told == [("done", record(b"an alert", 21), b"")]


@pytest.mark.parametrize("clean", [True, False])
def test_one_that_goes_takes_the_other_along(clean: bool) -> None:
    world = World(seen=HELLO[:9])
    world.browser.sink.carrier_lost("gone", clean)
    assert world.site.ended == ("closed" if clean else "aborted")
    assert world.told == ["gone"]
    world = World(seen=HELLO)
    world.from_site(ANSWER[:9])
    world.site.sink.carrier_lost("gone", clean)
    assert world.browser.ended == ("closed" if clean else "aborted")
    assert world.browser.written == (ANSWER[:9] if clean else b"")
    assert world.told == ["gone"]
    world = World()
    world.watch.abort("stopping")
    assert (world.browser.ended, world.site.ended) == ("aborted", "aborted")
    assert world.told == ["gone"]


def test_pairs_are_kept_for_a_minute_and_not_without_bound() -> None:
    now = 100.0
    book = HelloBook(lambda: now)
    book.note("site.example", "c", "s")
    now += KEPT
    book.note("site.example", "d", "t")
    assert [pair.client_hello for pair in book.pairs()] == ["c", "d"]
    now += 1
    assert [pair.client_hello for pair in book.pairs()] == ["d"]
    for number in range(MOST + 5):
        book.note("site.example", str(number), "s")
    assert len(book.pairs()) == MOST
    assert book.pairs()[-1].client_hello == str(MOST + 4)
