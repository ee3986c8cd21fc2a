"""An emulated network link between namespaces, with rate, delay, loss and a queue of its own.

    with Namespace() as near, Namespace() as far, Link(near, far, rate=100e6, round_trip=0.02):
        near.call(lambda: socket.create_connection((far.address, 9000)))

Each namespace holds one end of a pair of TUN devices, and one small process carries packets from
one to the other: a packet waits for the link to be free, takes size/rate to be sent and half the
round trip to arrive; what finds the queue full is dropped. Some may be lost, overtaken by others,
or arrive twice. Namespaces have no names and belong to
the process that made them: they are gone when it and the processes inside have ended, however
they end. Linux only; needs the right to make network namespaces (root).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import fcntl
import heapq
import io
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
MTU = 1500
OVERTAKERS = 20
"""A packet that is out of order comes after up to so many that were sent behind it."""

_libc = ctypes.CDLL(None, use_errno=True)
_networks = itertools.count(1)


def congestion_controls() -> list[str]:
    """The TCP congestion controls that a namespace may be given."""
    with open("/proc/sys/net/ipv4/tcp_allowed_congestion_control") as setting:
        return setting.read().split()


def permitted() -> bool:
    """Whether this process may make network namespaces and TUN devices."""
    return os.geteuid() == 0 and os.path.exists("/dev/net/tun")


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def _in_thread(function: Callable[[], T]) -> T:
    """Run ``function`` in a thread of its own: a namespace is entered per thread."""
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


class Namespace:
    """A network namespace without a name, with its loopback up."""

    def __init__(self, congestion_control: str = "reno") -> None:
        self.address = "127.0.0.1"
        """Where the other namespaces of a link reach this one; set by the first Link."""
        self._descriptor = _in_thread(lambda: self._make(congestion_control))

    def _make(self, congestion_control: str) -> int:
        if _libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot make a network namespace")
        subprocess.run(["ip", "link", "set", "dev", "lo", "up"], check=True)
        with open("/proc/sys/net/ipv4/tcp_congestion_control", "w") as setting:
            setting.write(congestion_control)  # of this namespace only; EPERM if not allowed
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def path(self) -> str:
        """The namespace as a file, for ``nsenter --net=PATH`` while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` inside; sockets it makes and processes it starts stay inside."""

        def inside() -> T:
            _enter(self._descriptor)
            return function()

        return _in_thread(inside)

    def run(self, command: Sequence[str]) -> str:
        """Run a command inside and return its output; CalledProcessError if it fails."""
        return self.call(
            lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )

    def close(self) -> None:
        """Let it go; it ends with the last process inside."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Link:
    """A link between two namespaces.

    ``rate`` in bits per second each way; ``round_trip`` in seconds, half of it each way; ``loss``
    the share of packets lost each way (0 to 1), ``reorder`` of those that others overtake,
    ``duplicate`` of those that arrive twice; ``queue`` in bytes each way, by default what a
    typical router has: twice the bandwidth-delay product, at least 256 KiB. A namespace may
    have several links, each a /24 of its own: ``near_address`` and ``far_address``. What a link
    is like can be changed while it is in use.
    """

    def __init__(
        self,
        near: Namespace,
        far: Namespace,
        *,
        rate: float,
        round_trip: float,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        queue: int | None = None,
    ) -> None:
        network = next(_networks)
        self.near_address = f"10.77.{network}.1"
        self.far_address = f"10.77.{network}.2"
        name = f"tun{network}"
        devices = [
            near.call(lambda: _open_tun(name, self.near_address)),
            far.call(lambda: _open_tun(name, self.far_address)),
        ]
        for namespace, address in ((near, self.near_address), (far, self.far_address)):
            if namespace.address == "127.0.0.1":
                namespace.address = address
        # The forwarding process ends when its standard input does: also if we are killed.
        self._forwarder = subprocess.Popen(
            [
                sys.executable,
                __file__,
                *(str(value) for value in devices),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=devices,
        )
        for device in devices:
            os.close(device)
        self.change(
            rate=rate,
            round_trip=round_trip,
            loss=loss,
            reorder=reorder,
            duplicate=duplicate,
            queue=queue,
        )

    def change(
        self,
        *,
        rate: float,
        round_trip: float,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        queue: int | None = None,
    ) -> None:
        """Make it another link, from the next packet on; what is under way arrives as it would."""
        self.rate = rate
        self.round_trip = round_trip
        self.loss = loss
        self.queue = queue or max(256 << 10, int(2 * rate / 8 * round_trip))
        assert self._forwarder.stdin is not None
        assert self._forwarder.stdout is not None
        order = (rate, round_trip / 2, loss, self.queue, reorder, duplicate)
        self._forwarder.stdin.write(b"%r %r %r %d %r %r\n" % order)
        self._forwarder.stdin.flush()
        self._forwarder.stdout.readline()

    def close(self) -> None:
        """Cut the link and remove its devices."""
        for pipe in (self._forwarder.stdin, self._forwarder.stdout):
            assert pipe is not None
            pipe.close()
        self._forwarder.wait(5)

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_tun(name: str, address: str) -> int:
    """Make a TUN device in the namespace of this thread, up, with ``address``/24."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    for command in (
        f"ip address add {address}/24 dev {name}",
        f"ip link set dev {name} mtu {MTU} txqueuelen 10000 up",
    ):
        subprocess.run(command.split(), check=True)
    return descriptor


class Direction:
    """Packets on their way from one device to the other."""

    __slots__ = (
        "_delay",
        "_duplicate",
        "_free_at",
        "_late",
        "_loss",
        "_queue",
        "_reorder",
        "_seconds_per_byte",
        "_under_way",
        "into",
    )

    def __init__(
        self,
        into: int,
        rate: float,
        delay: float,
        loss: float,
        queue: int,
        reorder: float = 0.0,
        duplicate: float = 0.0,
    ) -> None:
        self.into = into
        self._free_at = 0.0
        self._under_way: collections.deque[tuple[float, bytes]] = collections.deque()
        self._late: list[tuple[float, bytes]] = []
        self.change(rate, delay, loss, queue, reorder, duplicate)

    def change(
        self,
        rate: float,
        delay: float,
        loss: float,
        queue: int,
        reorder: float = 0.0,
        duplicate: float = 0.0,
    ) -> None:
        """What packets meet from now on: bits per second, seconds, share, bytes, shares."""
        self._seconds_per_byte = 8 / rate
        self._delay = delay
        self._loss = loss
        self._queue = queue * self._seconds_per_byte
        self._reorder = reorder
        self._duplicate = duplicate

    def enter(self, packet: bytes, now: float) -> None:
        """A packet reaches the queue in front of the link."""
        start = max(now, self._free_at)
        duration = len(packet) * self._seconds_per_byte
        if start - now + duration > self._queue:
            return
        if self._loss and random.random() < self._loss:
            return
        self._free_at = start + duration
        due = self._free_at + self._delay
        if self._duplicate and random.random() < self._duplicate:
            self._under_way.append((due, packet))
        if self._reorder and random.random() < self._reorder:
            due += random.uniform(1, OVERTAKERS) * MTU * self._seconds_per_byte
            heapq.heappush(self._late, (due, packet))
        else:
            self._under_way.append((due, packet))

    def deliver(self, now: float) -> float:
        """Hand over what is due; returns when the next one is (inf: none)."""
        late = self._late
        while late and late[0][0] <= now:
            self._hand_over(heapq.heappop(late)[1])
        following = late[0][0] if late else float("inf")
        under_way = self._under_way
        while under_way:
            if under_way[0][0] > now:
                return min(under_way[0][0], following)
            self._hand_over(under_way.popleft()[1])
        return following

    def _hand_over(self, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # the far device may be full or gone
            os.write(self.into, packet)


def forward(devices: tuple[int, int]) -> None:
    """Carry packets between two TUN devices until standard input ends.

    Each line of standard input says what the link is like from now on (the arguments of
    `Direction.change`) and is answered by a line.
    """
    with contextlib.suppress(OSError):  # precise timing needs to be run when it is due
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    near, far = devices
    orders = io.FileIO(0, closefd=False)
    line = orders.readline()
    if not line:
        return
    first = _read_order(line)
    directions = {near: Direction(far, *first), far: Direction(near, *first)}
    watched = [0, near, far]
    clock, read = time.monotonic, os.read
    print("ready", flush=True)
    while True:
        now = clock()
        due = min(direction.deliver(now) for direction in directions.values())
        # select, not epoll: its time limit has microseconds.
        readable, _, _ = select.select(watched, [], [], min(1.0, max(0.0, due - clock())))
        for device in readable:
            if device == 0:
                line = orders.readline()
                if not line:
                    return
                for direction in directions.values():
                    direction.change(*_read_order(line))
                print("ready", flush=True)
                continue
            enter = directions[device].enter
            now = clock()
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    enter(read(device, MTU), now)


def _read_order(line: bytes) -> tuple[float, float, float, int, float, float]:
    rate, delay, loss, queue, reorder, duplicate = line.split()
    return float(rate), float(delay), float(loss), int(queue), float(reorder), float(duplicate)


def main() -> None:
    """The forwarding process."""
    parser = argparse.ArgumentParser(description="carry packets between two TUN descriptors")
    parser.add_argument("near", type=int)
    parser.add_argument("far", type=int)
    options = parser.parse_args()
    forward((options.near, options.far))


if __name__ == "__main__":
    main()
