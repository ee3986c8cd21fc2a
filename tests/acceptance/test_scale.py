"""Many at once, and one that does not move: what that costs, and whom it hurts (R1, R2, R7, X8).

Rates are compared with each other, never with a clock.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import statistics
import time

import pytest

from tests.acceptance.applications import (
    Application,
    EchoOfMany,
    Received,
    pour,
    raise_open_files,
    receive,
    wait_until,
)
from tests.acceptance.processes import Identities, Processes, Role
from tests.acceptance.tunnels import meeting, start_client_end, start_server_end
from tests.peers.lstp_messages import Type, encode
from tests.peers.lstp_peer import LstpPeer

pytestmark = pytest.mark.timeout(100)

FULL = os.environ.get("TUNNELKIT_FUZZ") == "full"
CHANNELS = 10_000 if FULL else 1_000
CONNECTIONS = 100_000 if FULL else 2_000
IDLE_ENDS = 10_000 if FULL else 1_000
GREEDY = 1_000 if FULL else 200
KIB = 1 << 10
MIB = 1 << 20


@pytest.fixture(autouse=True, scope="module")
def open_files() -> None:
    raise_open_files()


def descriptors(role: Role) -> int:
    """How many files, sockets and the like it has open."""
    return len(os.listdir(f"/proc/{role.process.child.pid}/fd"))


def memory(role: Role) -> int:
    """Bytes of memory it uses by itself."""
    with open(f"/proc/{role.process.child.pid}/smaps_rollup") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields["Private_Dirty"].split()[0]) * KIB


class Party:
    """A tunnel with a forward to a target, and what its processes use."""

    def __init__(
        self, processes: Processes, identities: Identities, targets: list[str], *server: object
    ) -> None:
        self.middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
        self.server = start_server_end(processes, identities, self.middle, targets, *server)
        forwards = [word for target in targets for word in ("--forward", f"0={target}")]
        self.client = start_client_end(processes, identities, self.middle, *forwards)
        self.roles = (self.middle, self.server, self.client)

    def enter(self, number: int = 0, buffer: int = 0) -> socket.socket:
        """A new connection to the forward to that target, one that takes little with ``buffer``."""
        sock = socket.socket()
        sock.settimeout(30)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(("127.0.0.1", self.client.port("forward", number)))
        return sock


def test_a_thousand_channels_echo_at_once(processes: Processes, identities: Identities) -> None:
    with EchoOfMany() as echoes, contextlib.ExitStack() as stack:
        party = Party(processes, identities, [echoes.destination], "--max-channels", str(CHANNELS))
        before = {role: memory(role) for role in party.roles}
        socks = [stack.enter_context(party.enter()) for _ in range(CHANNELS)]
        for turn in range(2):
            for number, sock in enumerate(socks):
                sock.sendall(b"%6d %d" % (number, turn))
            for number, sock in enumerate(socks):
                assert receive(sock, 8) == b"%6d %d" % (number, turn)
        assert echoes.open == CHANNELS
        for role in (party.server, party.client):
            assert (memory(role) - before[role]) / CHANNELS < 30 * KIB


def test_thousands_of_connections_leave_nothing_behind(
    processes: Processes, identities: Identities
) -> None:
    def churn(number: int) -> None:
        """Half of them end in order, the others are reset by the client."""
        selector = selectors.DefaultSelector()
        waiting = 0
        for count in range(number):
            sock = party.enter()
            sock.sendall(b"x")
            selector.register(sock, selectors.EVENT_READ, count % 2)
            waiting += 1
            while waiting and (waiting >= 50 or count == number - 1):
                for key, _ in selector.select(20):
                    assert isinstance(key.fileobj, socket.socket)
                    assert key.fileobj.recv(2) == b"x"
                    selector.unregister(key.fileobj)
                    if key.data:
                        key.fileobj.shutdown(socket.SHUT_WR)
                        assert key.fileobj.recv(2) == b""
                    key.fileobj.close()
                    waiting -= 1

    with EchoOfMany() as echoes:
        party = Party(processes, identities, [echoes.destination])
        # More than the ids of ended channels that an end remembers.
        churn(1_500)
        open_before = quiet(party)
        memory_before = [memory(role) for role in party.roles]
        churn(CONNECTIONS)
        assert wait_until(lambda: echoes.open == 0)
        assert quiet(party) == open_before
        for role, before in zip(party.roles, memory_before, strict=True):
            assert memory(role) - before < 512 * KIB + 20 * CONNECTIONS


def quiet(party: Party) -> list[int]:
    """The open descriptors of all roles, once they no longer change."""
    seen: list[list[int]] = []

    def unchanged() -> bool:
        seen.append([descriptors(role) for role in party.roles])
        return len(seen) > 5 and seen[-5:] == seen[-1:] * 5

    assert wait_until(unchanged)
    return seen[-1]


# -- one that does not read ------------------------------------------------


def rate(streams: list[Received], seconds: float) -> float:
    """Bytes a second that all of them together deliver."""
    before = sum(stream.size for stream in streams)
    began = time.monotonic()
    selector = selectors.DefaultSelector()
    for stream in streams:
        selector.register(stream.sock, selectors.EVENT_READ, stream)
    while time.monotonic() - began < seconds:
        for key, _ in selector.select(1):
            key.data.more()
    return (sum(stream.size for stream in streams) - before) / (time.monotonic() - began)


class Greedy:
    """Streams that nobody reads: how much of them has gone on its way."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, sock: socket.socket) -> None:
        """Send for ever."""
        piece = bytes(64 * KIB)
        while True:
            self.sent += sock.send(piece)

    def settle(self, streams: list[Received]) -> None:
        """Read the others until no more of these can go."""
        rate(streams, 0.3)
        last = -1
        while last != self.sent:
            last = self.sent
            rate(streams, 0.3)


@pytest.mark.parametrize("number", [1, GREEDY])
def test_streams_that_are_not_read_slow_nobody_and_stay_within_the_budget(
    processes: Processes, identities: Identities, number: int
) -> None:
    greedy = Greedy()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(Application(pour))
        endless = stack.enter_context(Application(greedy))
        party = Party(processes, identities, [source.destination, endless.destination])
        streams = [Received(stack.enter_context(party.enter())) for _ in range(4)]
        rate(streams, 0.5)
        before = [memory(role) for role in party.roles]
        alone, beside, grown = [], [], []
        for _ in range(2):
            greedy.settle(streams)
            alone += [rate(streams, 0.4) for _ in range(3)]
            with contextlib.ExitStack() as stalled:
                slow = [stalled.enter_context(party.enter(1, 4 * KIB)) for _ in range(number)]
                greedy.settle(streams)
                beside += [rate(streams, 0.4) for _ in range(3)]
                if number <= 200:
                    # What they hold fits into the budget, so none is thrown out.
                    errors = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for sock in slow]
                    assert errors == [0] * number
                grown += [memory(role) - old for role, old in zip(party.roles, before, strict=True)]
        assert all(stream.exact for stream in streams)
        # The best of one with the median of the other: other programs run here as well.
        assert max(beside) > 0.8 * statistics.median(alone), (alone, beside)
        assert max(grown) < min(number * 16 * MIB, 256 * MIB) + 32 * MIB, grown


# -- ends that only wait ---------------------------------------------------


def test_idle_ends_cost_the_middle_little(processes: Processes, identities: Identities) -> None:
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0", "--max-in-setup", "1000")
    place = ("127.0.0.1", middle.port("listening on"))
    ends: list[socket.socket] = []

    def wait_there(number: int, tunnel: str) -> None:
        for count in range(number):
            peer = LstpPeer(
                identities("client"), tunnel=f"{tunnel} {count}", name="client", peers=()
            )
            sock = socket.create_connection(place, timeout=20)
            ends.append(sock)
            sock.sendall(
                peer.common_message + encode(Type.TOPOLOGY_EXCHANGE, body={"hops": [peer.hop]})
            )

    try:
        wait_there(100, "first")
        assert wait_until(lambda: descriptors(middle) >= 100)
        before, open_before = memory(middle), descriptors(middle)
        wait_there(IDLE_ENDS, "idle")
        assert wait_until(lambda: descriptors(middle) >= open_before + IDLE_ENDS)
        assert (memory(middle) - before) / IDLE_ENDS < 40 * KIB
        # It still pairs.
        start_server_end(processes, identities, middle, ["tcp:127.0.0.1:1"])
        processes.role(
            "lstp-client-end", *meeting(middle), "--identity", identities("client"),
            "--peer", "server", "--socks", "0",
        )  # fmt: skip
    finally:
        for end in ends:
            end.close()
    assert wait_until(lambda: descriptors(middle) < open_before)
