"""What every test run needs, wherever it is started from."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Undo what a shell does to a job that it starts in the background: have it ignore SIGINT.

    Programs that tests start inherit that, and would not end when a test interrupts them.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
