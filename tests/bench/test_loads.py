"""The loads: they count, and they notice what a tunnel must not do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from bench import loads
from bench.parties import Layout, Place
from bench.rig import Rig
from bench.system import NoTunnel


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """The applications without a tunnel between them."""
    place = Place()
    rig = Rig(NoTunnel(), Layout(place, place, place))
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("streams", [1, 3])
def test_bulk_is_counted_where_it_arrives(rig: Rig, streams: int, down: bool) -> None:
    result = rig.bulk(0.05, streams, warm=0, down=down)
    assert result.rate > 1e6
    assert result.cpu != result.cpu  # there is no tunnel whose CPU could be counted


def test_every_small_load_gets_answers(rig: Rig) -> None:
    latency = loads.request_response(rig.entry, 0.05)
    assert latency.rate > 0
    assert 0 < latency.median <= latency.p99 < 10
    assert loads.many_connections(rig.entry, 0.05, count=5) > 0
    assert loads.new_connections(rig.entry, 0.05, lanes=2) > 0


def test_pings_are_sent_on_every_stream_at_their_interval(rig: Rig) -> None:
    times = loads.ping(rig.entry, 0.1, streams=4, interval=0.02)
    assert 16 <= len(times) <= 24
    assert max(times) < 5


def answering(answer: Callable[[bytes], bytes]) -> loads.Address:
    """A server that answers each piece with ``answer(piece)``, for one connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        # The load may leave without reading everything.
        with listener, connection, contextlib.suppress(ConnectionError):
            connection.recv(1)
            while data := connection.recv(65536):
                connection.sendall(answer(data))

    threading.Thread(target=serve, daemon=True).start()
    host, port = listener.getsockname()
    return host, port


LOADS: dict[str, Callable[[loads.Address], object]] = {
    "content": lambda address: loads.check_content(address, 1000),
    "request_response": lambda address: loads.request_response(address, 5),
    "many_connections": lambda address: loads.many_connections(address, 5, count=1),
    "ping": lambda address: loads.ping(address, 5),
}


@pytest.mark.parametrize("load", LOADS)
def test_a_load_notices_an_altered_answer(load: str) -> None:
    def alter(data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])

    with pytest.raises(loads.LoadError):
        LOADS[load](answering(alter))


def test_new_connections_that_nobody_answers_are_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        with pytest.raises(loads.LoadError, match="no new connection"):
            loads.new_connections((host, port), 0.05, lanes=1)


def test_a_quantile_is_the_value_below_which_that_share_lies() -> None:
    values = [float(value) for value in range(100)]
    assert loads.quantile(values, 0.99) == 99
    assert loads.quantile(values, 0.5) == 50
