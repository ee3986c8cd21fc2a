"""Another revision of the source tree, beside this one, for as long as it is measured."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The root of this source tree."""


def _git(*arguments: str) -> str:
    """What git says. Raises CalledProcessError if it fails."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _commit(revision: str) -> str:
    """The full name of a commit. Raises SystemExit if there is none."""
    try:
        return _git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except FileNotFoundError:
        raise SystemExit("--against needs git, which is not installed") from None
    except subprocess.CalledProcessError:
        raise SystemExit(f"--against: no revision {revision!r} of {ROOT} is known to git") from None


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A checkout of ``revision`` in a temporary directory, removed afterwards.

    Raises SystemExit if there is no such revision.
    """
    commit = _commit(revision)
    with tempfile.TemporaryDirectory(prefix="tunnelkit-revision-") as directory:
        tree = Path(directory, "tree")
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))
