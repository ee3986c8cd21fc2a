"""What an end shows of the way to the other one: names, roles, addresses, and what is proved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.acceptance.processes import Identities, Processes, Role, tunnelkit
from tests.acceptance.test_usher_onward import two_gates
from tests.acceptance.tunnels import (
    COMMUNICATION_SERVER,
    LstpTunnel,
    SessionTunnel,
    Transport,
    start_portal,
)

SOCKET = re.compile(r"127\.0\.0\.1:\d+")


def hops(control: Path) -> list[dict[str, Any]]:
    """Of the running role."""
    found: list[dict[str, Any]] = json.loads(tunnelkit("status", "--control", control, "--json"))[
        "hops"
    ]
    return found


def told(hop: dict[str, Any]) -> tuple[str, str, bool]:
    return hop["name"], hop["role"], hop["proved"]


def place(role: Role) -> str:
    return role.address("listening on")


def test_an_end_shows_who_is_on_its_path_and_what_of_that_is_proved(
    transport: Transport, tmp_path: Path
) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    tunnel = transport(
        ["tcp:127.0.0.1:9"], "--socks", "0", "--control", near, server=["--control", far]
    )
    tunnel.server.wait_for("with client is up")
    here, there = hops(near), hops(far)
    if isinstance(tunnel, LstpTunnel):
        between, roles = [(here[1]["name"], "middle", False)], ("client-end", "server-end")
        # It says itself where it is, and this end sees the same.
        assert here[1]["address"] == here[1]["seen"] == place(tunnel.middle)
    elif isinstance(tunnel, SessionTunnel):
        between = [(COMMUNICATION_SERVER, "communication-server", False)]
        roles = ("client", "client")
    else:
        between, roles = [], ("portal", "gate")
        assert here[1]["seen"] == place(tunnel.server)
        # Each sees the other's address.
        assert (there[1]["seen"], there[0]["seen"]) == (here[0]["seen"], here[1]["seen"])
    ends = [("client", roles[0], True), ("server", roles[1], True)]
    assert [told(hop) for hop in here] == [ends[0], *between, ends[1]]
    assert [told(hop) for hop in there] == [ends[1], *between, ends[0]]
    for path in (here, there):
        assert [bool(SOCKET.fullmatch(hop["seen"])) for hop in path] == [
            number < 2 for number in range(len(path))
        ]
        assert {hop["tunnel"] for hop in path} == {1}
    # As people read it: one hop a line.
    text = tunnelkit("status", "--control", near)
    assert re.search(rf"^hops +name=client role={roles[0]} address= seen=127", text, re.MULTILINE)
    assert re.search(rf"^ +name=server role={roles[1]} .*proved=True tunnel=1$", text, re.MULTILINE)


def test_a_gate_shows_its_portals_and_the_way_to_the_next_gate(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "gate"
    gate_a, gate_b = two_gates(
        processes, identities, ["tcp:127.0.0.1:9"], "tcp:127.0.0.1:9",
        near=("--control", str(control)),
    )  # fmt: skip
    start_portal(processes, identities, place(gate_a), "--socks", "0", peer="gate-a")
    found = hops(control)
    assert [(hop["tunnel"], *told(hop)) for hop in found] == [
        (1, "gate-a", "gate", True),
        (1, "client", "portal", True),
        (2, "gate-a", "portal", True),
        (2, "gate-b", "gate", True),
    ]
    assert found[3]["seen"] == place(gate_b)
    where = json.loads(tunnelkit("status", "--control", control, "--json"))["where"]
    assert where.endswith("(connected)")
