"""Processes that die, hang or vanish in mid-transfer: who is left notices, and says so (R3 to R5).

An application sees an exact prefix of what was sent and then a reset, never a clean end (X11).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.applications import Application, Received, echo, pour, receive, wait_until
from tests.acceptance.crowd import start_crowd
from tests.acceptance.processes import Identities, Processes, Role
from tests.acceptance.tunnels import (
    RunningTunnel,
    meeting,
    start_client_end,
    start_server_end,
    start_tunnel,
)
from tests.peers.lstp_peer import LstpPeer

pytestmark = pytest.mark.timeout(100)

FULL = os.environ.get("TUNNELKIT_FUZZ") == "full"
MIB = 1 << 20


@contextlib.contextmanager
def transfer(tunnel: RunningTunnel) -> Iterator[Received]:
    """Something large on its way through the forward of ``tunnel``."""
    place = ("127.0.0.1", tunnel.client.port("forward"))
    with socket.create_connection(place, timeout=20) as sock:
        received = Received(sock)
        received.at_least(4 * MIB)
        yield received


class Source:
    """An endless stream, and how it ended there."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def __call__(self, sock: socket.socket) -> None:
        """Send until it breaks."""
        pour(sock)
        self.ended.set()


@pytest.mark.parametrize("who", ["client", "server", "middle"])
def test_kill_9_in_mid_transfer_is_a_reset_behind_an_exact_prefix(
    processes: Processes, identities: Identities, who: str
) -> None:
    source = Source()
    with Application(source) as application:
        target = application.destination
        tunnel = start_tunnel(processes, identities, [target], "--forward", f"0={target}")
        victim: Role = {
            "client": tunnel.client, "server": tunnel.server, "middle": tunnel.middle,
        }[who]  # fmt: skip
        entrance = ("127.0.0.1", tunnel.client.port("forward"))
        with transfer(tunnel) as received:
            killed = time.monotonic()
            victim.process.kill()
            assert received.to_the_end() == "reset"
            assert received.exact
            assert source.ended.wait(10), "the application at the far side is told too"
            assert time.monotonic() - killed < 2
        if who == "client":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(entrance, timeout=5)
            return
        # The survivors stay and meet again as soon as they can.
        tunnel.client.wait_for("has ended")
        before = len(tunnel.client.process.lines)
        if who == "middle":
            place = tunnel.middle.address("listening on")
            processes.role("lstp-middle", "--listen", place)
        else:
            start_server_end(processes, identities, tunnel.middle, [target])
        tunnel.client.wait_for("Tunnel test with server is up", since=before)
        with transfer(tunnel) as received:
            assert received.exact


def test_a_client_end_that_was_killed_can_be_started_again_at_once(
    processes: Processes, identities: Identities
) -> None:
    with Application(echo) as application:
        target = application.destination
        tunnel = start_tunnel(processes, identities, [target], "--forward", f"0={target}")
        place = tunnel.client.address("forward")
        with socket.create_connection(("127.0.0.1", tunnel.client.port("forward")), 20) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            tunnel.client.process.kill()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        again = start_client_end(
            processes, identities, tunnel.middle, "--forward", f"{place}={target}"
        )
        with socket.create_connection(("127.0.0.1", again.port("forward")), 20) as sock:
            sock.sendall(b"y")
            assert sock.recv(1) == b"y"


def test_tunnels_are_back_soon_after_their_middle_is(
    processes: Processes, identities: Identities
) -> None:
    number = 500 if FULL else 20
    options = ("--listen", "127.0.0.1:0", "--max-in-setup", "1000")
    middle = processes.role("lstp-middle", *options)
    place = middle.address("listening on")
    crowd = start_crowd(processes, identities, [place] * number, "tcp:127.0.0.1:1")
    assert wait_until(lambda: len(crowd.up()) == number)
    before = len(crowd.client.lines)
    middle.process.kill()
    middle = processes.role("lstp-middle", "--listen", place, *options[2:])
    ready = next(line for line in middle.process.lines if "READY" in line)

    def back() -> list[str]:
        return [line for line in crowd.client.lines[before:] if "is up" in line]

    assert wait_until(lambda: len(back()) == number)
    waits = sorted(
        (moment(line) - moment(ready)).total_seconds() for line in back()
    )  # fmt: skip
    if FULL:
        assert waits[-1] < 30
    else:
        assert statistics.median(waits) < 1.5, waits
        assert waits[int(number * 0.95) - 1] < 3, waits
    said = crowd.client.lines[before:]
    assert sum("trying again in" in line for line in said) >= number
    assert sum("has ended: reset" in line for line in said) == number


def moment(line: str) -> datetime.datetime:
    """When a line was logged."""
    return datetime.datetime.strptime(line.split()[0], "%Y-%m-%dT%H:%M:%S.%fZ")


# -- silence ---------------------------------------------------------------


@pytest.mark.parametrize("keepalive", [1, 10] if FULL else [1])
def test_a_peer_that_falls_silent_is_given_up_after_three_times_its_keepalive(
    processes: Processes, identities: Identities, keepalive: int
) -> None:
    source = Source()
    with Application(source) as application:
        middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
        server = start_server_end(processes, identities, middle, [application.destination])
        peer = LstpPeer(
            identities("client"),
            tunnel="test",
            name="client",
            peers={"server"},
            properties={"keepalive": keepalive},
        )
        peer.run_up("127.0.0.1", middle.port("listening on"))
        channel = peer.open(application.destination)
        channel.wait_open()
        began = time.monotonic()
        # From here on it says nothing, and reads nothing.
        server.wait_for("has ended: timed-out", limit=3 * keepalive + 5)
        assert 3 * keepalive - 1 < time.monotonic() - began < 3 * keepalive + 3
        assert source.ended.wait(5)
        peer.cut()


if FULL:

    @pytest.mark.parametrize("who", ["server", "client"])
    def test_a_frozen_end_is_noticed_within_thirty_seconds(
        processes: Processes, identities: Identities, who: str
    ) -> None:
        tunnel = start_tunnel(processes, identities, ["tcp:127.0.0.1:1"], "--socks", "0")
        frozen, other = (
            (tunnel.server, tunnel.client) if who == "server" else (tunnel.client, tunnel.server)
        )
        began = time.monotonic()
        frozen.process.child.send_signal(signal.SIGSTOP)
        try:
            other.wait_for("has ended: timed-out", limit=40)
            assert time.monotonic() - began < 32
        finally:
            frozen.process.child.send_signal(signal.SIGCONT)


def test_signs_of_life_keep_an_idle_tunnel(processes: Processes, identities: Identities) -> None:
    with Application(echo) as application:
        middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
        start_server_end(processes, identities, middle, [application.destination])
        peer = LstpPeer(
            identities("client"),
            tunnel="test",
            name="client",
            peers={"server"},
            properties={"keepalive": 1},
            timeout=5,
        )
        peer.run_up("127.0.0.1", middle.port("listening on"))
        channel = peer.open(application.destination)
        # Only signs of life for longer than its silence would be suffered.
        deadline = time.monotonic() + 4.5
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                peer.handle(peer.next_message(deadline - time.monotonic()))
        channel.send(b"still here")
        assert channel.receive(10) == b"still here"
        peer.cut()


# -- others ----------------------------------------------------------------


def test_one_of_three_clients_that_is_killed_takes_nothing_with_it(
    processes: Processes, identities: Identities
) -> None:
    with Application(echo) as application:
        target = application.destination
        middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
        start_server_end(processes, identities, middle, [target])
        clients = [
            processes.role(
                "lstp-client-end", *meeting(middle), "--identity", identities("client"),
                "--peer", "server", "--forward", f"0={target}",
            )
            for _ in range(3)
        ]  # fmt: skip
        with contextlib.ExitStack() as stack:
            socks = [
                stack.enter_context(
                    socket.create_connection(("127.0.0.1", client.port("forward")), 20)
                )
                for client in clients
            ]
            for turn in (b"before", b"behind"):
                for sock in socks:
                    sock.sendall(turn)
                    assert receive(sock, 6) == turn
                if turn == b"before":
                    clients[0].process.kill()
                    with pytest.raises(ConnectionResetError):
                        socks.pop(0).recv(1)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_further_connection_that_is_lost_takes_only_its_own_channels(
    processes: Processes, identities: Identities, which: int
) -> None:
    """Which of the tunnel's connections is cut does not matter to new channels."""
    with Application(echo) as application:
        target = application.destination
        middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
        relay = Cutter(middle.port("listening on"))
        processes.on_end(relay.close)
        start_server_end(processes, identities, middle, [target])
        client = processes.role(
            "lstp-client-end", "--middle", f"127.0.0.1:{relay.port}", "--tunnel", "test",
            "--identity", identities("client"), "--peer", "server", "--forward", f"0={target}",
            "--connections", "3",
        )  # fmt: skip
        middle.wait_for("Pair 3 begins")
        place = ("127.0.0.1", client.port("forward"))
        relay.cut(which)
        # At most the first few enter while the loss is being noticed.
        for _ in range(20):
            with socket.create_connection(place, timeout=20) as sock:
                try:
                    sock.sendall(b"x")
                    if sock.recv(1) == b"x":
                        return
                except ConnectionError:
                    pass
        raise AssertionError("no channel could be opened any more")


class Cutter:
    """A relay in front of the middle whose connections can be cut one by one."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def cut(self, number: int) -> None:
        """Cut the connection that came as number ``number``."""
        for sock in self._pairs[number]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut them all."""
        self._listener.close()
        for number in range(len(self._pairs)):
            self.cut(number)
