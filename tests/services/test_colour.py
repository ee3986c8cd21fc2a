"""Colour is for terminals, and for nobody who does not want it."""

from __future__ import annotations

import io

import pytest
from twisted.logger import Logger

from tunnelkit.services import logs
from tunnelkit.services.colour import GREEN, has_colour, painted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "environment", "expected"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_only_a_terminal_has_colour(
    out: io.StringIO, environment: dict[str, str], expected: bool
) -> None:
    assert has_colour(out, environment) is expected


def test_text_for_a_file_stays_as_it_is() -> None:
    assert painted("up", GREEN, io.StringIO()) == "up"


@pytest.mark.parametrize("terminal", [True, False])
def test_warnings_and_readiness_stand_out_in_a_log_on_a_terminal(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    observer = logs.observer_for({"nodaemon": True}, False)
    assert observer is not None
    logger = Logger("test", observer=observer)
    logger.info("READY lstp-middle: x")
    logger.warn("careful \x1b[32m")
    logger.info("as always")
    ready, careful, plain = out.getvalue().splitlines()
    assert ready.startswith("\x1b[32m") is terminal
    assert careful.startswith("\x1b[33m") is terminal
    # What a peer says colours nothing.
    assert careful.count("\x1b") == (2 if terminal else 0)
    assert "\x1b" not in plain
