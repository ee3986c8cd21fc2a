"""The emulated link: what a packet meets on it."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest

from bench.link import MTU, OVERTAKERS, Direction, Link, Namespace, permitted
from bench.loads import receive_exactly


def delivered(pipe: int) -> int:
    """Packets of 1000 bytes that wait in a pipe."""
    try:
        return len(os.read(pipe, 1 << 16)) // 1000
    except BlockingIOError:
        return 0


@pytest.fixture
def pipe() -> tuple[int, int]:
    """A pipe in place of the far device, read without blocking."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


def test_a_packet_arrives_after_its_sending_time_and_the_delay(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    direction = Direction(writer, rate=8e6, delay=0.010, loss=0, queue=10_000)  # 1 ms per packet
    direction.enter(bytes(1000), now=5.0)
    direction.enter(bytes(1000), now=5.0)
    assert direction.deliver(5.010) == pytest.approx(5.011)
    assert delivered(reader) == 0
    assert direction.deliver(5.0111) == pytest.approx(5.012)
    assert delivered(reader) == 1
    assert direction.deliver(5.0121) == float("inf")
    assert delivered(reader) == 1


def test_a_full_queue_drops_what_arrives(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    direction = Direction(writer, rate=8e6, delay=0, loss=0, queue=5000)
    for _ in range(20):
        direction.enter(bytes(1000), now=1.0)
    direction.deliver(2.0)
    assert delivered(reader) == 5


def test_loss_drops_about_its_share(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    direction = Direction(writer, rate=8e12, delay=0, loss=0.5, queue=1 << 20)
    arrived = 0
    for number in range(400):
        direction.enter(bytes(1000), now=float(number))
        direction.deliver(number + 0.5)
        arrived += delivered(reader)
    assert 100 < arrived < 300


def test_packets_that_are_out_of_order_come_behind_some_that_were_sent_later() -> None:
    arrived, direction = numbered(reorder=0.2)
    order = send(arrived, direction)
    assert sorted(order) == list(range(200)), "each once"
    overtaken = [number for place, number in enumerate(order) if number < max(order[: place + 1])]
    assert 10 < len(overtaken) < 80
    for number in overtaken:
        before = order[: order.index(number)]
        assert sum(1 for other in before if other > number) <= OVERTAKERS


def test_duplicates_come_behind_one_another() -> None:
    arrived, direction = numbered(duplicate=0.2)
    order = send(arrived, direction)
    assert order == sorted(order)
    assert set(order) == set(range(200))
    assert 210 < len(order) < 280


def numbered(reorder: float = 0.0, duplicate: float = 0.0) -> tuple[int, Direction]:
    """A link that keeps packets apart where it leads to: 1 ms each."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    return near.detach(), Direction(
        far.detach(), 12e6, 0.010, 0, 1 << 20, reorder=reorder, duplicate=duplicate
    )


def send(reader: int, direction: Direction) -> list[int]:
    """The numbers of 200 packets in the order in which they arrive."""
    for number in range(200):
        direction.enter(number.to_bytes(2, "big") + bytes(MTU - 2), now=1.0)
    order = []
    now = direction.deliver(1.0)
    while now != float("inf"):
        now = direction.deliver(now)
        with contextlib.suppress(BlockingIOError):
            while True:
                order.append(int.from_bytes(os.read(reader, MTU)[:2], "big"))
    for end in (reader, direction.into):
        os.close(end)
    return order


def test_a_changed_link_treats_the_next_packet_so(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    direction = Direction(writer, rate=8e6, delay=0.010, loss=0, queue=10_000)
    direction.enter(bytes(1000), now=5.0)
    direction.change(rate=8e5, delay=0.100, loss=0, queue=10_000)
    direction.enter(bytes(1000), now=5.0)
    assert direction.deliver(5.012) == pytest.approx(5.111)
    assert delivered(reader) == 1
    direction.change(rate=8e6, delay=0, loss=1.0, queue=10_000)
    direction.enter(bytes(1000), now=5.2)
    assert direction.deliver(5.5) == float("inf")
    assert delivered(reader) == 1


def test_a_link_joins_two_namespaces_and_leaves_nothing() -> None:
    if not permitted():
        with pytest.raises(OSError, match="network namespace"):
            Namespace()
        return
    with Namespace() as near, Namespace() as far:
        with Link(near, far, rate=50e6, round_trip=0.004) as link:
            assert (near.address, far.address) == (link.near_address, link.far_address)
            listener = far.call(lambda: socket.create_server((far.address, 0)))
            port = listener.getsockname()[1]
            client = near.call(lambda: socket.create_connection((far.address, port), 5))
            server, peer = listener.accept()
            assert peer[0] == near.address
            server.sendall(b"x" * 5000)
            assert receive_exactly(client, 5000) == b"x" * 5000
            link.change(rate=50e6, round_trip=0.2)
            began = time.monotonic()
            server.sendall(b"y")
            assert receive_exactly(client, 1) == b"y"
            assert time.monotonic() - began > 0.09
            for end in (client, server, listener):
                end.close()
        assert "tun" not in near.run(["ip", "-o", "link"])
