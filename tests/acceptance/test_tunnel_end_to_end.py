"""Real programs through a whole tunnel of real processes, over each transport."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.acceptance.processes import (
    Processes,
    WebServer,
    curl,
    free_port,
)
from tests.acceptance.ssh import Sshd
from tests.acceptance.tunnels import Transport

MIB = 1 << 20
SIZE = 64 * MIB

REFUSED_PORT = 1
"""Nobody listens there; to be reached by rule only, as every address of this machine."""
UNREACHABLE = "224.0.0.1"
"""A group, to which a TCP connection cannot be made: the kernel says so at once."""


def test_curl_fetches_through_socks_and_through_a_forward(
    transport: Transport, web: WebServer
) -> None:
    digest = web.add("file", SIZE)
    target = f"127.0.0.1:{web.port}"
    tunnel = transport([f"tcp:{target}"], "--socks", "0", "--forward", f"0=tcp:{target}")
    for way in (
        ("--socks5-hostname", tunnel.socks, f"http://{target}/file"),
        ("--socks5", tunnel.socks, f"http://{target}/file"),
        ("--socks4", tunnel.socks, f"http://{target}/file"),
        ("--socks4a", tunnel.socks, f"http://{target}/file"),
        (f"http://{tunnel.client.address('forward')}/file",),
    ):
        fetched = curl(*way)
        assert (fetched.status, fetched.said) == (0, "")
        assert fetched.size == SIZE
        assert fetched.sha256 == digest


def test_ssh_through_a_forward(processes: Processes, transport: Transport) -> None:
    sshd = Sshd(processes)
    target = f"tcp:127.0.0.1:{sshd.port}"
    tunnel = transport([target], "--forward", f"0={target}")
    sent = os.urandom(MIB)
    received = sshd.cat(sent, "-p", str(tunnel.client.port("forward")))
    assert received.stderr == b""
    assert received.returncode == 0
    assert received.stdout == sent


def test_redis_through_a_forward(processes: Processes, transport: Transport) -> None:
    port = free_port()
    processes.start(
        "redis",
        *("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"),
        ready="Ready to accept connections",
    )
    target = f"tcp:127.0.0.1:{port}"
    tunnel = transport([target], "--forward", f"0={target}")
    value = "x" * 100_000

    def redis(*words: str, given: str | None = None) -> str:
        command = ["redis-cli", "-p", str(tunnel.client.port("forward")), *words]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert redis("PING") == "PONG"
    assert redis("-x", "SET", "key", given=value) == "OK"
    assert redis("GET", "key") == value
    pipelined = "".join(f"INCR counter{number % 7}\r\n" for number in range(10_000))
    assert "errors: 0, replies: 10000" in redis("--pipe", given=pipelined)


@pytest.mark.parametrize(
    ("case", "url", "reply"),
    [
        ("no rule", "http://127.0.0.1:9/", 2),
        ("unreachable", f"http://{UNREACHABLE}:80/", 4),
        ("no such host", "http://nobody.invalid/", 4),
        ("refused", f"http://127.0.0.1:{REFUSED_PORT}/", 5),
    ],
)
def test_what_fails_there_is_told_here_as_socks_says_it(
    transport: Transport, case: str, url: str, reply: int
) -> None:
    allow = [f"tcp:127.0.0.1:{REFUSED_PORT}", f"tcp:{UNREACHABLE}:80", "tcp:*.invalid:80"]
    tunnel = transport(allow, "--socks", "0")
    fetched = curl("--socks5-hostname", tunnel.socks, url)
    assert fetched.status == 97, fetched.said
    assert fetched.said.endswith(f"({reply})"), fetched.said
    assert fetched.seconds < 1
