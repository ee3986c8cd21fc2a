"""What every test run needs, wherever it is started from."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Undo what a shell does to a job that it starts in the background: have it ignore SIGINT.

    Programs that tests start inherit that, and would not end when a test interrupts them.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A fresh directory for Unix sockets, whose whole path has at most 107 bytes: that of
    ``tmp_path`` has the test's name in it, and that of the process which runs it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
