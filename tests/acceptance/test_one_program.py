"""``tunnelkit ROLE``: one program for every role (row Q1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.processes import TUNNELKIT, TWISTD, Processes

AS_MODULE = (sys.executable, "-m", "tunnelkit")


def run(*words: str, program: tuple[str, ...] = AS_MODULE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*program, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("program", [TUNNELKIT, AS_MODULE], ids=["command", "module"])
def test_a_role_runs_in_the_foreground_and_ends_when_told(
    processes: Processes, program: tuple[str, ...]
) -> None:
    words = (*program, "middle", "--listen", "127.0.0.1:0")
    middle = processes.start("middle", *words, ready="READY lstp-middle: listening on")
    assert middle.stop() == 0
    assert not list(Path(processes.directory).glob("twistd.*"))


def test_a_mistake_names_the_program_that_was_called() -> None:
    done = run("usher-gate", program=(*TWISTD, "-n", "--pidfile="))
    assert done.returncode == 2
    assert done.stderr.startswith("twistd usher-gate: --listen is missing: expected [HOST:]PORT")
    done = run("gate")
    assert done.returncode == 2
    assert done.stderr.startswith("tunnelkit usher-gate: --listen is missing: expected [HOST:]PORT")
    assert done.stderr.count("\n") == 1


def test_the_help_of_a_role_speaks_of_the_program_that_was_called() -> None:
    done = run("server", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: tunnelkit lstp-server-end --middle HOST:PORT")
    assert "twistd" not in done.stdout


def test_a_word_that_is_no_command_and_no_role_is_told_with_what_is_close() -> None:
    done = run("middel")
    assert done.returncode == 2
    assert "there is no command 'middel' (did you mean 'middle'?)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "\n  middle    LSTP middle: pairs" in run("--help").stdout
