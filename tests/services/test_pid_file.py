"""When a role has a pid file, and what is said where it cannot have one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.services.pid_file import DEFAULT, settle_pid_file


def settled(path: object, *words: str, **options: bool) -> Any:
    found: dict[str, Any] = {"pidfile": str(path), "nodaemon": False, **options}
    settle_pid_file(found, words)
    return found["pidfile"]


def test_in_the_foreground_there_is_one_only_if_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settled(DEFAULT, "-n", nodaemon=True) == ""
    assert settled(DEFAULT, "-b", debug=True) == ""
    assert settled(DEFAULT, "-n", f"--pidfile={DEFAULT}", nodaemon=True) == DEFAULT
    assert settled(tmp_path / "role.pid", "-n", nodaemon=True) == str(tmp_path / "role.pid")
    assert settled(DEFAULT) == DEFAULT
    assert settled("") == ""


def test_one_with_this_process_number_is_of_an_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "role.pid"
    file.write_text(f"{os.getpid()}\n")
    assert settled(file) == str(file)
    assert not file.exists()


@pytest.mark.parametrize("number", ["999999999", "99999999999999999999999"])
def test_one_of_a_process_that_is_gone_is_left_to_twistd(tmp_path: Path, number: str) -> None:
    file = tmp_path / "role.pid"
    file.write_text(number)
    assert settled(file) == str(file)
    assert file.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1", "process 1 runs with it: expected another --pidfile for this one"),
        ("one", "there is no number in it: expected a pid file"),
        ("", "there is no number in it: expected a pid file"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "role.pid"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        settled(file)
    assert str(caught.value).startswith(f"--pidfile {file}: {said}")
    assert file.read_text() == content


def test_a_directory_that_is_not_there_or_not_writable_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it cannot be made: expected one in a directory"):
        settled(tmp_path / "nowhere" / "role.pid")
    with pytest.raises(ConfigError, match="Is a directory: expected a file"):
        settled(tmp_path)
