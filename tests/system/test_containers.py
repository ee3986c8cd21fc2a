"""What a container changes: every process is number 1, and it is killed as that."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.processes import READY, TWISTD, Processes

MIDDLE = ("lstp-middle", "--listen", "127.0.0.1:0")
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child")


def test_a_role_that_was_killed_as_the_first_process_starts_again(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    file = tmp_path / "role.pid"
    try:
        for options in (["-n"], ["-n", f"--pidfile={file}"]):
            for _ in range(2):
                # A killed container runs nothing at its end: what it has left stays there.
                command = (*CONTAINER, *TWISTD, *options, *MIDDLE)
                processes.start("container", *command, ready=READY).kill()
        assert file.read_text() == "1"
        assert not (tmp_path / "twistd.pid").exists()
    finally:
        processes.end()
