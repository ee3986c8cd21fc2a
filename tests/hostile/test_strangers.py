"""Strangers without a key, at every port that awaits somebody (X7, X16, X24, X25)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.applications import Application, echo
from tests.acceptance.processes import TWISTD, Identities, Process, Processes, Role
from tests.acceptance.tunnels import (
    STARTERS,
    LstpTunnel,
    RunningTunnel,
    SessionTunnel,
    start_client_end,
    start_gate,
    start_portal,
    start_server_end,
)
from tests.hostile.honest import (
    BUDGET,
    Place,
    ask,
    attack,
    going_on,
    peak,
    place_of,
    struck,
    use,
)
from tests.peers.usher_portal import UsherPortal


@pytest.fixture
def server() -> Iterator[Application]:
    with Application(echo) as running:
        yield running


def target(server: Application) -> Place:
    return place_of(server.destination.removeprefix("tcp:"))


def attacked(tunnel: RunningTunnel, processes: Processes) -> tuple[Process, Place]:
    """What awaits strangers, and where."""
    if isinstance(tunnel, LstpTunnel):
        return tunnel.middle.process, place_of(tunnel.middle.address("listening on"))
    if isinstance(tunnel, SessionTunnel):
        return processes.named("secure-proxy-server"), place_of(tunnel.place[1])
    return tunnel.server.process, place_of(tunnel.server.address("listening on"))


@pytest.mark.parametrize("kind", list(STARTERS))
def test_a_tunnel_that_is_up_does_not_notice_them(
    kind: str, processes: Processes, identities: Identities, server: Application
) -> None:
    tunnel = STARTERS[kind](
        processes, identities, [server.destination], "--forward", f"0={server.destination}"
    )
    role, place = attacked(tunnel, processes)
    forward = place_of(tunnel.client.address("forward"))
    ask(forward)
    before = peak(role)
    attacker = attack(processes, "strangers", place)
    experience = use(lambda: ask(forward), lambda: ask(target(server)), going_on(attacker))
    experience.was_good()
    struck(attacker)
    assert peak(role) - before < BUDGET


def test_portals_get_in_at_a_gate_that_is_flooded(
    processes: Processes, identities: Identities, server: Application
) -> None:
    gate = start_gate(processes, identities, [server.destination], "--protocol", "usher")
    place = place_of(gate.address("listening on"))
    identity = identities("client")

    def come_in() -> None:
        with UsherPortal(place, identity, timeout=20) as portal:
            session = portal.open(*target(server))
            session.send(b"hello")
            assert session.receive(5) == b"hello"

    come_in()
    before = peak(gate.process)
    attacker = attack(processes, "strangers", place)
    use(come_in, lambda: ask(target(server)), going_on(attacker)).was_good()
    struck(attacker)
    assert peak(gate.process) - before < BUDGET


def test_hellos_in_crumbs_at_a_bastion_keep_nobody_waiting(
    processes: Processes, identities: Identities, server: Application
) -> None:
    inside = start_gate(processes, identities, [server.destination])
    relay = f"inside.example={inside.address('listening on')}"
    bastion = start_gate(
        processes, identities, [], "--relay", relay, name="bastion", peers=("nobody",)
    )
    place = bastion.address("listening on")
    portal = start_portal(
        processes, identities, place, "--server-name", "inside.example",
        "--forward", f"0={server.destination}",
    )  # fmt: skip
    forward = place_of(portal.address("forward"))
    attacker = attack(processes, "crumbs", place_of(place))
    use(lambda: ask(forward), lambda: ask(target(server)), going_on(attacker)).was_good()
    struck(attacker)


def test_a_tunnel_comes_up_while_an_address_takes_every_descriptor(
    processes: Processes, identities: Identities, server: Application
) -> None:
    command = ("prlimit", "--nofile=200:200", *TWISTD, "-n", "--pidfile=", "lstp-middle")
    middle = Role(processes.start("lstp-middle", *command, "--listen", "127.0.0.1:0"))
    attacker = attack(processes, "silent", place_of(middle.address("listening on")))
    start_server_end(processes, identities, middle, [server.destination])
    near = start_client_end(processes, identities, middle, "--forward", f"0={server.destination}")
    forward = place_of(near.address("forward"))
    use(lambda: ask(forward), lambda: ask(target(server)), going_on(attacker)).was_good()
    struck(attacker)
