"""Runs a program that leaves children behind, and waits for those too.

``reaper.py COMMAND...`` passes SIGTERM on and ends, with the program's status, when the
program and all that it has started have ended. Without it they would be left to PID 1,
which in a container may be a program that never asks after them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36


def main(*command: str) -> int:
    """Run it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    status = child.wait()
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
