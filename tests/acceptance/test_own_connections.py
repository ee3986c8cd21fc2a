"""A tunnel connection of its own for a forward: bulk on it leaves the shared one alone (L16)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.applications import Application, Received, echo, pour, receive
from tests.acceptance.eavesdropper import Eavesdropper
from tests.acceptance.processes import Identities, Processes, Role
from tests.acceptance.tunnels import (
    COMMUNICATION_POLICY,
    COMMUNICATION_SERVER,
    rules,
    start_gate,
    start_portal,
    start_server_end,
)

MIB = 1 << 20
BULK = 2 * MIB

Watched = Callable[..., tuple[Role, Eavesdropper]]
"""``(allow, *options of the dialling end)``: that end, and who sits on its way out."""


def usher(
    processes: Processes, identities: Identities, allow: list[str], *options: str
) -> tuple[Role, Eavesdropper]:
    gate = start_gate(processes, identities, allow)
    watching = Eavesdropper(gate.address("listening on"))
    return start_portal(processes, identities, watching.place, *options), watching


def lstp(
    processes: Processes, identities: Identities, allow: list[str], *options: str
) -> tuple[Role, Eavesdropper]:
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    start_server_end(processes, identities, middle, allow)
    watching = Eavesdropper(middle.address("listening on"))
    client = processes.role(
        "lstp-client-end", "--middle", watching.place, "--tunnel", "test",
        "--identity", identities("client"), "--peer", "server", *options,
    )  # fmt: skip
    return client, watching


def secure_proxy(
    processes: Processes, identities: Identities, allow: list[str], *options: str
) -> tuple[Role, Eavesdropper]:
    policy = processes.directory / "communication.toml"
    policy.write_text(COMMUNICATION_POLICY)
    meeting = processes.role(
        "secure-proxy-server", "--listen", "127.0.0.1:0",
        "--identity", identities(COMMUNICATION_SERVER), "--policy", policy,
    )  # fmt: skip
    place, named = meeting.address("listening on"), ("--server-name", COMMUNICATION_SERVER)
    processes.role(
        "secure-proxy-client", "--server", place, *named, "--identity", identities("server"),
        "--publish", "tunnel", "--peer", "client", *rules(allow),
    )  # fmt: skip
    meeting.wait_for("action=publish what=tunnel allowed=True")
    watching = Eavesdropper(place)
    client = processes.role(
        "secure-proxy-client", "--server", watching.place, *named,
        "--identity", identities("client"), "--target", "server", *options,
    )  # fmt: skip
    return client, watching


@pytest.fixture(params=[usher, lstp, secure_proxy], ids=lambda start: start.__name__)
def watched(
    request: pytest.FixtureRequest, processes: Processes, identities: Identities
) -> Iterator[Watched]:
    watching: list[Eavesdropper] = []

    def start(*options: object) -> tuple[Role, Eavesdropper]:
        end, eavesdropper = request.param(processes, identities, *options)
        watching.append(eavesdropper)
        return end, eavesdropper

    yield start
    for one in watching:
        one.close()


def connect(end: Role, number: int) -> socket.socket:
    """To that forward of ``end``."""
    host, _, port = end.address("forward", number).rpartition(":")
    return socket.create_connection((host, int(port)), 20)


SHARED, OWN = 0, 1


def test_a_busy_forward_with_its_own_connection_leaves_the_shared_one_alone(
    watched: Watched,
) -> None:
    with Application(echo) as small, Application(lambda sock: pour(sock, BULK)) as bulk:
        end, watching = watched(
            [small.destination, bulk.destination],
            *("--forward", f"0={small.destination}"),
            *("--forward", f"0={bulk.destination},connection=own"),
        )
        with connect(end, SHARED) as shared:
            shared.sendall(b"before")
            assert receive(shared, 6) == b"before"
            carried = len(watching.downwards)
            with connect(end, OWN) as own, connect(end, OWN) as other:
                one, two = Received(own), Received(other)
                one.at_least(MIB // 2)
                end.wait_for("a connection of its own is up")
                shared.sendall(b"meanwhile")
                assert receive(shared, 9) == b"meanwhile"
                for received in (one, two):
                    received.at_least(BULK)
                    assert received.exact
            end.wait_for("the connection of its own has ended")
            shared.sendall(b"after")
            assert receive(shared, 5) == b"after"
            # Both channels of that forward were on one connection, which is a new one.
            sizes = [len(stream) for stream in watching.downwards]
            assert max(sizes[:carried]) < MIB
            assert max(sizes[carried:]) > 2 * BULK
        # It is made again for who comes later.
        with connect(end, OWN) as own:
            Received(own).at_least(BULK)
        assert sum(len(stream) > BULK for stream in watching.downwards) == 2


def test_a_gate_cannot_be_told_to_make_connections(
    processes: Processes, identities: Identities
) -> None:
    refused = processes.role(
        "usher-gate", "--listen", "127.0.0.1:0", "--identity", identities("server"),
        "--peer", "client", "--forward", "0=tcp:127.0.0.1:9,connection=own", wait=False,
    )  # fmt: skip
    refused.wait_for("--forward .*a gate is dialled, it makes no connections: expected")
    assert refused.process.wait() == 2
