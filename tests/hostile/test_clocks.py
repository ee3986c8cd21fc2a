"""The wall clock is set while tunnels are up: nobody notices (R14)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.applications import Application, Received, echo
from tests.acceptance.clocks import another_clock
from tests.acceptance.communication import start_server
from tests.acceptance.processes import Identities, Processes
from tests.acceptance.tunnels import STARTERS
from tests.hostile.honest import LEAST, ask, place_of, use

JUMPS = ("+1h", "-1h", "+1d", "-1d", "+0")
"""How far the clock is from the right time, one after the other."""


@pytest.fixture
def server() -> Iterator[Application]:
    with Application(echo) as running:
        yield running


def on(clock: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is what the file says."""
    clock.write_text("+0\n")
    return {
        **another_clock(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
    }


def test_a_communication_server_cuts_clients_whose_certificate_is_over(
    processes: Processes, identities: Identities, server: Application
) -> None:
    """By the wall clock, as ends do (X30); the session goes with the client."""
    clock = processes.directory / "clock"
    hall = start_server(processes, identities, env=on(clock))
    hall.client("server", "--allow", server.destination)
    near = hall.client("client", "--target", "server", "--forward", f"0={server.destination}")
    with socket.create_connection(place_of(near.address("forward")), 20) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        clock.write_text("+800d\n")
        hall.role.wait_for("The certificate of server has expired: cut")
        hall.role.wait_for("session-end .*expired")
        assert Received(sock).to_the_end() == "reset"


@pytest.mark.parametrize("kind", list(STARTERS))
def test_nothing_that_is_up_notices_that_the_clock_is_set(
    kind: str, processes: Processes, identities: Identities, server: Application
) -> None:
    clock = processes.directory / "clock"
    env = on(clock)
    tunnel = STARTERS[kind](
        processes, identities, [server.destination], "--forward", f"0={server.destination}",
        client_env=env, server_env=env,
    )  # fmt: skip
    forward = place_of(tunnel.client.address("forward"))
    direct = place_of(server.destination.removeprefix("tcp:"))
    ask(forward)
    ends = (tunnel.client.process, tunnel.server.process)
    before = [len(end.lines) for end in ends]
    with socket.create_connection(forward, 20) as stays:
        for jump in JUMPS:
            clock.write_text(f"{jump}\n")
            use(lambda: ask(forward), lambda: ask(direct), lambda: False).was_good()
            stays.sendall(jump.encode())
            assert stays.recv(100) == jump.encode()
    for end, since in zip(ends, before, strict=True):
        said = [line for line in end.lines[since:] if "outcome=done" not in line]
        assert not any("has ended" in line or "Traceback" in line for line in said), said
        times = {line[:10] for line in end.lines[since:]}
        # The clock really was another one: LEAST requests on three dates.
        assert len(times) >= 3, f"{LEAST} requests at {times}"
