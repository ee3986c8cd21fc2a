"""Whether somebody ends a browser's TLS in between: ``tunnelkit doctor`` (row S15)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.communication import SERVER, HttpsSite, start_server
from tests.acceptance.processes import TUNNELKIT, Identities, Processes, Role
from tests.peers.ending_server import EndingServer

HOST = "site.example"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[HttpsSite]:
    made = HttpsSite(tmp_path, HOST)
    yield made
    made.close()


class Publisher:
    """A client that publishes the site at the server on ``port``, and a doctor for it."""

    def __init__(
        self, processes: Processes, identities: Identities, site: HttpsSite, port: int
    ) -> None:
        self.port = port
        self.control = processes.directory / "control"
        self.role: Role = processes.role(
            "secure-proxy-client", "--server", f"127.0.0.1:{port}", "--server-name", SERVER,
            "--identity", identities("server"), "--control", self.control, "--grace", 1,
            "--publish", f"pass:{HOST}=tcp:127.0.0.1:{site.port}",
            "--allow", f"tcp:127.0.0.1:{site.port}",
        )  # fmt: skip

    def doctor(self) -> tuple[int, str]:
        """Exit status, and what was said."""
        done = subprocess.run(
            [*TUNNELKIT, "doctor", "--control", str(self.control), "--site", HOST,
             "--at", f"127.0.0.1:{self.port}"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def test_an_honest_server_passes_the_hello_of_a_browser_on(
    processes: Processes, identities: Identities, site: HttpsSite
) -> None:
    server = start_server(processes, identities)
    publisher = Publisher(processes, identities, site, server.port)
    server.role.wait_for(f"action=publish what=pass:{HOST} allowed=True")
    for _ in range(2):
        status, said = publisher.doctor()
        assert status == 0, said
        assert "Nobody ended TLS in between in this connection" in said
    publisher.role.process.stop()
    status, said = publisher.doctor()
    assert status == 2
    assert "no TLS 1.3 with site.example" in said


@pytest.mark.parametrize(
    ("hello_passed", "words"), [(False, "has not come to the client"), (True, "is not the one")]
)
def test_a_server_that_ends_tls_in_between_is_found_out(
    processes: Processes, identities: Identities, site: HttpsSite, hello_passed: bool, words: str
) -> None:
    liar = EndingServer(identities(SERVER), HOST, identities("guest"), hello_passed=hello_passed)
    processes.on_end(liar.close)
    publisher = Publisher(processes, identities, site, liar.port)
    assert liar.registered.wait(20)
    status, said = publisher.doctor()
    assert status == 1, said
    assert "SOMEBODY ENDS TLS IN BETWEEN" in said
    assert words in said
