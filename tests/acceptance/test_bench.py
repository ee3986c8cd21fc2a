"""``tunnelkit bench``: what a tunnel that is up carries, measured against its own far end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

from tests.acceptance.processes import TUNNELKIT, Identities, Processes
from tests.acceptance.tunnels import Transport, start_tunnel

CHANNEL = r"channel {} peer={} destination=service:@bench .*outcome={}"


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TUNNELKIT, "bench", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_measures_both_directions_round_trips_and_connections(
    transport: Transport, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    tunnel = transport(["client=service:@bench"], "--socks", "0", "--control", control)
    done = bench("--control", control, "--seconds", "0.1", "--streams", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["name"], found["peer"], found["streams"]) == ("client", "server", 2)
    assert found["round_trip"]["median_ms"] > 0
    for direction in ("down", "up"):
        assert found[direction]["bytes"] > 0
        assert found[direction]["bytes_per_second"] > 0
        assert found[direction]["round_trip"]["count"] >= 1
    assert found["new_connections"]["count"] >= found["new_connections"]["at_once"]
    tunnel.server.process.wait_for(
        CHANNEL.format("in", "client", "done") + '.*rule="?client=service'
    )
    tunnel.client.process.wait_for(CHANNEL.format("out", "server", "done"))
    for end in (tunnel.server, tunnel.client):
        assert not [
            line for line in end.process.lines if "@bench" in line and "outcome=ended" in line
        ]


def test_at_a_terminal_it_shows_how_far_it_is_and_then_one_line_a_result(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    start_tunnel(processes, identities, ["service:@bench"], "--socks", "0", "--control", control)
    ours, its = pty.openpty()
    try:
        done = subprocess.run(
            [*TUNNELKIT, "bench", "--control", str(control), "--seconds", "0.3"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=its, text=True, timeout=120,
        )  # fmt: skip
        os.close(its)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
    assert done.returncode == 0
    labels = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert labels == ["round trip", "from server", "to server", "new connections"]
    assert " MiB/s (" in done.stdout
    assert "\r\x1b[Kfrom server: " in shown
    assert shown.endswith("\r\x1b[K")


def test_who_is_not_allowed_is_told_what_is_missing(transport: Transport, tmp_path: Path) -> None:
    control = tmp_path / "control"
    tunnel = transport(
        ["tcp:127.0.0.1:9", "other=service:@bench"], "--socks", "0", "--control", control
    )
    done = bench("--control", control)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "tunnelkit: server: not allowed there: expected --allow service:@bench there\n"
    )
    tunnel.server.process.wait_for("Not allowed: no rule allows client to connect service:@bench")


def test_interrupted_it_ends_at_once_and_so_do_its_channels(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    tunnel = start_tunnel(
        processes, identities, ["service:@bench"], "--socks", "0", "--control", control
    )
    words = ("--control", control, "--seconds", 50)
    measuring = processes.start("bench", *TUNNELKIT, "bench", *words)
    tunnel.server.process.wait_for(r"opened in peer=client destination=service:@bench")
    measuring.child.send_signal(signal.SIGINT)
    assert measuring.wait() == 128 + signal.SIGINT
    assert measuring.lines == []
    tunnel.server.process.wait_for(CHANNEL.format("in", "client", ""))
