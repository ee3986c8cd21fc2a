"""Portals and gates: both directions, several portals, proxies, chains, who may come in."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.processes import (
    Identities,
    Processes,
    WebServer,
    curl,
    fetches,
    free_port,
)
from tests.acceptance.real_proxies import Proxies
from tests.acceptance.tunnels import start_gate, start_portal, start_usher_tunnel

KIB = 1 << 10
SECRET = "correct horse"


@pytest.fixture
def proxies(processes: Processes) -> Proxies:
    return Proxies(processes)


def test_programs_at_the_gate_reach_what_the_portal_allows(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    gate = start_gate(processes, identities, [], "--forward", f"0={target}", "--socks", "0")
    place = gate.address("listening on")
    portal = start_portal(processes, identities, place, "--allow", target)
    assert fetches(gate, digest)
    url = f"http://127.0.0.1:{web.port}/file"
    assert curl("--socks5-hostname", gate.address("socks"), url).sha256 == digest
    # No rule of the gate's: its side cannot be reached from the portal's.
    refused = curl("--socks5-hostname", gate.address("socks"), "http://127.0.0.1:9/")
    assert refused.said.endswith("(2)"), refused.said
    portal.wait_for("Not allowed")


def test_rules_of_a_gate_can_be_for_one_portal(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    gate = start_gate(processes, identities, [f"first={target}"], peers=("first", "second"))
    place = gate.address("listening on")
    first, second = (
        start_portal(processes, identities, place, "--forward", f"0={target}", name=name)
        for name in ("first", "second")
    )
    assert fetches(first, digest)
    assert not fetches(second, digest)
    gate.wait_for("no rule allows second to connect")


def test_a_gate_that_serves_only_ports_of_its_own_host(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 100 * KIB)
    tunnel = start_usher_tunnel(
        processes, identities, [f"tcp:127.0.0.1:{web.port}"], "--socks", "0"
    )
    url = f"http://127.0.0.1:{web.port}/file"
    assert curl("--socks5-hostname", tunnel.socks, url).sha256 == digest
    for other in (
        f"http://127.0.0.2:{web.port}/file",
        f"http://localhost:{web.port + 1}/file",
        f"http://[::1]:{web.port}/file",
        f"http://{tunnel.server.address('listening on')}/",
    ):
        refused = curl("--socks5-hostname", tunnel.socks, other)
        assert refused.said.endswith("(2)"), refused.said


def test_a_gate_answers_from_its_own_port_under_the_name_that_programs_use(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    """Row U9: nobody resolves that name, and nothing else can be reached under it."""
    digest = web.add("file", 100 * KIB)
    tunnel = start_usher_tunnel(
        processes,
        identities,
        [f"tcp:127.0.0.1:{web.port}"],
        *("--socks", "0"),
        server=["--map", f"db.corp.example:5432=tcp:127.0.0.1:{web.port}"],
    )
    url = "http://db.corp.example:5432/file"
    assert curl("--socks5-hostname", tunnel.socks, url).sha256 == digest
    for other in ("http://db.corp.example:5433/file", "http://www.corp.example:5432/file"):
        refused = curl("--socks5-hostname", tunnel.socks, other)
        assert refused.said.endswith("(2)"), refused.said


def through_socks(proxies: Proxies, password: Path) -> list[str]:
    port = proxies.microsocks("-u", "me", "-P", SECRET)
    return ["--via", f"socks5://me@127.0.0.1:{port}", "--via-password-file", str(password)]


def through_connect(proxies: Proxies, password: Path) -> list[str]:
    port = proxies.squid(SECRET)
    return ["--via", f"http://me@127.0.0.1:{port}", "--via-password-file", str(password)]


def through_both(proxies: Proxies, password: Path) -> list[str]:
    inner, outer = proxies.squid(None), proxies.microsocks()
    return ["--via", f"socks5://127.0.0.1:{outer}", "--via", f"http://127.0.0.1:{inner}"]


@pytest.mark.parametrize("way", [through_socks, through_connect, through_both])
def test_a_portal_reaches_its_gate_through_proxies(
    processes: Processes,
    identities: Identities,
    web: WebServer,
    proxies: Proxies,
    way: Callable[[Proxies, Path], list[str]],
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    password = processes.directory / "password"
    password.write_text(f"{SECRET}\n")
    password.chmod(0o600)
    gate = start_gate(processes, identities, [target])
    via = way(proxies, password)
    portal = start_portal(
        processes, identities, gate.address("listening on"), *via, "--forward", f"0={target}"
    )
    assert fetches(portal, digest)
    assert f"via {via[1].replace('me@', '')}" in portal.ready


def test_two_networks_with_a_gate_each(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    """User in network A - gate A - portal beside it - gate B - network B (docs/howto/usher.md)."""
    digest = web.add("file", 100 * KIB)
    gate_b = start_gate(
        processes,
        identities,
        [f"tcp:localhost:{web.port}@127.0.0.0/8,::1"],
        name="gate-b",
        peers=("beside-a",),
    )
    beside_a = start_portal(
        processes, identities, gate_b.address("listening on"), "--socks", "0",
        name="beside-a", peer="gate-b",
    )  # fmt: skip
    entrance = f"tcp:{beside_a.address('socks')}"
    gate_a = start_gate(processes, identities, [entrance], name="gate-a", peers=("user",))
    user = start_portal(
        processes, identities, gate_a.address("listening on"), "--forward", f"0={entrance}",
        name="user", peer="gate-a",
    )  # fmt: skip
    # The name is resolved in network B.
    url = f"http://localhost:{web.port}/file"
    assert curl("--socks5-hostname", user.address("forward"), url).sha256 == digest
    gate_b.wait_for(rf"localhost:{web.port}.*beside-a|beside-a.*localhost:{web.port}")


def test_who_is_not_admitted_is_refused_and_logged(
    processes: Processes, identities: Identities
) -> None:
    gate = start_gate(
        processes, identities, ["tcp:127.0.0.1:1"], "--admit", "10.0.0.0/8",
        "--from", "10.1.0.0/16", "--socks", "0",
    )  # fmt: skip
    portal = start_portal(
        processes, identities, gate.address("listening on"), "--socks", "0", wait=False
    )
    gate.wait_for(r"Not admitted to \S+: 127.0.0.1:\d+ \(--admit\)")
    portal.wait_for("trying again in")
    host, _, port = gate.address("socks").rpartition(":")

    def enter() -> None:
        # The reset may come before the connection is made, or after.
        with socket.create_connection((host, int(port)), timeout=10) as near:
            near.recv(1)

    with pytest.raises(ConnectionResetError):
        enter()
    gate.wait_for(r"Not admitted to \S+: 127.0.0.1:\d+ \(--from\)")


def test_whoever_is_not_a_named_peer_stays_out(
    processes: Processes, identities: Identities
) -> None:
    gate = start_gate(processes, identities, ["tcp:127.0.0.1:1"])
    place = gate.address("listening on")
    stranger = start_portal(
        processes, identities, place, "--socks", "0", name="stranger", wait=False
    )
    gate.wait_for("Refused a portal from .*stranger")
    stranger.wait_for("trying again in")
    mistaken = start_portal(
        processes, identities, place, "--socks", "0", peer="somebody-else", wait=False
    )
    mistaken.wait_for("server.*trying again in")


def test_a_portal_comes_back_to_a_gate_that_was_restarted(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    place = f"127.0.0.1:{free_port()}"
    gate = ("usher-gate", "--listen", place, "--identity", identities("server"), "--peer", "client")
    first = processes.role(*gate, "--allow", target)
    portal = start_portal(processes, identities, place, "--forward", f"0={target}")
    assert fetches(portal, digest)
    before = len(portal.process.lines)
    first.process.kill()
    portal.wait_for("has ended", since=before)
    processes.role(*gate, "--allow", target)
    began = time.monotonic()
    portal.wait_for("with server is up", since=before)
    assert time.monotonic() - began < 3
    assert fetches(portal, digest)


def test_a_revoked_portal_is_cut_and_stays_out(
    processes: Processes, web: WebServer, tmp_path: Path
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    own = Identities.create(tmp_path / "keys")
    gate = start_gate(processes, own, [target], "--crl", own.revoked, peers=("good", "bad"))
    good, bad = (
        start_portal(
            processes, own, gate.address("listening on"), "--forward", f"0={target}", name=name
        )
        for name in ("good", "bad")
    )
    assert fetches(good, digest)
    assert fetches(bad, digest)
    own.revoke("bad")
    began = time.monotonic()
    bad.wait_for("has ended")
    assert time.monotonic() - began < 5
    gate.wait_for("bad has been revoked")
    gate.wait_for("Refused a portal from .*bad has been revoked")
    assert fetches(good, digest)


def test_a_gate_that_drains_finishes_what_is_open(
    processes: Processes, identities: Identities
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        target = f"tcp:127.0.0.1:{application.getsockname()[1]}"
        tunnel = start_usher_tunnel(processes, identities, [target], "--forward", f"0={target}")
        entrance = ("127.0.0.1", tunnel.client.port("forward"))
        with socket.create_connection(entrance, timeout=10) as near:
            far, _ = application.accept()
            with far:
                tunnel.server.process.child.terminate()
                tunnel.server.wait_for("Ending")
                far.sendall(b"x" * KIB)
                far.shutdown(socket.SHUT_WR)
                with near.makefile("rb") as answer:
                    assert len(answer.read()) == KIB
                near.sendall(b"after")
                near.shutdown(socket.SHUT_WR)
                with far.makefile("rb") as rest:
                    assert rest.read() == b"after"
        assert tunnel.server.process.wait() == 0
