"""The log of a role: rotated by signals, by logrotate itself, under twistd and twist."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.acceptance.applications import wait_until
from tests.acceptance.processes import TWISTD, Process, Processes

TWIST = (sys.executable, "-c", "from twisted.application.twist._twist import Twist; Twist.main()")
MIDDLE = ("lstp-middle", "--listen", "127.0.0.1:0")


def start(processes: Processes, log: Path) -> Process:
    """A middle that logs to that file and is up."""
    process = processes.start("middle", *TWISTD, "-n", f"--logfile={log}", *MIDDLE)
    assert wait_until(lambda: log.exists() and "READY lstp-middle" in log.read_text())
    return process


def has_open(process: Process, log: Path) -> bool:
    """Does it write to what has that name now?"""
    its = Path(f"/proc/{process.child.pid}/fd")
    return any(file.exists() and file.samefile(log) for file in its.iterdir())


def hang_up(process: Process, log: Path) -> None:
    """SIGHUP, of which the log tells, so that it is known where the log is."""
    process.child.send_signal(signal.SIGHUP)
    assert wait_until(lambda: log.exists() and "Reloaded: nothing new" in log.read_text())


def test_a_signal_rotates_the_log_and_ends_nothing(processes: Processes, tmp_path: Path) -> None:
    log = tmp_path / "middle.log"
    process = start(processes, log)
    process.child.send_signal(signal.SIGUSR1)
    older = tmp_path / "middle.log.1"
    assert wait_until(older.exists)
    hang_up(process, log)
    assert "READY lstp-middle" in older.read_text()
    assert "READY lstp-middle" not in log.read_text()
    assert process.stop() == 0


def test_a_signal_without_a_log_file_ends_nothing_either(processes: Processes) -> None:
    middle = processes.role(*MIDDLE)
    middle.process.child.send_signal(signal.SIGUSR1)
    middle.process.child.send_signal(signal.SIGHUP)
    middle.wait_for("Reloaded: nothing new")
    assert middle.process.stop() == 0


def logrotate(log: Path, *how: str) -> None:
    """What its timer does, once."""
    directory = log.parent
    config = directory / "logrotate.conf"
    program = shutil.which("logrotate", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program
    lines = "\n".join(f"    {line}" for line in ("rotate 2", *how))
    config.write_text(f"{log} {{\n{lines}\n}}\n")
    config.chmod(0o644)
    state = directory / "logrotate.state"
    command = [program, "--force", "--state", str(state), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_logrotate_moves_the_log_and_the_role_goes_on_in_a_new_one(
    processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "middle.log"
    process = start(processes, log)
    for number in (1, 2):
        send = f"kill -USR1 {process.child.pid}"
        logrotate(log, "create", "postrotate", send, "endscript")
        # Of two signals that are waiting Python takes SIGHUP first, and tells the old file of it.
        assert wait_until(partial(has_open, process, log))
        hang_up(process, log)
        assert not (tmp_path / f"middle.log.{number + 1}").exists()
    assert "READY lstp-middle" in (tmp_path / "middle.log.2").read_text()
    assert process.stop() == 0


def test_logrotate_cuts_the_log_and_leaves_no_hole(processes: Processes, tmp_path: Path) -> None:
    log = tmp_path / "middle.log"
    process = start(processes, log)
    logrotate(log, "copytruncate")
    hang_up(process, log)
    assert b"\0" not in log.read_bytes()
    assert process.stop() == 0


def test_twist_logs_as_json_too(processes: Processes, tmp_path: Path) -> None:
    twist = processes.start("twist", *TWIST, *MIDDLE, "--log-json", ready="READY lstp-middle")
    assert twist.stop() == 0
    events = [json.loads(line) for line in twist.lines]
    assert any(event["message"].startswith("READY lstp-middle") for event in events)
    assert all({"time", "level", "module", "message"} <= set(event) for event in events)
    assert not (tmp_path / "twistd.log").exists()


def test_twist_rotates_its_log_file_too(processes: Processes, tmp_path: Path) -> None:
    log = tmp_path / "middle.log"
    options = (f"--log-file={log}", "--log-format=text")
    process = processes.start("twist", *TWIST, *options, *MIDDLE)
    assert wait_until(lambda: log.exists() and "READY lstp-middle" in log.read_text())
    process.child.send_signal(signal.SIGUSR1)
    assert wait_until((tmp_path / "middle.log.1").exists)
    hang_up(process, log)
    assert process.stop() == 0


def test_roles_in_the_foreground_share_a_directory_and_leave_nothing_in_it(
    processes: Processes, tmp_path: Path
) -> None:
    roles = [processes.role(*MIDDLE), processes.role(*MIDDLE)]
    for role in roles:
        assert role.process.stop() == 0
    assert os.listdir(tmp_path) == []
