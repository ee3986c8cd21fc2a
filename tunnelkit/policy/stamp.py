"""Whether a file has changed since it was looked at."""

from __future__ import annotations

import os


def stamp(path: str) -> tuple[int, int, int] | None:
    """What tells a changed file from the same one; None: it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
