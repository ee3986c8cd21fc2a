"""Thousands of sessions on one Usher connection, and what they cost (R1, U3)."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.acceptance.applications import raise_open_files, receive
from tests.acceptance.echo_process import start_echo
from tests.acceptance.processes import Identities, Processes
from tests.acceptance.test_scale import CHANNELS, KIB, descriptors, memory
from tests.acceptance.tunnels import start_usher_tunnel

pytestmark = pytest.mark.timeout(100)


def test_thousands_of_sessions_echo_at_once(processes: Processes, identities: Identities) -> None:
    raise_open_files()
    target = start_echo(processes)
    with contextlib.ExitStack() as stack:
        tunnel = start_usher_tunnel(processes, identities, [target], "--forward", f"0={target}")
        ends = (tunnel.client, tunnel.server)
        before = [memory(end) for end in ends]
        entrance = ("127.0.0.1", tunnel.client.port("forward"))
        socks = [
            stack.enter_context(socket.create_connection(entrance, 30)) for _ in range(CHANNELS)
        ]
        for turn in range(2):
            for number, sock in enumerate(socks):
                sock.sendall(b"%6d %d" % (number, turn))
            for number, sock in enumerate(socks):
                assert receive(sock, 8) == b"%6d %d" % (number, turn)
        for end, old in zip(ends, before, strict=True):
            assert descriptors(end) > CHANNELS
            per_session = (memory(end) - old) / CHANNELS
            assert per_session < 30 * KIB, f"{per_session:.0f} bytes per session"
