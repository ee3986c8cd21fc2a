"""The audit file of a role that is killed, and what the other end knows of it (row O8)."""

from __future__ import annotations

import contextlib
import json
import socket

from tests.acceptance.processes import TUNNELKIT, Processes, tunnelkit
from tests.acceptance.tunnels import Transport


def test_a_killed_end_leaves_what_was_open_and_its_peer_vouches_for_the_file(
    processes: Processes, transport: Transport
) -> None:
    audit, kept = processes.directory / "audit", processes.directory / "kept"
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        target = f"tcp:127.0.0.1:{there.getsockname()[1]}"
        tunnel = transport(
            [target], "--forward", f"0={target}", "--checkpoints", kept, server=["--audit", audit]
        )
        host, port = tunnel.client.address("forward").rsplit(":", 1)
        stack.enter_context(socket.create_connection((host, int(port))))
        stack.enter_context(there.accept()[0])
        tunnel.server.wait_for("opened in peer=client")
        tunnel.server.process.kill()
        tunnel.client.wait_for("has ended")
    entries = [json.loads(line) for line in audit.read_text().splitlines()]
    opened = entries[-1]
    assert (opened["event"], opened["peer"]) == ("opened", "client")
    assert opened["destination"] == opened["rule"] == target
    # What there was when the tunnel came up has been told to the other end.
    said = tunnelkit("audit", "verify", audit, "--with", kept)
    assert "told by server" in said
    assert "nothing is wrong" in said
    lines = audit.read_bytes().splitlines(keepends=True)
    number = json.loads(kept.read_text().splitlines()[-1])["seq"]
    audit.write_bytes(b"".join(lines[: number - 1]))
    cut = processes.start("verify", *TUNNELKIT, "audit", "verify", str(audit), "--with", str(kept))
    cut.wait_for("WRONG: ")
    assert cut.wait() == 1
