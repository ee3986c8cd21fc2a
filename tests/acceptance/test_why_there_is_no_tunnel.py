"""An end that is refused, or dials the wrong thing, says why: in its log and by its status."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.acceptance.applications import Application, Received, echo, wait_until
from tests.acceptance.processes import Identities, Processes, tunnelkit
from tests.acceptance.tunnels import Transport, start_gate, start_portal, start_tunnel

NOWHERE = "tcp:127.0.0.1:9"


def status(control: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(tunnelkit("status", "--json", "--control", control))
    return found


def test_a_portal_is_told_that_the_gate_expects_another(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    gate = start_gate(processes, identities, [NOWHERE], peers=["other"])
    portal = start_portal(
        processes, identities, gate.address("listening on"), "--socks", "0", "--control", control,
        wait=False,
    )  # fmt: skip
    why = "the other end does not accept this end's certificate, perhaps because of the name or"
    portal.wait_for(f"The tunnel is down: .*{why}.*; trying again")
    gate.wait_for("Refused a portal from .*: the other end is client, expected is other")
    assert why in str(status(control)["last_error"])


def test_an_lstp_end_is_told_that_the_other_one_expects_another(
    processes: Processes, identities: Identities
) -> None:
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    place = ("--middle", middle.address("listening on"), "--tunnel", "test")
    processes.role(
        "lstp-server-end", *place, "--identity", identities("server"), "--peer", "other",
        "--allow", NOWHERE,
    )  # fmt: skip
    client = processes.role(
        "lstp-client-end", *place, "--identity", identities("client"), "--peer", "server",
        "--socks", "0", wait=False,
    )  # fmt: skip
    client.wait_for("The tunnel is down: .*the certificate's name is not an allowed peer; trying")


@pytest.mark.parametrize(
    ("says", "name"),
    [(b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP")],
)
def test_what_is_no_middle_is_recognized(
    processes: Processes, identities: Identities, says: bytes, name: str
) -> None:
    def talk(sock: socket.socket) -> None:
        sock.sendall(says)
        echo(sock)

    with Application(talk) as server:
        client = processes.role(
            "lstp-client-end", "--middle", f"127.0.0.1:{server.port}", "--tunnel", "test",
            "--identity", identities("client"), "--peer", "server", "--socks", "0", wait=False,
        )  # fmt: skip
        client.wait_for(f"what answers there is no middle: it speaks {name}; trying again")


def test_disconnecting_says_what_may_still_finish_and_ends_it_if_told_to(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    with Application(echo) as application:
        destination = application.destination
        tunnel = start_tunnel(
            processes, identities, [destination], "--forward", f"0={destination}",
            "--control", control,
        )  # fmt: skip
        tunnelkit("status", "--check", "--control", control)
        entrance = ("127.0.0.1", tunnel.client.port("forward"))
        with socket.create_connection(entrance, timeout=20) as near:
            near.sendall(b"x")
            assert near.recv(1) == b"x"
            said = tunnelkit("disconnect", "--control", control).splitlines()
            assert said == ["draining", "channels that may finish within 30 s: 1"]
            assert (status(control)["state"], status(control)["draining"]) == ("draining", 1)
            tunnel.client.wait_for("Disconnected by hand: 1 channels may finish, for 30 s at most")
            near.sendall(b"y")
            assert near.recv(1) == b"y"
            tunnelkit("disconnect", "--now", "--control", control)
            assert Received(near).to_the_end() == "reset"
        assert wait_until(lambda: status(control)["state"] == "disconnected")
        with pytest.raises(AssertionError):
            tunnelkit("status", "--check", "--control", control)


def test_status_says_how_far_an_end_is(transport: Transport, tmp_path: Path) -> None:
    control = tmp_path / "control"
    tunnel = transport([NOWHERE], "--socks", "0", "--control", control)
    assert status(control)["state"] == "connected"
    tunnel.server.process.kill()
    assert wait_until(lambda: status(control)["state"] in ("down", "dialling", "waiting"))
    assert wait_until(lambda: bool(status(control)["last_error"]))


def test_ready_and_status_say_what_an_end_waits_for(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    end = processes.role(
        "lstp-server-end", "--middle", middle.address("listening on"), "--tunnel", "test",
        "--identity", identities("server"), "--peer", "client", "--allow", NOWHERE,
        "--control", control,
    )  # fmt: skip
    assert f"; waits for client; allows {NOWHERE}; revocation list: " in end.ready
    end.wait_for("Waiting at the middle for tunnel test: client may come")
    found = status(control)
    assert (found["state"], found["next_try_seconds"]) == ("waiting", None)
    first = found["state_seconds"]
    assert isinstance(first, float)
    # It is one and the same waiting.
    assert wait_until(lambda: float(str(status(control)["state_seconds"])) > first)
    middle.process.stop()
    assert wait_until(lambda: isinstance(status(control)["next_try_seconds"], float))
