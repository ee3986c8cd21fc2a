"""Nothing of a laboratory is left behind, whatever becomes of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import keeper

ROOT = Path(__file__).parents[2]
LIMIT = 60

_MAKE = """
import sys
from tests.system.laboratory import Laboratory
with Laboratory() as lab:
    lab.start_proxies()
    print(lab.directory, lab._keeper.pid, flush=True)
    sys.stdin.readline()
    raise SystemExit(3)
"""


@pytest.fixture
def maker() -> Iterator[subprocess.Popen[str]]:
    """A program with a laboratory of its own; it fails once it gets a line."""
    command = [sys.executable, "-c", _MAKE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as child:
        yield child
        child.kill()


def made(maker: subprocess.Popen[str]) -> tuple[str, int]:
    """The directory of its laboratory, and the process id of the keeper."""
    assert maker.stdout is not None
    directory, pid = maker.stdout.readline().split()
    assert len(keeper.lodgers(directory, set())) >= 4, "proxies and their helpers"
    return directory, int(pid)


def namespaces(directory: str) -> set[int]:
    """Those that its processes are in."""
    pids = keeper.lodgers(directory, set())
    return {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pids}


def test_nothing_is_left_when_a_test_fails(maker: subprocess.Popen[str]) -> None:
    directory, _ = made(maker)
    inside = namespaces(directory)
    assert maker.stdin is not None
    maker.stdin.write("\n")
    maker.stdin.flush()
    assert maker.wait(LIMIT) == 3
    assert keeper.lodgers(directory, inside) == []
    assert not Path(directory).exists()


def test_nothing_is_left_when_the_tests_are_killed(maker: subprocess.Popen[str]) -> None:
    directory, pid = made(maker)
    inside = namespaces(directory)
    keeping = os.pidfd_open(pid)
    maker.kill()
    keeper.wait_for_end(keeping, LIMIT)
    os.close(keeping)
    assert keeper.lodgers(directory, inside) == []
    assert not Path(directory).exists()


def test_the_next_laboratory_removes_what_is_left_when_everybody_was_killed(
    maker: subprocess.Popen[str],
) -> None:
    directory, pid = made(maker)
    inside = namespaces(directory)
    keeping = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    keeper.wait_for_end(keeping, LIMIT)
    os.close(keeping)
    maker.kill()
    maker.wait(LIMIT)
    assert keeper.lodgers(directory, inside)
    keeper.clear_leftovers()
    assert keeper.lodgers(directory, inside) == []
    assert not Path(directory).exists()


def test_the_machine_keeps_its_own_network() -> None:
    command = ["ip", "-o", "link"]
    before = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = "from tests.system.laboratory import Laboratory\nLaboratory().close()"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=LIMIT)
    after = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert after == before
