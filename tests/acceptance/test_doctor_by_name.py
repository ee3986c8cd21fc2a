"""The doctor for a client of a Communication Server: with the real handshake (O9, S15)."""

from __future__ import annotations

import subprocess

import pytest

from tests.acceptance.applications import Application, echo
from tests.acceptance.communication import SERVER, Communication, start_server
from tests.acceptance.processes import TUNNELKIT, Identities, Processes
from tests.peers.lying_server import LyingServer


def doctor(port: int, *words: object) -> tuple[int, str]:
    """Exit status, and what was said, for a client of the server at ``port``."""
    done = subprocess.run(
        [*TUNNELKIT, "doctor", "--patience", "10", "secure-proxy-client",
         "--server", f"127.0.0.1:{port}", "--server-name", SERVER, *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture
def server(processes: Processes, identities: Identities) -> Communication:
    return start_server(processes, identities)


def test_a_client_is_introduced_and_opens_a_channel(
    server: Communication, identities: Identities
) -> None:
    with Application(echo) as application:
        far = server.client(
            "server", "--publish", "tunnel", "--peer", "client", "--allow", application.destination
        )
        server.role.wait_for("action=publish what=tunnel allowed=True")
        asks = ("--identity", identities("client"), "--target", "server")
        status, said = doctor(server.port, *asks, "--forward", f"0={application.destination}")
        assert status == 0, said
        assert "relay.example lets this client in" in said
        assert "met by client - relay.example - server" in said
        assert "with server, both proved" in said
        assert f"{application.destination}: connected there" in said
        # Who publishes is registered already, by the role that runs: he stays so.
        publishes = ("--identity", identities("server"), "--publish", "tunnel", "--peer", "client")
        status, said = doctor(server.port, *publishes, "--allow", application.destination)
        assert status == 0, said
        assert "who ask for it by name" in said
        assert not any("Not present" in line for line in far.process.lines)
        far.process.stop()
        status, said = doctor(server.port, *asks, "--socks", "0")
        assert status == 1, said
        assert "--publish there" in said
        stranger = ("--identity", identities("guest"), "--target", "server", "--socks", "0")
        status, said = doctor(server.port, *stranger)
        assert status == 1, said
        assert "tunnelkit policy explain" in said


def test_a_server_that_reads_along_is_found_out(
    processes: Processes, identities: Identities
) -> None:
    forged = (identities("server"), identities("client"))
    liar = LyingServer(identities(SERVER), forged=forged)
    processes.on_end(liar.close)
    processes.role(
        "secure-proxy-client", "--server", f"127.0.0.1:{liar.port}", "--server-name", SERVER,
        "--identity", identities("server"), "--publish", "tunnel", "--allow", "tcp:127.0.0.1:9",
    )  # fmt: skip
    assert liar.registered.wait(20)
    asks = ("--identity", identities("client"), "--target", "server", "--socks", "0")
    status, said = doctor(liar.port, *asks)
    assert status == 1, said
    assert "can read what the two ends say" in said
