"""The ports that a scanner of TLS can reach: what listens there, and how it is addressed."""

from __future__ import annotations

import attrs

from tests.acceptance.processes import Identities, Processes
from tests.acceptance.tunnels import COMMUNICATION_POLICY, COMMUNICATION_SERVER, start_gate

INSIDE = "inside.example"


@attrs.frozen
class Place:
    """One TLS port."""

    name: str
    address: str
    """``HOST:PORT``."""
    server_name: str = ""
    """What a client has to say (SNI) to get there."""


def start_places(processes: Processes, identities: Identities) -> list[Place]:
    """A gate, the same gate behind a bastion (end to end), and a Communication Server."""
    # A scanner comes more often than a stranger may (X16): here its address is a bastion's.
    often = ("--bastion", "127.0.0.1/32")
    gate = start_gate(processes, identities, ["tcp:127.0.0.1:9"], *often)
    inside = gate.address("listening on")
    bastion = start_gate(
        processes, identities, [], "--relay", f"{INSIDE}={inside}",
        name="bastion", peers=("nobody",),
    )  # fmt: skip
    policy = processes.directory / "communication.toml"
    policy.write_text(COMMUNICATION_POLICY)
    server = processes.role(
        "secure-proxy-server", "--listen", "127.0.0.1:0",
        "--identity", identities(COMMUNICATION_SERVER), "--policy", policy,
    )  # fmt: skip
    return [
        Place("gate", inside),
        Place("gate behind a bastion", bastion.address("listening on"), INSIDE),
        Place("communication server", server.address("listening on"), COMMUNICATION_SERVER),
    ]
