"""Other work on the machine: loops that keep its cores busy while something is measured."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_LOOP = """\
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(100_000):
        pass
"""
"""Ends by itself once the script that started it is gone."""


@contextlib.contextmanager
def busy(per_core: int) -> Iterator[list[int]]:
    """Run ``per_core`` loops for each core that this process may use; gives their process ids."""
    cores = len(os.sched_getaffinity(0))
    command = [sys.executable, "-c", _LOOP, str(os.getpid())]
    loops: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(per_core * cores):
            loops.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        yield [loop.pid for loop in loops]
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()
