"""Another clock for one process: Debian's libfaketime."""

from __future__ import annotations

import os
from pathlib import Path

_LIBRARIES = (
    "/usr/lib/{}/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
)


def another_clock() -> dict[str, str]:
    """The environment in which a program sees another wall clock; FAKETIME, or the file that
    FAKETIME_TIMESTAMP_FILE names, says which."""
    machine = f"{os.uname().machine}-linux-gnu"
    paths = [path.format(machine) for path in _LIBRARIES]
    found = [path for path in paths if Path(path).exists()]
    assert found, f"libfaketime is in none of {paths}"
    return {"LD_PRELOAD": found[0], "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
