"""Sending and receiving in one step each, which is what small messages take."""

from __future__ import annotations

import random

import pytest

from tests.net.tls.test_engine import move, output, pair, read, way
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.net.tls.engine import TlsEngine

__all__ = ["way"]

BUFFER = 40_000


def encrypted(source: TlsEngine, data: bytes) -> bytes:
    buffer = memoryview(bytearray(BUFFER))
    size = source.encrypt(memoryview(data), buffer)
    return bytes(buffer[:size])


def decrypted(target: TlsEngine, data: bytes) -> bytes:
    """What one step gives, and what is left behind it, as `TlsStream` takes it."""
    buffer = memoryview(bytearray(BUFFER))
    size = target.decrypt(memoryview(data), buffer)
    got = bytes(buffer[:size])
    if size == BUFFER or target.stopped:
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
    assert server.decrypt(memoryview(output(client)), buffer) == BUFFER
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
    with pytest.raises(LocalProtocolError):
        encrypted(client, b"too late")


def test_data_before_a_broken_record_is_handed_over_before_the_error() -> None:
    client, server = pair()
    good, bad = encrypted(client, b"good"), bytearray(encrypted(client, b"bad"))
    bad[-1] ^= 1
    buffer = memoryview(bytearray(BUFFER))
    assert server.decrypt(memoryview(good + bytes(bad)), buffer) == 4
    assert server.stopped
    with pytest.raises(RemoteProtocolError):
        server.decrypt(memoryview(b"more"), buffer)
    with pytest.raises(RemoteProtocolError):
        encrypted(server, b"an answer")
    assert move(server, client)


def test_nothing_to_send_is_no_error() -> None:
    client, _ = pair()
    assert encrypted(client, b"") == b""
