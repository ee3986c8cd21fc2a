"""Connecting and disconnecting a running end by hand, and asking what it does (rows L14, O2)."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

from tests.acceptance.applications import Application, wait_until
from tests.acceptance.processes import (
    START_LIMIT,
    Identities,
    Processes,
    WebServer,
    curl,
    free_port,
    tunnelkit,
)
from tests.acceptance.tunnels import (
    Transport,
    start_client_end,
    start_server_end,
    start_tunnel,
)
from tunnelkit.cli.control_client import ask


def status(control: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(tunnelkit("status", "--json", "--control", control))
    return found


def test_an_end_connects_and_disconnects_when_it_is_told_to(
    processes: Processes, identities: Identities, web: WebServer, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    digest = web.add("file", 100_000)
    destination = f"tcp:127.0.0.1:{web.port}"
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    start_server_end(processes, identities, middle, [destination])
    client = start_client_end(
        processes, identities, middle, "--forward", f"0={destination}", "--manual",
        "--control", control,
    )  # fmt: skip
    url = f"http://{client.address('forward')}/file"
    assert status(control)["state"] == "disconnected"
    assert stat.S_IMODE(os.stat(control).st_mode) == 0o600

    tunnelkit("connect", "--control", control)
    client.wait_for(r"Tunnel test with server is up")
    assert curl(url).sha256 == digest
    held = ask(str(control), "resources")
    assert all(isinstance(held[what], int) and held[what] for what in held)
    assert set(held) == {"memory", "descriptors", "timers"}
    now = status(control)
    assert now["state"] == "connected"
    assert now["peers"] == ["server"]
    received = now["bytes_received"]
    assert isinstance(received, int)
    assert received > 100_000

    assert tunnelkit("disconnect", "--control", control).strip() in ("connected", "disconnected")
    client.wait_for(r"Tunnel test with server has ended")
    assert status(control)["state"] == "disconnected"
    assert curl(url, "--max-time", "20").status != 0

    since = len(client.process.lines)
    tunnelkit("connect", "--control", control)
    client.wait_for(r"Tunnel test with server is up", since=since)
    assert curl(url).sha256 == digest
    again = status(control)
    # What the connection before has carried stays counted.
    assert again["connects"] == 2
    assert isinstance(again["bytes_received"], int)
    assert again["bytes_received"] > 200_000
    assert again["channels_opened"] == 2
    assert again["channels_broken"] == 0
    assert client.process.stop() == 0
    assert not control.exists()


def test_connecting_by_hand_does_not_wait_for_the_next_attempt(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    port = free_port()
    client = processes.role(
        "lstp-client-end", "--middle", f"127.0.0.1:{port}", "--tunnel", "test", "--identity",
        identities("client"), "--peer", "server", "--socks", "0", "--control", control, wait=False,
    )  # fmt: skip
    wait = r"^(\S+)Z .*trying again in ((?:[5-9]|1\d)\.\d) s"
    announced = client.wait_for(wait, limit=60)
    # No program is started between the announcement and the command: that alone takes seconds
    # on a busy machine, and the next attempt would come by itself.
    with socket.create_server(("127.0.0.1", port)) as middle:
        ask(str(control), "connect")
        middle.settimeout(START_LIMIT)
        middle.accept()[0].close()
    failed = client.wait_for(r"^(\S+)Z .*the middle closed the connection", limit=60)
    waited = datetime.fromisoformat(failed[1]) - datetime.fromisoformat(announced[1])
    assert waited < timedelta(seconds=float(announced[2]))


def test_a_middle_tells_what_it_does(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0", "--control", control)
    start_server_end(processes, identities, middle, ["tcp:127.0.0.1:9"])
    start_client_end(processes, identities, middle, "--socks", "0")
    now = status(control)
    assert (now["pairs"], now["waiting"]) == (1, 1)
    text = tunnelkit("status", "--control", control)
    assert "pairs ever" in text


def test_a_gate_cannot_be_told_to_connect(transport: Transport, tmp_path: Path) -> None:
    control = tmp_path / "far"
    tunnel = transport(["tcp:127.0.0.1:9"], "--socks", "0", server=["--control", control])
    assert status(control)["peers"] == ["client"]
    if "usher-gate" in tunnel.server.process.name:
        said = tunnelkit_error("connect", "--control", control)
        assert said.endswith("this role has no command 'connect': expected page, resources, status")


def test_a_control_socket_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    said = tunnelkit_error("status", "--control", tmp_path / "nothing")
    assert said == (
        f"tunnelkit: --control {tmp_path / 'nothing'}: No such file or directory: expected the "
        "control socket of a running role"
    )


def tunnelkit_error(*words: object) -> str:
    """What the command says when it fails."""
    try:
        tunnelkit(*words)
    except AssertionError as error:
        return next(line for line in str(error).splitlines() if line.startswith("tunnelkit:"))
    raise AssertionError("it did not fail")


def test_the_serving_end_counts_what_comes_with_the_requests(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    """Finding U-17: five times as much as goes with a request, and nothing behind it."""
    control = tmp_path / "control"
    sink = Sink()
    with Application(sink) as server:
        to = server.destination
        far = ("--control", control)
        tunnel = start_tunnel(processes, identities, [to], "--forward", f"0={to}", server=far)
        place = tunnel.client.address("forward")
        for _ in range(5):
            subprocess.run(
                ["socat", "-u", "STDIN", f"TCP:{place}"],
                input=bytes(10_000),
                timeout=60,
                check=True,
            )
        assert wait_until(lambda: sink.received == 50_000)
        assert wait_until(lambda: ask(str(control), "status")["bytes_received"] == 50_000)
        assert ask(str(control), "status")["bytes_sent"] == 0


class Sink:
    """Takes what comes, and says nothing."""

    def __init__(self) -> None:
        self.received = 0

    def __call__(self, sock: socket.socket) -> None:
        while data := sock.recv(65_536):
            self.received += len(data)
