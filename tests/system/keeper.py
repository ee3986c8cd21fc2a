"""Sees to it that nothing of a laboratory outlives it, however its maker ends.

``keeper.py DIRECTORY DESCRIPTOR...`` waits until its standard input ends, which it does
also when its maker is killed. Then whatever still runs in the laboratory's network
namespaces (the descriptors) gets `GRACE` seconds to end and is killed. It prints
one line for each process that had to be killed, and removes the directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

GRACE = 5.0
"""Seconds; helpers that end with their parents need a moment."""
PREFIX = "tunnelkit-laboratory-"
MARK = "TUNNELKIT_LABORATORY"
"""Variable in the environment of a laboratory's processes: its directory."""
LOCK = "keeper-lock"
"""File in the directory of a laboratory, locked while its keeper lives."""


def lodgers(directory: str, namespaces: set[int]) -> list[int]:
    """Processes of the laboratory at ``directory``: in its namespaces (inodes) or with its mark."""
    mark = f"{MARK}={directory}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino in namespaces or mark in (
                    entry / "environ"
                ).read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def wait_for(processes: list[int], seconds: float) -> None:
    """Wait until all have ended, or so long."""
    deadline = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process)
            wait_for_end(descriptor, max(0.0, deadline - time.monotonic()))
            os.close(descriptor)


def wait_for_end(process: int, seconds: float) -> None:
    """Wait until the process behind a pidfd has ended, or so long."""
    select.select([process], [], [], seconds)


def clear(directory: str, namespaces: set[int], grace: float = GRACE) -> list[str]:
    """End what still runs; the command lines of those that had to be killed."""
    wait_for(lodgers(directory, namespaces), grace)
    killed = []
    while running := lodgers(directory, namespaces):
        for process in running:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                os.kill(process, signal.SIGKILL)
                killed.append(b" ".join(words).decode(errors="backslashreplace").strip())
        wait_for(running, GRACE)
    shutil.rmtree(directory, ignore_errors=True)
    return killed


def clear_leftovers() -> None:
    """End laboratories whose maker and keeper have both been killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            with (directory / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                clear(str(directory), set(), grace=0)
        except OSError:
            continue  # in use, or gone in the meantime


def main(directory: str, *descriptors: str) -> None:
    """Keep one laboratory."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    unlocked = Path(directory, f"{LOCK}.new")
    with unlocked.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unlocked.rename(Path(directory, LOCK))  # never there and not locked, while we live
        print("keeping", flush=True)
        sys.stdin.read()
        namespaces = {os.fstat(int(descriptor)).st_ino for descriptor in descriptors}
        with contextlib.suppress(BrokenPipeError):
            for command in clear(directory, namespaces):
                print(command, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
