"""Gate to gate in one process: what portals ask a gate for, and it asks the next one for (U18)."""

from __future__ import annotations

import socket

from tests.acceptance.applications import Application, echo, receive
from tests.acceptance.processes import Identities, Processes, Role, WebServer, curl, free_port
from tests.acceptance.tunnels import start_gate, start_portal

MIB = 1 << 20


def onward(place: str, peer: str, *patterns: str) -> list[str]:
    """The options of a gate whose next one is there."""
    named = [word for pattern in patterns for word in ("--onward-for", pattern)]
    return ["--onward", place, "--onward-peer", peer, *named]


def two_gates(
    processes: Processes,
    identities: Identities,
    allow: list[str],
    *patterns: str,
    near: tuple[str, ...] = (),
    far: tuple[str, ...] = (),
) -> tuple[Role, Role]:
    """Gate A, whose next one is gate B, which allows gate A what is listed."""
    gate_b = start_gate(processes, identities, allow, *far, name="gate-b", peers=("gate-a",))
    place = gate_b.address("listening on")
    gate_a = start_gate(
        processes, identities, [], *onward(place, "gate-b", *patterns), *near, name="gate-a"
    )
    gate_b.wait_for("with gate-a is up")
    return gate_a, gate_b


def test_programs_of_one_network_reach_another_one_by_two_gates(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    """No machine resolves that name: gate A does not look it up, and gate B has a map for it."""
    digest = web.add("file", 3 * MIB)
    gate_a, gate_b = two_gates(
        processes,
        identities,
        [f"tcp:127.0.0.1:{web.port}"],
        "tcp:*.b.example:80-443",
        far=("--map", f"web.b.example:80=tcp:127.0.0.1:{web.port}"),
    )
    portal = start_portal(
        processes, identities, gate_a.address("listening on"), "--socks", "0", peer="gate-a"
    )
    through = ("--socks5-hostname", portal.address("socks"))
    assert curl(*through, "http://web.b.example/file").sha256 == digest
    # Each gate says for whom, and what has allowed it.
    gate_a.wait_for("opened in peer=client destination=tcp:web.b.example:80 .*rule=tcp:.*80-443")
    gate_a.wait_for("opened out peer=gate-b destination=tcp:web.b.example:80 .*origin=client")
    gate_b.wait_for("opened in peer=gate-a destination=tcp:web.b.example:80 .*rule=tcp:127.0.0.1")
    # What gate B does not allow, and what does not go onward.
    assert curl(*through, "http://other.b.example:81/").said.endswith("(2)")
    gate_b.wait_for("Not allowed: no rule allows gate-a to connect tcp other.b.example")
    assert curl(*through, f"http://127.0.0.1:{web.port}/file").said.endswith("(2)")
    gate_a.wait_for("Not allowed: no rule allows client")


def test_ends_and_resets_pass_both_gates_and_a_lost_next_gate_comes_back(
    processes: Processes, identities: Identities
) -> None:
    with Application(echo) as there:
        target = f"tcp:127.0.0.1:{there.port}"
        gate_a, gate_b = two_gates(processes, identities, [target], target)
        portal = start_portal(
            processes,
            identities,
            gate_a.address("listening on"),
            *("--forward", f"0={target}"),
            peer="gate-a",
        )
        host, _, port = portal.address("forward").rpartition(":")
        with socket.create_connection((host, int(port)), 20) as sock:
            sock.sendall(b"x" * MIB)
            sock.shutdown(socket.SHUT_WR)
            assert receive(sock, MIB) == b"x" * MIB
            assert sock.recv(1) == b""
        with socket.create_connection((host, int(port)), 20) as sock:
            sock.sendall(b"before")
            assert receive(sock, 6) == b"before"
            gate_b.process.kill()
            try:
                assert sock.recv(1) != b"", "a clean end"
            except ConnectionResetError:
                pass
        place = gate_b.address("listening on")
        again = processes.role(
            "usher-gate", "--listen", place, "--identity", identities("gate-b"),
            "--peer", "gate-a", "--allow", target,
        )  # fmt: skip
        again.wait_for("with gate-a is up")
        with socket.create_connection((host, int(port)), 20) as sock:
            sock.sendall(b"again")
            assert receive(sock, 5) == b"again"


def test_two_gates_that_lead_to_each_other_refuse_and_say_so(
    processes: Processes, identities: Identities
) -> None:
    port = free_port()
    pattern = "tcp:*.nowhere.example:80"
    gate_b = start_gate(
        processes,
        identities,
        [],
        *onward(f"127.0.0.1:{port}", "gate-a", pattern),
        name="gate-b",
        peers=("gate-a",),
    )
    place = gate_b.address("listening on")
    processes.role(
        "usher-gate", "--listen", f"127.0.0.1:{port}", "--identity", identities("gate-a"),
        "--peer", "client", *onward(place, "gate-b", pattern),
    )  # fmt: skip
    portal = start_portal(processes, identities, f"127.0.0.1:{port}", "--socks", "0", peer="gate-a")
    url = "http://web.nowhere.example/"
    assert curl("--socks5-hostname", portal.address("socks"), url).status != 0
    portal.wait_for("outcome=refused-refused .*reason=ring")
    gate_b.wait_for("channel in peer=gate-a destination=tcp:web.nowhere.example:80 .*reason=ring")
