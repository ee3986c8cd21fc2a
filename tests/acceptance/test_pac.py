"""The way out that a PAC file says, through real proxies, over each transport (N1, S3)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.applications import Application
from tests.acceptance.processes import READY, Identities, Processes, curl, free_port
from tests.acceptance.real_proxies import IN_URL, SECRET, Proxies
from tests.acceptance.tunnels import (
    Transport,
    start_gate,
    start_portal,
    start_session,
    start_tunnel,
    start_usher_tunnel,
)


def script(answer: str) -> str:
    """One that names the proxies of loopback only: a tunnel through them proves that it ran."""
    return (
        "function FindProxyForURL(url, host) {\n"
        '  if (isInNet(host, "127.0.0.0", "255.0.0.0") && shExpMatch(url, "https://127.*:*/"))\n'
        f'    return "{answer}";\n'
        '  return "PROXY nowhere.invalid:1";\n'
        "}\n"
    )


def answer(sock: socket.socket) -> None:
    """What a web server says to any request."""
    if sock.recv(10_000):
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nx")


def by_tinyproxy(proxies: Proxies) -> str:
    return f"PROXY 127.0.0.1:{proxies.tinyproxy(timeout=600)}"


def by_dante(proxies: Proxies) -> str:
    return f"SOCKS5 127.0.0.1:{proxies.dante()}"


def by_squid(proxies: Proxies) -> str:
    return f"PROXY me:{IN_URL}@127.0.0.1:{proxies.squid(SECRET)}"


@pytest.mark.parametrize(
    ("start", "proxy"),
    [
        pytest.param(start_tunnel, by_tinyproxy, id="lstp-tinyproxy"),
        pytest.param(start_usher_tunnel, by_dante, id="usher-dante"),
        pytest.param(start_session, by_squid, id="secure-proxy-squid"),
    ],
)
def test_a_tunnel_comes_up_by_the_first_proxy_that_works(
    processes: Processes,
    identities: Identities,
    tmp_path: Path,
    start: Transport,
    proxy: Callable[[Proxies], str],
) -> None:
    file = tmp_path / "proxy.pac"
    file.write_text(script(f"PROXY 127.0.0.1:{free_port()}; {proxy(Proxies(processes))}"))
    with Application(answer) as web:
        tunnel = start(
            processes, identities, [web.destination], "--socks", "0", "--via", f"pac:{file}"
        )
        place = web.destination.removeprefix("tcp:")
        fetched = curl("--socks5-hostname", tunnel.socks, f"http://{place}/")
    assert fetched.status == 0
    tunnel.client.wait_for("connection refused: trying the next way that the PAC file")
    assert SECRET not in tunnel.client.process.log
    assert IN_URL not in tunnel.client.process.log


def test_what_is_wrong_is_said_and_what_has_changed_is_noticed(
    processes: Processes, identities: Identities
) -> None:
    served = ["function FindProxyForURL(url, host) { for (;;); }"]

    def serve(sock: socket.socket) -> None:
        if sock.recv(10_000):
            sock.sendall(f"HTTP/1.0 200 OK\r\n\r\n{served[-1]}".encode())

    gate = start_gate(processes, identities, ["tcp:127.0.0.1:9"])
    place = gate.address("listening on")
    dead = f"127.0.0.1:{free_port()}"
    with Application(serve) as web:
        url = f"http://{web.destination.removeprefix('tcp:')}/proxy.pac"
        portal = start_portal(
            processes, identities, place, "--socks", "0", "--via", f"pac:{url}", wait=False
        )
        portal.wait_for(
            f"cannot reach the gate {place}: the PAC file {url} does not say how to connect to "
            f"{place}: it was stopped .*: expected an answer within 2 s of processor time",
            limit=60,
        )
        served.append(script(f"PROXY {dead}"))
        portal.wait_for(
            f"cannot reach the gate {place}: cannot connect to proxy http://{dead}: connection "
            f"refused .the way that the PAC file {url} says"
        )
        served.append(script(by_tinyproxy(Proxies(processes))))
        portal.wait_for(READY, limit=60)
