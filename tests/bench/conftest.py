"""A source tree with a history, whether or not this one has any."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bench.test_scripts import ROOT

PARTS = ("tunnelkit", "twisted", "bench")
"""The scripts and what they run."""


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this source tree in a git repository of its own, with one commit."""
    tree = tmp_path_factory.mktemp("repository")
    for part in PARTS:
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    author = ("-c", "user.name=Tests", "-c", "user.email=tests@example.org")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "--no-verify", "-m", "All"]):
        subprocess.run(["git", "-C", str(tree), *author, *command], check=True)
    return tree
