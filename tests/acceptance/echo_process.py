"""`EchoOfMany` in a process of its own: its connections do not count among the test's files."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.acceptance.applications import EchoOfMany, raise_open_files
from tests.acceptance.processes import Processes

ROOT = Path(__file__).resolve().parents[2]


def start_echo(processes: Processes) -> str:
    """Start it; its destination, as rules say it."""
    process = processes.start(
        "echo", sys.executable, "-m", __name__, ready="^LISTENING", env={"PYTHONPATH": str(ROOT)}
    )
    return process.wait_for(r"^LISTENING (\S+)")[1]


if __name__ == "__main__":
    raise_open_files()
    with EchoOfMany() as echoes:
        print("LISTENING", echoes.destination, flush=True)
        signal.pause()
