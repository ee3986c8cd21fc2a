"""What systemd is told (row O10)."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.processes import Processes


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Stands for the manager: a socket that services write to."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        yield sock


def told(systemd: socket.socket, wanted: str) -> str:
    """What is said next that is no sign of life, unless that is wanted."""
    while True:
        text = systemd.recv(1000).decode()
        if text.startswith(wanted) or text != "WATCHDOG=1":
            return text


def test_systemd_is_told_of_the_life_of_a_role(
    processes: Processes, systemd: socket.socket, tmp_path: Path
) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    role = processes.role("lstp-middle", "--listen", "127.0.0.1:0", env=env)
    assert told(systemd, "READY") == "READY=1"
    for _ in range(2):
        assert told(systemd, "WATCHDOG") == "WATCHDOG=1"
    role.process.child.send_signal(signal.SIGHUP)
    begun, _, when = told(systemd, "RELOADING").partition("\n")
    assert begun == "RELOADING=1"
    assert when.removeprefix("MONOTONIC_USEC=").isdigit()
    assert told(systemd, "READY") == "READY=1"
    assert role.process.stop() == 0
    assert told(systemd, "STOPPING") == "STOPPING=1"


def test_the_watchdog_of_another_process_is_left_alone(
    processes: Processes, systemd: socket.socket, tmp_path: Path
) -> None:
    env = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "1000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    role = processes.role("lstp-middle", "--listen", "127.0.0.1:0", env=env)
    assert role.process.stop() == 0
    assert [systemd.recv(1000).decode() for _ in range(2)] == ["READY=1", "STOPPING=1"]
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)


def test_a_manager_that_is_gone_stops_nothing(processes: Processes, tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    role = processes.role("lstp-middle", "--listen", "127.0.0.1:0", env=env)
    assert role.process.stop() == 0
