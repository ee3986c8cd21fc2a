"""One direction ends, the other goes on: 64 MiB that come back whole (R11, U6, L3)."""

from __future__ import annotations

import hashlib
import socket
import threading

import pytest

from tests.acceptance.applications import PIECE, Application, expected, pour, receive
from tests.acceptance.processes import Role
from tests.acceptance.tunnels import Transport

pytestmark = pytest.mark.timeout(90)

SIZE = 64 << 20


def stream_digest(size: int) -> str:
    """SHA-256 of what `pour` sends."""
    digest = hashlib.sha256()
    for offset in range(0, size, PIECE):
        digest.update(expected(offset, min(PIECE, size - offset)))
    return digest.hexdigest()


def received_digest(sock: socket.socket) -> str:
    """SHA-256 of everything up to the clean end; raises OSError for a reset."""
    digest = hashlib.sha256()
    while data := sock.recv(PIECE):
        digest.update(data)
    return digest.hexdigest()


class Ends:
    """What the server's side saw of one connection."""

    def __init__(self) -> None:
        self.digest = ""
        self.done = threading.Event()

    def answer_at_the_end(self, sock: socket.socket) -> None:
        """Wait for the other side's end, then send 64 MiB."""
        assert receive(sock, 7) == b"request"
        assert sock.recv(1) == b""
        pour(sock, SIZE)

    def end_first(self, sock: socket.socket) -> None:
        """Say something and end; then take what still comes."""
        sock.sendall(b"welcome")
        sock.shutdown(socket.SHUT_WR)
        self.digest = received_digest(sock)
        self.done.set()


def forward_to(transport: Transport, target: str, at_server: bool) -> int:
    """The port of a forward to ``target`` that stands at one of the two ends."""
    forward = ("--forward", f"0={target}")
    end: Role
    if at_server:
        # The server's side allows something too: an LSTP end does not start without.
        end = transport(["tcp:127.0.0.1:9"], "--allow", target, server=forward).server
    else:
        end = transport([target], *forward).client
    return end.port("forward")


@pytest.mark.parametrize("at_server", [False, True], ids=["from-client", "from-server"])
def test_an_answer_comes_whole_after_the_client_has_ended(
    transport: Transport, at_server: bool
) -> None:
    with Application(Ends().answer_at_the_end) as application:
        port = forward_to(transport, application.destination, at_server)
        with socket.create_connection(("127.0.0.1", port), 30) as sock:
            sock.sendall(b"request")
            sock.shutdown(socket.SHUT_WR)
            assert received_digest(sock) == stream_digest(SIZE)


@pytest.mark.parametrize("at_server", [False, True], ids=["from-client", "from-server"])
def test_an_upload_arrives_whole_after_the_server_has_ended(
    transport: Transport, at_server: bool
) -> None:
    ends = Ends()
    with Application(ends.end_first) as application:
        port = forward_to(transport, application.destination, at_server)
        with socket.create_connection(("127.0.0.1", port), 30) as sock:
            assert receive(sock, 7) == b"welcome"
            assert sock.recv(1) == b""
            assert pour(sock, SIZE) == SIZE
            sock.shutdown(socket.SHUT_WR)
            assert ends.done.wait(30)
    assert ends.digest == stream_digest(SIZE)
