"""Datagrams for every member of a group (row S7)."""

from __future__ import annotations

import itertools
import socket

from tests.acceptance.communication import SERVER, start_server
from tests.acceptance.processes import Identities, Processes
from tests.acceptance.udp_servers import UdpServer

TRIES = 20


def test_each_datagram_goes_to_every_member_that_is_there(
    processes: Processes, identities: Identities
) -> None:
    numbers = itertools.count(1)
    wanted = UdpServer(lambda data: b"%s %d" % (data, next(numbers)))
    processes.on_end(wanted.close)
    target = f"udp:127.0.0.1:{wanted.port}"
    server = start_server(processes, identities)
    for name in ("server", "second"):
        server.client(name, "--allow", target).wait_for(f"Present at {SERVER}")
        server.role.wait_for(f"who={name} action=publish what=tunnel allowed=True")
    client = server.client(
        "client", "--forward", f"0={target}@group:servers",
        "--peer", "server", "--peer", "second", "--peer", "third",
    )  # fmt: skip
    client.wait_for("with server is up")
    client.wait_for("with second is up")
    client.wait_for("third is not in group:servers now")
    came: set[bytes] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", client.port("forward")))
        # One datagram may be lost; both members have sockets of their own there.
        for _ in range(TRIES):
            sock.send(b"hello")
            try:
                while True:
                    came.add(sock.recv(100))
            except TimeoutError:
                if len(set(wanted.clients)) == 2 and len(came) >= 2:
                    break
    assert len(set(wanted.clients)) == 2
    assert len(came) >= 2
    assert all(answer.startswith(b"hello ") for answer in came)


def test_mistakes_in_forwards_to_a_group(processes: Processes, identities: Identities) -> None:
    options = ("--server", "127.0.0.1:1", "--identity", identities("client"), "--forward")
    for more, words in (
        (("5000=tcp:web:80@group:servers", "--peer", "a"), "only datagrams can go to a group"),
        (("5000=udp:web:53@group:", "--peer", "a"), "only datagrams can go to a group"),
        (("5000=udp:web:53@group:servers",), "expected --peer for each one that is welcome"),
    ):
        role = processes.role("secure-proxy-client", *options, *more, wait=False)
        assert role.process.wait(20) == 2
        role.wait_for(words)
