"""The examples of docs/howto/library.md work as they stand there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.acceptance.processes import Identities, Processes, WebServer
from tests.acceptance.tunnels import start_gate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(example: str, *options: object) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / example), *map(str, options)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_protocol_of_ones_own_runs_over_a_secured_connection() -> None:
    done = run("custom_protocol.py")
    assert (done.returncode, done.stdout) == (0, "hello, gate through example/1\n"), done.stderr
    assert done.stderr == ""


def test_the_protocol_of_ones_own_is_a_short_one() -> None:
    text = (EXAMPLES / "custom_protocol.py").read_text()
    protocol, _, rest = text.partition("# -- at work")
    assert rest
    imports = [line for line in protocol.splitlines() if line.startswith(("from ", "import "))]
    assert protocol.count("\n") - len(imports) <= 100


def test_a_program_that_speaks_usher_itself(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    (web.directory / "page.txt").write_text("from the inside")
    target = f"tcp:127.0.0.1:{web.port}"
    gate = start_gate(processes, identities, [target])
    place = gate.address("listening on")
    fetched = run("usherfied.py", place, identities("client"), "server", target, "/page.txt")
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.endswith("from the inside")
    gate.wait_for("channel in peer=client")

    refused = run("usherfied.py", place, identities("client"), "server", "tcp:127.0.0.1:9", "/")
    assert refused.returncode == 1
    assert "ChannelRefused" in refused.stderr
