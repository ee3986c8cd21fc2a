"""Ports that the far side opens for this one, over each transport: ``--reverse``, SOCKS BIND."""

from __future__ import annotations

import socket

import pytest

from tests.acceptance.processes import Identities, Processes, Role, WebServer, curl
from tests.acceptance.socks_client import BIND, LIMIT, SocksClient
from tests.acceptance.tunnels import (
    Transport,
    start_client_end,
    start_server_end,
)

SIZE = 8 << 20


def far_address(role: Role, since: int = 0) -> str:
    """Where the far side listens, as the end with ``--reverse`` logs it."""
    return role.wait_for(r"reverse \S+ to \S+: \S+ listens on (\S+)", since=since)[1]


def refuses(address: str) -> bool:
    """Whether nobody listens at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), LIMIT).close()
    except ConnectionRefusedError:
        return True
    return False


def test_curl_at_the_far_side_reaches_what_is_here(transport: Transport, web: WebServer) -> None:
    digest = web.add("file", SIZE)
    target = f"tcp:127.0.0.1:{web.port}"
    # The rule for the port is the far side's; the destination needs none here.
    tunnel = transport(["listen:127.0.0.1:0"], "--reverse", f"0={target}")
    address = far_address(tunnel.client)
    for _ in range(2):
        fetched = curl(f"http://{address}/file")
        assert (fetched.status, fetched.sha256) == (0, digest)
    assert tunnel.client.process.stop() == 0
    assert refuses(address)


def test_only_the_ports_that_the_rules_name_are_opened(transport: Transport) -> None:
    tunnel = transport(["listen:127.0.0.1:1-1024"], "--reverse", "8080=tcp:127.0.0.1:9")
    tunnel.server.wait_for("Not allowed: no rule allows client to bind tcp")
    tunnel.client.wait_for("no port: not-allowed")


def test_what_came_in_over_the_port_outlives_it_and_whoever_may_not_enter_is_reset(
    transport: Transport,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        service.settimeout(LIMIT)
        target = f"tcp:127.0.0.1:{service.getsockname()[1]}"
        tunnel = transport(
            ["listen:127.0.0.1:0"],
            *("--reverse", f"0={target}"),
            server=["--from", "127.0.0.1"],
        )
        host, _, port = far_address(tunnel.client).rpartition(":")
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.2", 0))
            stranger.settimeout(LIMIT)

            def enter(stranger: socket.socket = stranger) -> None:
                # The reset may come before the connection is made, or after.
                stranger.connect((host, int(port)))
                stranger.recv(1)

            with pytest.raises(ConnectionResetError):
                enter()
        with socket.create_connection((host, int(port)), LIMIT) as client:
            client.sendall(b"hello")
            served, _ = service.accept()
            with served:
                served.settimeout(LIMIT)
                assert served.recv(5) == b"hello"
                tunnel.client.process.child.terminate()
                tunnel.client.wait_for("Ending: nothing new is taken")
                served.sendall(b"bye")
                assert client.recv(3) == b"bye"
                client.shutdown(socket.SHUT_WR)
                assert served.recv(1) == b""
        assert tunnel.client.process.wait() == 0


def test_the_port_is_opened_again_with_each_tunnel(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", 1000)
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    server = start_server_end(processes, identities, middle, ["listen:127.0.0.1:0"])
    client = start_client_end(
        processes, identities, middle, "--reverse", f"0=tcp:127.0.0.1:{web.port}"
    )
    first = far_address(client)
    server.process.kill()
    client.wait_for("no port: reset")
    assert refuses(first)
    seen = len(client.process.lines)
    start_server_end(processes, identities, middle, ["listen:127.0.0.1:0"])
    assert curl(f"http://{far_address(client, seen)}/file").sha256 == digest


def test_a_socks_client_waits_for_a_connection_at_the_far_side(transport: Transport) -> None:
    tunnel = transport(["listen:127.0.0.1:0"], "--socks", "0")
    client = SocksClient(tunnel.socks)
    code, bound = client.request(BIND, "127.0.0.1", 0)
    assert code == 0
    assert bound[0] == "127.0.0.1"
    # Sent too early, but not lost.
    client.control.sendall(b"welcome")
    with socket.create_connection(bound, LIMIT) as caller:
        assert client.reply() == (0, caller.getsockname())
        assert caller.recv(7) == b"welcome"
        caller.sendall(b"thanks")
        assert client.control.recv(6) == b"thanks"
        caller.shutdown(socket.SHUT_WR)
        assert client.control.recv(1) == b""
        client.close()
        assert caller.recv(1) == b""
    tunnel.server.wait_for(r"destination=listen:tcp:127.0.0.1:0 .*outcome=done")
    assert refuses(f"{bound[0]}:{bound[1]}")


def test_bind_names_the_address_that_the_far_side_connects_from(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ftp_server:
        port = ftp_server.getsockname()[1]
        tunnel = transport([f"tcp:127.0.0.1:{port}", "listen:0.0.0.0:0"], "--socks", "0")
        control, data = SocksClient(tunnel.socks), SocksClient(tunnel.socks)
        assert control.request(1, "127.0.0.1", port)[0] == 0
        code, bound = data.request(BIND, "0.0.0.0", 0)
        assert (code, bound[0]) == (0, "127.0.0.1")
        with socket.create_connection(bound, LIMIT) as caller:
            assert data.reply() == (0, caller.getsockname())
        control.close()
        data.close()


def test_bind_takes_only_the_host_that_is_expected(transport: Transport) -> None:
    tunnel = transport(["listen:127.0.0.1:0"], "--socks", "0")
    client = SocksClient(tunnel.socks)
    code, bound = client.request(BIND, "127.0.0.9", 0)
    assert code == 0

    def enter() -> None:
        # The reset may come before the connection is made, or after.
        with socket.create_connection(bound, LIMIT) as other:
            other.recv(1)

    with pytest.raises(ConnectionResetError):
        enter()
    with socket.socket() as caller:
        caller.bind(("127.0.0.9", 0))
        caller.connect(bound)
        assert client.reply() == (0, caller.getsockname())
    client.close()


def test_a_client_that_leaves_takes_its_port_with_it(transport: Transport) -> None:
    tunnel = transport(["listen:127.0.0.1:0"], "--socks", "0")
    client = SocksClient(tunnel.socks)
    code, bound = client.request(BIND, "127.0.0.1", 0)
    assert code == 0
    client.close()
    tunnel.server.wait_for(r"destination=listen:tcp:127.0.0.1:0 .*outcome=done")
    assert refuses(f"{bound[0]}:{bound[1]}")


def test_bind_without_a_rule_is_refused(transport: Transport) -> None:
    tunnel = transport(["tcp:127.0.0.1:9"], "--socks", "0")
    client = SocksClient(tunnel.socks)
    assert client.request(BIND, "192.0.2.1", 21)[0] == 2
    assert client.control.recv(1) == b""
    client.close()
