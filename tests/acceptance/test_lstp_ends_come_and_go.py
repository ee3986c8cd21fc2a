"""Ends that lose their middle, several ends of one tunnel, ends whose certificate is revoked."""

from __future__ import annotations

import re
import shutil
import socket
import time
from pathlib import Path

from tests.acceptance.processes import (
    Identities,
    Processes,
    Role,
    WebServer,
    fetches,
    free_port,
    tunnelkit,
)
from tests.acceptance.tunnels import (
    meeting,
    start_client_end,
    start_server_end,
    start_tunnel,
)

KIB = 1 << 10


def test_ends_wait_for_a_middle_and_come_back_to_it(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    place = f"127.0.0.1:{free_port()}"
    common = ("--middle", place, "--tunnel", "test")
    server = processes.role(
        "lstp-server-end", *common, "--identity", identities("server"), "--peer", "client",
        "--allow", target, wait=False,
    )  # fmt: skip
    client = processes.role(
        "lstp-client-end", *common, "--identity", identities("client"), "--peer", "server",
        "--forward", f"0={target}", wait=False,
    )  # fmt: skip
    waits = []
    for role in (server, client):
        line = rf"cannot reach the middle {place}: .*refused.*; trying again in ([0-9.]+) s"
        waits.append(float(role.wait_for(line)[1]))
    assert all(0.1 <= wait <= 0.4 for wait in waits)

    middle = processes.role("lstp-middle", "--listen", place)
    client = Role(client.process)
    assert fetches(client, digest)

    before = len(client.process.lines)
    middle.process.kill()
    client.wait_for("has ended", since=before)
    processes.role("lstp-middle", "--listen", place)
    began = time.monotonic()
    client.wait_for("Tunnel test with server is up", since=before)
    assert time.monotonic() - began < 3
    assert fetches(client, digest)


def test_a_request_waits_for_a_tunnel_that_is_coming_back(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    tunnel = start_tunnel(processes, identities, [target], "--forward", f"0={target}")
    tunnel.server.process.kill()
    tunnel.client.wait_for("has ended")
    start_server_end(processes, identities, tunnel.middle, [target])
    assert fetches(tunnel.client, digest)


def test_one_server_end_serves_several_client_ends(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    processes.role(
        "lstp-server-end", *meeting(middle), "--identity", identities("server"),
        "--peer", "client", "--peer", "other", "--allow", f"client,oth*={target}",
    )  # fmt: skip
    clients = [
        processes.role(
            "lstp-client-end", *meeting(middle), "--identity", identities(name),
            "--peer", "server", "--forward", f"0={target}",
        )
        for name in ("client", "client", "other")
    ]  # fmt: skip
    assert all(fetches(client, digest) for client in clients)
    assert clients[0].process.stop() == 0
    assert all(fetches(client, digest) for client in clients[1:])


def test_one_tunnel_with_forwards_in_both_directions(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    both = ("--both", "--forward", f"0={target}")
    server = start_server_end(processes, identities, middle, [target], *both)
    client = start_client_end(processes, identities, middle, *both, "--allow", target)
    client.wait_for("Tunnel test with server is up")
    assert fetches(client, digest)
    assert fetches(server, digest)


def test_further_connections_carry_channels_too(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    size = 5_000 * KIB
    web.add("file", size)
    target = f"tcp:127.0.0.1:{web.port}"
    tunnel = start_tunnel(
        processes, identities, [target], "--forward", f"0={target}", "--connections", "3"
    )
    tunnel.client.wait_for("Tunnel test with server has 3 connections")
    entrance = ("127.0.0.1", tunnel.client.port("forward"))
    open_at_once = [socket.create_connection(entrance, timeout=10) for _ in range(6)]
    for sock in open_at_once:
        sock.sendall(b"GET /file HTTP/1.0\r\n\r\n")
    for sock in open_at_once:
        with sock, sock.makefile("rb") as answer:
            assert len(answer.read()) > size
    tunnel.client.process.stop()
    carried = []
    for number in (1, 2, 3):
        end = tunnel.middle.wait_for(rf"Pair {number} ended.*?(\d+) and (\d+) bytes")
        carried.append(int(end[1]) + int(end[2]))
    assert all(amount > 2 * size for amount in carried), carried


def test_whoever_is_revoked_is_cut_and_stays_out(
    processes: Processes, identities: Identities, web: WebServer, tmp_path: Path
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    own = Identities.create(tmp_path / "keys")
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    server = processes.role(
        "lstp-server-end", *meeting(middle), "--identity", own("server"), "--peer", "good",
        "--peer", "bad", "--allow", target, "--crl", own.revoked,
    )  # fmt: skip
    good, bad = (
        processes.role(
            "lstp-client-end", *meeting(middle), "--identity", own(name), "--peer", "server",
            "--forward", f"0={target}", "--no-crl",
        )
        for name in ("good", "bad")
    )  # fmt: skip
    assert fetches(good, digest)
    assert fetches(bad, digest)
    with socket.create_connection(("127.0.0.1", good.port("forward")), timeout=10) as kept:
        own.revoke("bad")
        began = time.monotonic()
        bad.wait_for("has ended")
        assert time.monotonic() - began < 5
        server.wait_for("bad has been revoked")
        server.wait_for('No tunnel test with who calls itself "bad"')
        kept.sendall(b"GET /file HTTP/1.0\r\n\r\n")
        assert re.match(rb"HTTP/1\.. 200 ", kept.recv(1000))
    assert fetches(good, digest)

    seen = len(server.process.lines)
    aside = tmp_path / "aside"
    shutil.copy(own.revoked, aside)
    own.revoked.write_text("nonsense")
    server.wait_for("nobody gets in", since=seen)
    late = processes.role(
        "lstp-client-end", *meeting(middle), "--identity", own("good"), "--peer", "server",
        "--socks", "0", "--no-crl", wait=False,
    )  # fmt: skip
    server.wait_for('No tunnel test with who calls itself "good"', since=seen)
    shutil.move(aside, own.revoked)
    late.wait_for("Tunnel test with server is up")


def test_a_renewed_certificate_is_used_without_a_restart(
    processes: Processes, web: WebServer, tmp_path: Path
) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    own = Identities.create(tmp_path / "keys")
    tunnel = start_tunnel(processes, own, [target], "--forward", f"0={target}")
    tunnelkit("keys", "renew", "client", "--dir", own.directory)
    tunnel.client.wait_for("New certificate for client in force")
    assert fetches(tunnel.client, digest)
    before = len(tunnel.client.process.lines)
    tunnel.server.process.kill()
    tunnel.client.wait_for("has ended", since=before)
    start_server_end(processes, own, tunnel.middle, [target])
    tunnel.client.wait_for("Tunnel test with server is up", since=before)
    assert fetches(tunnel.client, digest)
