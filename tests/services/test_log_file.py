"""A log that is cut into pieces, moved away, and cut by others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunnelkit.services import log_file
from tunnelkit.services.log_file import LogFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "role.log"


def test_it_appends_and_keeps_so_many_pieces_of_so_many_bytes(path: Path) -> None:
    path.write_text("before\n")
    log = LogFile(str(path), piece=20)
    for number in range(41):
        log.write(f"line {number:02}\n")
    log.close()
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["role.log", *(f"role.log.{n}" for n in range(1, log_file.KEPT + 1))]
    assert path.read_text() == "line 39\nline 40\n"
    assert path.with_name("role.log.1").read_text() == "line 37\nline 38\n"
    assert all(file.stat().st_size <= 20 for file in path.parent.iterdir())


def test_it_goes_on_in_a_new_file_where_it_was_moved_away(path: Path) -> None:
    log = LogFile(str(path))
    log.write("first\n")
    log.reopen()
    log.write("same\n")
    moved = path.rename(path.with_name("moved"))
    log.write("still there\n")
    log.reopen()
    log.write("new\n")
    log.close()
    assert moved.read_text() == "first\nsame\nstill there\n"
    assert path.read_text() == "new\n"


def test_rotating_what_somebody_has_rotated_only_opens_it_anew(path: Path) -> None:
    log = LogFile(str(path))
    log.write("first\n")
    path.rename(path.with_name("role.log.1"))
    path.touch()
    log.rotate()
    log.write("second\n")
    log.close()
    assert path.read_text() == "second\n"
    assert path.with_name("role.log.1").read_text() == "first\n"
    assert not path.with_name("role.log.2").exists()


def test_a_file_that_is_cut_by_somebody_else_gets_no_hole(path: Path) -> None:
    log = LogFile(str(path))
    log.write("x" * 100 + "\n")
    os.truncate(path, 0)
    log.write("after\n")
    log.close()
    assert path.read_bytes() == b"after\n"


def test_where_no_new_file_can_be_made_it_goes_on_in_the_old_one(path: Path) -> None:
    log = LogFile(str(path))
    moved = path.rename(path.with_name("moved"))
    path.mkdir()
    for again in (log.reopen, log.rotate):
        again()
        log.write("here\n")
    log.close()
    assert moved.read_text() == "here\nhere\n"
    assert path.is_dir()
