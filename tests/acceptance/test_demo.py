"""``tunnelkit demo``: shows a tunnel, and leaves nothing behind."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.acceptance.processes import TUNNELKIT, Processes, curl
from tunnelkit.cli.cmd_demo import demo_directory


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The directory that the demo takes for temporary files."""
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def left_behind(scratch: Path) -> list[str]:
    """Files, and processes that were told of files there."""
    running = [
        command
        for process in Path("/proc").glob("[0-9]*")
        if str(scratch) in (command := command_of(process))
    ]
    return [*map(str, scratch.iterdir()), *running]


def command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_without_a_terminal_it_shows_everything_and_ends(scratch: Path) -> None:
    done = subprocess.run(
        [*TUNNELKIT, "demo", "--size", "8"],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "a file of 8 MiB goes each way",
        "$ tunnelkit keys init", "$ tunnelkit middle", "$ tunnelkit server",
        "$ tunnelkit client", "$ curl", "Hello from the other side", "MiB/s", "as sent", " ms",
        "office (server-end) and laptop (client-end)", "bytes ",
    ):  # fmt: skip
        assert part in done.stdout
    assert left_behind(scratch) == []


def test_its_directory_has_the_same_name_each_time_and_another_demo_its_own(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    assert demo_directory() == scratch / "tunnelkit-demo"
    assert demo_directory() == scratch / "tunnelkit-demo-2"
    (scratch / "tunnelkit-demo").rmdir()
    (scratch / "tunnelkit-demo").symlink_to("/nonexistent")
    assert demo_directory() == scratch / "tunnelkit-demo-3"
    assert (scratch / "tunnelkit-demo-3").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("path", [os.environ["PATH"], "/nonexistent"])
def test_devices_are_shown_with_the_clients_that_there_are(scratch: Path, path: str) -> None:
    done = subprocess.run(
        [*TUNNELKIT, "demo", "wtls"],
        env={**os.environ, "TMPDIR": str(scratch), "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "wtls-domain-proxy", "wtls-proxy", "The weather is fine.", "The balance is 7.",
        "5.03 end-to-end security is required", "all 21 bytes of the page",
        "demo_device" if path == "/nonexistent" else "coap-client-openssl",
    ):  # fmt: skip
        assert part in done.stdout
    assert left_behind(scratch) == []


@pytest.mark.parametrize("path", [os.environ["PATH"], "/nonexistent"])
def test_one_port_is_shown_with_a_client_and_a_browser(scratch: Path, path: str) -> None:
    done = subprocess.run(
        [*TUNNELKIT, "demo", "secure-proxy"],
        env={**os.environ, "TMPDIR": str(scratch), "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "secure-proxy-server", "secure-proxy-client", "[clients.laptop]", "--publish",
        "    Hello from inside, by name.\n", "$ curl ", "--resolve",
        "    Hello from a site inside, with its own certificate.\n", "whose keys it has not",
    ):  # fmt: skip
        assert part in done.stdout
    assert left_behind(scratch) == []


def test_in_a_terminal_it_stays_until_interrupted(processes: Processes, scratch: Path) -> None:
    leader, follower = pty.openpty()
    with open(leader, "rb", buffering=0) as screen:
        child = subprocess.Popen(
            [*TUNNELKIT, "demo", "--size", "1"],
            env={**os.environ, "TMPDIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
        )
        processes.on_end(child.kill)
        os.close(follower)
        shown = b""
        while b"Ctrl-C ends it" not in shown or shown.count(b"curl") < 6:
            shown += screen.read(4096)
        while not (found := re.search(rb"http://(127\.0\.0\.1:\d+)/#([\w-]{43})\r\n", shown)):
            shown += screen.read(4096)
        assert child.poll() is None
        place, token = found[1].decode(), found[2].decode()
        page = curl(f"http://{place}/status.json", "--header", f"Authorization: Bearer {token}")
        assert page.status == 0
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
    assert left_behind(scratch) == []


def test_a_demo_that_is_told_to_end_early_ends_its_parties(
    processes: Processes, scratch: Path
) -> None:
    demo = processes.start(
        "demo", *TUNNELKIT, "demo", "--size", "512", env={"TMPDIR": str(scratch)},
        ready="READY lstp-server-end",
    )  # fmt: skip
    assert demo.stop() == 0
    assert left_behind(scratch) == []


@pytest.mark.parametrize("size", ["0", "-1", "much", "1000000"])
def test_a_size_that_cannot_be(size: str) -> None:
    done = subprocess.run(
        [*TUNNELKIT, "demo", f"--size={size}"], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert done.stderr.startswith("tunnelkit: --size ")
    assert done.stderr.count("\n") == 1
