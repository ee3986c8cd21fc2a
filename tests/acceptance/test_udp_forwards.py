"""UDP through a whole tunnel, over each transport: iperf3, dig, SOCKS clients."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import socks

from tests.acceptance.processes import Process, Processes, free_port
from tests.acceptance.socks_client import UDP_ASSOCIATE, SocksClient, unwrapped, wrapped
from tests.acceptance.tunnels import LstpTunnel, SessionTunnel, Transport
from tests.acceptance.udp_servers import Answer, UdpServer, name_server, reversed_bytes

LIMIT = 10.0

Serve = Callable[[Answer], UdpServer]


@pytest.fixture
def serve(processes: Processes) -> Serve:
    """Starts UDP servers that are closed in the end."""

    def start(answer: Answer) -> UdpServer:
        server = UdpServer(answer)
        processes.on_end(server.close)
        return server

    return start


def asked(address: str, data: bytes, sock: socket.socket | None = None) -> bytes:
    """What is answered at ``HOST:PORT``; sent again each second, as UDP wants it."""
    host, _, port = address.rpartition(":")
    own = sock or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.settimeout(1)
    try:
        for _ in range(int(LIMIT)):
            own.sendto(data, (host, int(port)))
            try:
                return own.recv(65_535)
            except TimeoutError:
                continue
        raise AssertionError(f"nothing came back from {address}")
    finally:
        if sock is None:
            own.close()


def iperf(server: Process, port: int, *options: str) -> dict[str, Any]:
    """What a client of iperf3 measures."""
    command = ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-J", "-t", "1", *options]
    seen = len(server.lines)
    done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    measured: dict[str, Any] = json.loads(done.stdout)
    assert "error" not in measured, measured
    # It serves one at a time, and may hear a little later that this one has ended.
    server.wait_for("Server listening", since=seen)
    return measured


def test_iperf3_over_tcp_and_udp(processes: Processes, transport: Transport) -> None:
    target, near = free_port(), free_port()
    server = processes.start(
        "iperf3", "iperf3", "-s", "-p", target, "-B", "127.0.0.1", "--forceflush",
        ready="Server listening",
    )  # fmt: skip
    transport(
        [f"tcp:127.0.0.1:{target}", f"udp:127.0.0.1:{target}"],
        *("--forward", f"{near}=tcp:127.0.0.1:{target}"),
        *("--forward", f"{near}=udp:127.0.0.1:{target}"),
    )
    for way in ((), ("-R",)):
        measured = iperf(server, near, *way)
        assert measured["end"]["sum_received"]["bytes"] > 10_000_000
        measured = iperf(server, near, "-u", "-b", "5M", "-l", "1200", *way)
        result = measured["end"]["sum"]
        assert result["packets"] > 400, result
        # A machine that is busy with other things may lose a few in its own buffers.
        assert result["lost_percent"] < 20, result


def test_dig_through_a_udp_forward(transport: Transport, serve: Serve) -> None:
    server = serve(name_server)
    target = f"udp:127.0.0.1:{server.port}"
    tunnel = transport([target], "--forward", f"0={target}")
    port = str(tunnel.client.port("forward"))
    dig = ["dig", "+short", "+tries=3", "+time=3", "-p", port, "@127.0.0.1", "www.corp.example"]
    for _ in range(3):
        done = subprocess.run(dig, capture_output=True, text=True, timeout=20)
        assert done.stdout == "192.0.2.77\n"
    # Each client has a socket of its own there.
    assert len(set(server.clients)) == 3


def test_datagrams_of_every_size_come_through_whole(transport: Transport, serve: Serve) -> None:
    target = f"udp:127.0.0.1:{serve(reversed_bytes).port}"
    tunnel = transport([target], "--forward", f"0={target}")
    for size in (1, 1472, 9000, 65_507):
        data = (bytes(range(256)) * 256)[:size]
        assert asked(tunnel.client.address("forward"), data) == data[::-1]
    assert asked(tunnel.client.address("forward"), b"") == b""


def test_a_destination_without_a_rule_gets_nothing(transport: Transport, serve: Serve) -> None:
    allowed, denied = serve(reversed_bytes), serve(reversed_bytes)
    tunnel = transport(
        [f"udp:127.0.0.1:{allowed.port}"],
        *("--forward", f"0=udp:127.0.0.1:{denied.port}"),
        *("--forward", f"0=udp:127.0.0.1:{allowed.port}"),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", tunnel.client.port("forward", 0)))
        tunnel.server.wait_for("Not allowed: no rule allows client to sendto udp")
    assert asked(tunnel.client.address("forward", 1), b"abc") == b"cba"
    assert denied.clients == []


def test_pysocks_sends_datagrams_to_names_and_addresses(transport: Transport, serve: Serve) -> None:
    first, second = serve(reversed_bytes), serve(bytes.upper)
    tunnel = transport(
        [f"udp:127.0.0.1:{first.port}", f"udp:localhost:{second.port}@127.0.0.0/8"], "--socks", "0"
    )
    host, _, port = tunnel.socks.rpartition(":")
    with socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.set_proxy(socks.SOCKS5, host, int(port), rdns=True)
        client.settimeout(LIMIT)
        for _ in range(3):
            client.sendto(b"abc", ("127.0.0.1", first.port))
            assert client.recvfrom(100) == (b"cba", ("127.0.0.1", first.port))
            client.sendto(b"abc", ("localhost", second.port))
            assert client.recvfrom(100)[0] == b"ABC"


def test_an_association_takes_its_client_s_whole_datagrams_only_and_ends_with_it(
    transport: Transport, serve: Serve
) -> None:
    server = serve(reversed_bytes)
    tunnel = transport([f"udp:127.0.0.1:{server.port}"], "--socks", "0")
    client = SocksClient(tunnel.socks)
    code, relay = client.request(UDP_ASSOCIATE, "0.0.0.0", 0)
    assert code == 0
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        sock.settimeout(LIMIT)
        sock.sendto(wrapped("127.0.0.1", server.port, b"abc"), relay)
        assert unwrapped(sock.recv(100)) == (("127.0.0.1", server.port), b"cba")
        stranger.sendto(wrapped("127.0.0.1", server.port, b"stranger"), relay)
        sock.sendto(wrapped("127.0.0.1", server.port, b"part", fragment=1), relay)
        sock.sendto(b"\0\0", relay)
        sock.sendto(wrapped("127.0.0.1", server.port, b"xyz"), relay)
        assert unwrapped(sock.recv(100))[1] == b"zyx"
        assert len(server.clients) == 2
        client.close()
        # The kernel says so once the port is closed.
        sock.connect(relay)
        sock.settimeout(0.05)

        def ask_until_refused() -> None:
            for _ in range(200):
                sock.send(wrapped("127.0.0.1", server.port, b"late"))
                with contextlib.suppress(TimeoutError):
                    sock.recv(100)

        with pytest.raises(ConnectionRefusedError):
            ask_until_refused()


def test_spoofed_datagrams_at_the_far_side_are_not_relayed(
    transport: Transport, serve: Serve
) -> None:
    server = serve(lambda data: None)
    tunnel = transport([f"udp:127.0.0.1:{server.port}"], "--socks", "0")
    client = SocksClient(tunnel.socks)
    code, relay = client.request(UDP_ASSOCIATE, "0.0.0.0", 0)
    assert code == 0
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        sock.settimeout(0.2)
        for _ in range(50):
            sock.sendto(wrapped("127.0.0.1", server.port, b"abc"), relay)
            try:
                sock.recv(100)
            except TimeoutError:
                if server.clients:
                    break
        far_socket = server.clients[0]
        stranger.sendto(b"spoofed", far_socket)
        server.sock.sendto(b"genuine", far_socket)
        sock.settimeout(LIMIT)
        assert unwrapped(sock.recv(100))[1] == b"genuine"
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(100)
    client.close()


def test_without_any_rule_for_udp_an_association_is_refused(
    processes: Processes, transport: Transport
) -> None:
    tunnel = transport(["tcp:127.0.0.1:9"], "--socks", "0")
    client = SocksClient(tunnel.socks)
    code, relay = client.request(UDP_ASSOCIATE, "0.0.0.0", 0)
    if isinstance(tunnel, LstpTunnel | SessionTunnel):
        assert code == 2  # not allowed by ruleset
    else:
        # In Usher a flow begins with its first datagram, which then is dropped.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(wrapped("127.0.0.1", 9, b"x"), relay)
            tunnel.server.wait_for("Not allowed: no rule allows client any UDP")
    client.close()
