"""Sending and receiving in one step each, which is what small messages take."""

from __future__ import annotations

import random

import pytest

from tests.net.tls.test_engine import FAR, NEAR, engine, move, output, pair, read, way
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.engine import TlsEngine
from tunnelkit.net.tls.stream import TlsStream
from tunnelkit.testing import TestClock

__all__ = ["way"]

BUFFER = 40_000


def encrypted(source: TlsEngine, data: bytes) -> bytes:
    buffer = memoryview(bytearray(BUFFER))
    size = source.calls.encrypt(memoryview(data), buffer)
    if size < 0:
        source.write_failed()
    return bytes(buffer[:size])


def decrypted(target: TlsEngine, data: bytes) -> bytes:
    """What one step gives, and what is left behind it, as `TlsStream` takes it."""
    buffer = memoryview(bytearray(BUFFER))
    size = target.calls.decrypt(memoryview(data), buffer)
    got = bytes(buffer[:size])
    if target.calls.more:
        got += read(target)
    return got


def test_pieces_of_every_size_arrive_in_order() -> None:
    client, server = pair()
    chance = random.Random(7)
    for size in (1, 64, 4096, 5000, 1, 30_000, 64, 16_384, 3):
        data = chance.randbytes(size)
        assert decrypted(server, encrypted(client, data)) == data
        assert decrypted(client, encrypted(server, data)) == data


def test_several_records_at_once_are_read_to_the_end() -> None:
    client, server = pair()
    sent = encrypted(client, b"one") + encrypted(client, b"two") + encrypted(client, b"three")
    assert decrypted(server, sent) == b"onetwothree"


def test_a_record_that_is_cut_comes_with_its_rest() -> None:
    client, server = pair()
    for cut in (3, 8, 30, 40, -1):
        sent = encrypted(client, b"whole") + encrypted(client, b"cut")
        assert decrypted(server, sent[:cut]) + decrypted(server, sent[cut:]) == b"wholecut"


def test_what_did_not_fit_is_read_before_what_comes_next() -> None:
    client, server = pair()
    large, small = bytes(BUFFER + 5000), b"next"
    client.write(memoryview(large))
    buffer = memoryview(bytearray(BUFFER))
    assert server.calls.decrypt(memoryview(output(client)), buffer) == BUFFER
    server.feed(memoryview(encrypted(client, small)))
    assert read(server) == large[BUFFER:] + small


def test_what_does_not_fit_into_the_buffer_is_drained_behind_it() -> None:
    client, server = pair()
    data = bytes(BUFFER * 2)
    first = encrypted(client, data)
    assert len(first) == BUFFER
    assert decrypted(server, first + output(client)) == data


def test_the_end_behind_data_is_told_after_the_data() -> None:
    client, server = pair()
    sent = encrypted(client, b"last")
    client.shutdown()
    assert decrypted(server, sent + output(client)) == b"last"
    assert server.stopped
    assert server.closed_cleanly
    assert decrypted(server, b"more") == b""
    # The other direction goes on.
    assert decrypted(client, encrypted(server, b"answer")) == b"answer"


def test_data_before_a_broken_record_is_handed_over_before_the_error() -> None:
    client, server = pair()
    good, bad = encrypted(client, b"good"), bytearray(encrypted(client, b"bad"))
    bad[-1] ^= 1
    buffer = memoryview(bytearray(BUFFER))
    assert server.calls.decrypt(memoryview(good + bytes(bad)), buffer) == 4
    assert server.calls.more
    with pytest.raises(RemoteProtocolError):
        read(server)
    assert server.stopped
    with pytest.raises(RemoteProtocolError):
        encrypted(server, b"an answer")
    assert move(server, client)


class Narrow:
    """A carrier that takes ``room`` bytes at most."""

    near_address = far_address = ""

    def __init__(self) -> None:
        self.taken = b""
        self.room = 1 << 20

    def write(self, view: memoryview | bytes | bytearray) -> int:
        size = min(len(view), self.room)
        self.taken += view[:size]
        self.room -= size
        return size

    def start(self, sink: object) -> None:
        """Nothing to read but what the test feeds."""

    hand_over = start

    def resume_reading(self) -> None:
        """As above."""

    pause_reading = finish_writing = close = abort = resume_reading

    def set_low_water(self, size: int) -> None:
        """There is no socket."""


class Sink:
    def tls_ready(self) -> None:
        """Nobody to tell."""

    tls_writable = tls_ready

    def tls_received(self, view: memoryview) -> None:
        """Nothing comes."""

    def tls_lost(self, reason: object, clean: bool) -> None:
        raise AssertionError(reason)


def test_what_is_sent_while_something_waits_goes_behind_it() -> None:
    server, carrier = engine(FAR, False), Narrow()
    stream = TlsStream(Shared(TestClock()), carrier, engine(NEAR, True), Sink())
    stream.start(b"")
    while not server.established or not stream.writable:
        said, carrier.taken = carrier.taken, b""
        server.feed(memoryview(said))
        server.handshake()
        stream.carrier_received(memoryview(output(server)))
    carrier.room = 30
    stream.send(memoryview(b""))
    for data in (b"first" * 10, b"second", b"third"):
        stream.send(memoryview(data))
        assert not stream.writable
    carrier.room = 1 << 20
    stream.carrier_writable()
    assert stream.writable
    stream.send(memoryview(b"fourth"))
    server.feed(memoryview(carrier.taken))
    assert read(server) == b"first" * 10 + b"secondthirdfourth"
