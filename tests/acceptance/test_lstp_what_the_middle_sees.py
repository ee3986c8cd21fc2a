"""What docs/threat/lstp.md promises, with somebody on the way who records and meddles."""

from __future__ import annotations

import json
import socket

import attrs
import pytest

from tests.acceptance.applications import receive
from tests.acceptance.eavesdropper import Eavesdropper, Meddle
from tests.acceptance.processes import Identities, Processes, Role, WebServer, curl
from tests.acceptance.tunnels import start_server_end

CANARY = b"what-nobody-on-the-way-may-read"
HEADER = 12
"""Bytes of a message's header: length (4, big-endian), type (1), flags, reserved, channel."""
SETUP = {1: "COMMON_UNIQUE_INFO", 2: "TOPOLOGY_EXCHANGE", 3: "PROPERTY_EXCHANGE"}
TLS_RECORDS = {20, 21, 22, 23}


@attrs.frozen
class Watched:
    """A client end whose way to the middle is watched."""

    client: Role
    server: Role
    spy: Eavesdropper


def start(processes: Processes, identities: Identities, target: str) -> Watched:
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    spy = Eavesdropper(middle.address("listening on"))
    processes.on_end(spy.close)
    server = start_server_end(processes, identities, middle, [target])
    client = processes.role(
        "lstp-client-end", "--middle", spy.place, "--tunnel", "test", "--peer", "server",
        "--identity", identities("client"), "--forward", f"0={target}",
    )  # fmt: skip
    return Watched(client, server, spy)


def clear_text(stream: bytes) -> tuple[list[tuple[str, dict[str, object]]], bytes]:
    """The setup messages that a stream begins with, and what follows them."""
    messages = []
    while stream and stream[4] in SETUP and stream[0] == 0:
        size = int.from_bytes(stream[:4], "big")
        body = stream[HEADER : HEADER + size]
        messages.append((SETUP[stream[4]], json.loads(body or b"{}")))
        stream = stream[HEADER + size :]
    return messages, stream


def record_types(stream: bytes) -> list[int]:
    """The type of each TLS record in ``stream``, which must be nothing but TLS records."""
    found = []
    while stream:
        kind, version, size = stream[0], stream[1:3], int.from_bytes(stream[3:5], "big")
        assert kind in TLS_RECORDS
        assert version in (b"\x03\x01", b"\x03\x03")
        assert 0 < size <= 16_384 + 256
        found.append(kind)
        stream = stream[5 + size :]
    return found


def test_after_the_setup_there_is_nothing_but_tls(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    (web.directory / "file").write_bytes(CANARY * 10_000)
    target = f"tcp:127.0.0.1:{web.port}"
    watched = start(processes, identities, target)
    url = f"http://{watched.client.address('forward')}/file?{CANARY.decode()}"
    assert curl(url).size == len(CANARY) * 10_000
    watched.client.process.stop()
    (up,), (down,) = watched.spy.upwards, watched.spy.downwards
    assert len(down) > len(CANARY) * 10_000
    for stream, names in ((up, ["client"]), (down, ["server"])):
        messages, rest = clear_text(bytes(stream))
        kinds = [kind for kind, _ in messages if kind != "PROPERTY_EXCHANGE"]
        assert kinds == ["COMMON_UNIQUE_INFO", "TOPOLOGY_EXCHANGE"]
        assert [body["unique"] for _, body in messages if "unique" in body] == names
        assert set(record_types(rest)) <= TLS_RECORDS
        assert CANARY not in stream
        assert target.encode() not in stream
        assert str(web.port).encode() not in json.dumps(messages).encode()


def _meddlers() -> dict[str, Meddle]:
    def change(data: bytes) -> bytes:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    def replay(data: bytes) -> bytes:
        return data + data

    def inject(data: bytes) -> bytes:
        return b"\x17\x03\x03\x00\x20" + bytes(32) + data

    def drop(data: bytes) -> bytes:
        return data[len(data) // 2 :]

    return {"changed": change, "replayed": replay, "injected": inject, "dropped": drop}


@pytest.mark.parametrize(("what", "meddle"), _meddlers().items())
def test_what_is_meddled_with_never_reaches_the_application(
    processes: Processes, identities: Identities, what: str, meddle: Meddle
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        target = f"tcp:127.0.0.1:{application.getsockname()[1]}"
        watched = start(processes, identities, target)
        entrance = ("127.0.0.1", watched.client.port("forward"))
        with socket.create_connection(entrance, timeout=10) as near:
            far, _ = application.accept()
            with far:
                far.sendall(CANARY)
                assert receive(near, len(CANARY)) == CANARY
                watched.spy.meddle = meddle
                far.sendall(CANARY * 100)
                received, error = read_to_the_end(near)
                assert isinstance(error, ConnectionResetError)
                assert (CANARY * 100).startswith(received)
        watched.client.wait_for("Tunnel test with server has ended")


def read_to_the_end(sock: socket.socket) -> tuple[bytes, OSError | None]:
    """What arrives, and the error that ends it; None for a clean end."""
    received = bytearray()
    try:
        while piece := sock.recv(1 << 16):
            received += piece
    except OSError as error:
        return bytes(received), error
    return bytes(received), None


def test_whoever_is_not_a_named_peer_gets_no_tunnel(
    processes: Processes, identities: Identities
) -> None:
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    server = start_server_end(processes, identities, middle, ["tcp:127.0.0.1:1"])
    stranger = processes.role(
        "lstp-client-end", "--middle", middle.address("listening on"), "--tunnel", "test",
        "--identity", identities("stranger"), "--peer", "server", "--socks", "0", wait=False,
    )  # fmt: skip
    server.wait_for('No tunnel test with who calls itself "stranger"')
    stranger.wait_for("No tunnel test|trying again")
    assert not any("is up" in line for line in server.process.lines + stranger.process.lines)
