"""``--help`` of the program and of its commands: on 80 columns, what is used first on top (Q8)."""

from __future__ import annotations

import pytest

from tunnelkit.cli import main as cli
from tunnelkit.cli.cmd_completion import known_words


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def commands() -> list[str]:
    """Those of the program, and those with an action."""
    return [name for name in known_words() if name.split(" ")[0] in cli.command_names()]


def test_the_help_fits_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    asked = commands()
    assert {"pair", "keys issue", "status"} <= set(asked)
    for name in ("", *asked):
        lines = help_of(capsys, *name.split()).splitlines()
        assert [line for line in lines if len(line) > 80] == [], name


def test_what_is_used_first_comes_first_and_roles_say_what_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = help_of(capsys)
    places = [shown.index(f"\n    {name} ") for name in ("pair", "keys", "status", "audit")]
    assert places == sorted(places)
    assert "\n  middle    LSTP middle: pairs two ends" in shown
    assert "\n  secure-proxy-server\n            Communication Server: " in shown
