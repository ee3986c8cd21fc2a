"""What a role writes into its audit file, and where its checkpoints go (row O8)."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from twisted.logger import Logger

from tunnelkit.cli.main import main
from tunnelkit.errors import ConfigError
from tunnelkit.policy.audit_chain import Verifier
from tunnelkit.services.audit import Audit, AuditFile, CheckpointFile
from tunnelkit.testing.clock import TestClock
from tunnelkit.wire.checkpoint import Checkpoint

_log = Logger()


def entries(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def problems(*paths: Path) -> list[str]:
    verifier = Verifier()
    for path in paths:
        with path.open("rb") as lines:
            verifier.file(path.name, lines)
    return verifier.report().problems


def test_events_are_lines_of_one_chain_over_restarts_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    for _ in range(2):
        file = AuditFile(str(path))
        file({"event": "opened", "peer": "gate", "seconds": 1.5, "log_text": "no", "seq": 99})
        file({"log_format": "READY"})
        file.close()
    told = entries(path)
    assert [entry["event"] for entry in told] == ["started", "opened", "stopped"] * 2
    assert [entry["seq"] for entry in told] == [1, 2, 3, 4, 5, 6]
    assert (told[1]["peer"], told[1]["seconds"]) == ("gate", 1.5)
    assert "log_text" not in told[1]
    assert problems(path) == []
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_process_has_left_is_marked_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    file = AuditFile(str(path))
    file({"event": "opened"})
    os.close(file._file)
    content = path.read_bytes()
    for torn in (content[:-10], content[:-1], content + b"{", content[:3]):
        path.write_bytes(torn)
        AuditFile(str(path)).close()
        assert problems(path) == []


def test_a_file_that_is_moved_away_is_followed_by_a_new_one_of_the_chain(tmp_path: Path) -> None:
    path, old = tmp_path / "audit", tmp_path / "audit.1"
    file = AuditFile(str(path))
    path.rename(old)
    file({"event": "opened"})
    file.reopen()
    file({"event": "channel"})
    file.close()
    assert [entry["event"] for entry in entries(old)] == ["started", "opened"]
    assert entries(path)[0]["chain"] == entries(old)[0]["chain"]
    assert problems(old, path) == []


def test_a_file_that_is_not_its_own_is_refused_in_one_line(tmp_path: Path) -> None:
    mine = AuditFile(str(tmp_path / "mine"))
    open_to_all, text, link = (tmp_path / name for name in ("open", "text", "link"))
    open_to_all.touch()
    open_to_all.chmod(0o644)
    text.write_text("some text\n")
    text.chmod(0o600)
    link.symlink_to(text)
    os.mkfifo(tmp_path / "fifo")
    for name, told in {
        "mine": "another role writes it",
        "open": "others may use it (mode 0644): expected chmod 600",
        "text": "it is not an audit file",
        "link": "expected a file",
        "fifo": "it is not a regular file",
        "no/where": "No such file",
    }.items():
        with pytest.raises(ConfigError) as caught:
            AuditFile(str(tmp_path / name))
        assert told in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
    assert text.read_text() == "some text\n"
    mine.close()


def test_lines_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    file = AuditFile(str(path))
    kept, file._file = file._file, os.open("/dev/full", os.O_WRONLY)
    file._looked += 1e6  # until then the file is not looked for
    for _ in range(3):
        file({"event": "opened"})
    os.close(file._file)
    file._file = kept
    file({"event": "channel"})
    file.close()
    assert [entry["event"] for entry in entries(path)] == ["started", "lost", "channel", "stopped"]
    assert entries(path)[1]["count"] == 3
    assert problems(path) == []


def test_checkpoints_are_due_each_minute_each_thousand_lines_and_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, kept = tmp_path / "audit", tmp_path / "kept"
    clock = TestClock()
    audit = Audit(clock, AuditFile(str(path)), None, str(kept), None)
    audit.startService()
    clock.advance(60)
    clock.advance(60)
    for _ in range(1500):
        _log.info("something", event="opened")
    audit.stopService()
    audit.over()
    assert [entry["seq"] for entry in entries(kept)] == [1, 1001, 1501, 1502]
    assert not clock.getDelayedCalls()

    assert main(["audit", "verify", str(path), "--with", str(kept)]) == 0
    said = capsys.readouterr().out
    assert "lines 1 to 1502" in said
    assert "vouched for up to line 1502" in said
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert main(["audit", "verify", str(path)]) == 0
    assert main(["audit", "verify", str(path), "--with", str(kept)]) == 1
    assert "WRONG: the end is missing" in capsys.readouterr().out
    assert main(["audit", "verify", str(tmp_path / "none")]) == 2


def test_checkpoints_go_to_a_unix_socket(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        audit = Audit(TestClock(), AuditFile(str(tmp_path / "audit")), None, f"unix:{place}", None)
        audit.startService()
        audit.stopService()
        audit.over()
        told = []
        for _ in range(2):
            connection, _ = listening.accept()
            with connection:
                told.append(json.loads(connection.recv(1000)))
    assert [entry["seq"] for entry in told] == [1, 2]


def test_of_one_peer_one_checkpoint_in_ten_seconds_is_kept_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    clock = TestClock()
    file = CheckpointFile(clock, str(path))
    for second in range(25):
        file.take("alice", Checkpoint("a" * 32, second + 1, "b" * 64))
        clock.advance(1)
    file.take("bob", Checkpoint("c" * 32, 1, "d" * 64))
    file.close()
    told = [(entry["peer"], entry["seq"]) for entry in entries(path)]
    assert told == [("alice", 1), ("alice", 10), ("alice", 20), ("bob", 1), ("alice", 25)]
    assert not clock.getDelayedCalls()
