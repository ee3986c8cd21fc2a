"""A small JSON object that is remembered over restarts, and that several ends may share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunnelkit.policy.files import make_durable, written_beside

_LONGEST = 1 << 20


class StateFile:
    """``path``; everything raises ``OSError`` where its directory does not let it be kept."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes it meanwhile."""
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> dict[str, Any]:
        """What is in it; empty if it is not there, or is something else."""
        try:
            with self.path.open("rb") as file:
                known = json.loads(file.read(_LONGEST))
        except (FileNotFoundError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def write(self, known: Mapping[str, Any]) -> None:
        """Whole or not at all, on the disk when this returns; its owner's alone."""
        with written_beside(self.path, json.dumps(known).encode("ascii")) as name:
            os.replace(name, self.path)
            make_durable(self.path)
