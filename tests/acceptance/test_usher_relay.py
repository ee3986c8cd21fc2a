"""A bastion that passes portals on to gates further inside, unopened (U17)."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.acceptance.eavesdropper import Eavesdropper
from tests.acceptance.processes import Identities, Processes, Role, WebServer, curl, free_port
from tests.acceptance.tunnels import start_gate, start_portal

KIB = 1 << 10


@pytest.fixture
def inside(processes: Processes, identities: Identities, web: WebServer) -> Role:
    """A gate behind the bastion, which lets the client fetch from the web server."""
    return start_gate(processes, identities, [f"tcp:127.0.0.1:{web.port}"], name="inside")


@pytest.fixture
def watched(inside: Role) -> Iterator[Eavesdropper]:
    """Who sits between the bastion and the inside gate."""
    eavesdropper = Eavesdropper(inside.address("listening on"))
    yield eavesdropper
    eavesdropper.close()


def start_bastion(
    processes: Processes, identities: Identities, *relays: str, allow: tuple[str, ...] = ()
) -> Role:
    """A gate of its own that also relays."""
    more = [word for relay in relays for word in ("--relay", relay)]
    return start_gate(processes, identities, allow, *more, name="bastion")


def host_port(role: Role) -> tuple[str, int]:
    """Where the gate listens."""
    return "127.0.0.1", role.port("listening on")


def test_a_portal_passes_through_a_bastion_that_cannot_read(
    processes: Processes, identities: Identities, web: WebServer, watched: Eavesdropper
) -> None:
    digest = web.add("file", 300 * KIB)
    bastion = start_bastion(processes, identities, f"inside.example={watched.place}")
    portal = start_portal(
        processes, identities, bastion.address("listening on"),
        "--server-name", "Inside.Example", "--forward", f"0=tcp:127.0.0.1:{web.port}",
        peer="inside",
    )  # fmt: skip
    assert curl(f"http://{portal.address('forward')}/file").sha256 == digest
    portal.wait_for("client - inside")
    bastion.wait_for("Relaying 127.0.0.1:[0-9]+ to inside.example at")
    (up,), (down,) = watched.upwards, watched.downwards
    assert up[:2] == b"\x16\x03"
    assert len(down) > 300 * KIB
    assert b"GET /file" not in up
    assert b"200 OK" not in down
    portal.process.stop()
    bastion.wait_for("A relayed connection has ended: closed")


def test_without_a_name_a_portal_reaches_the_bastions_own_gate(
    processes: Processes, identities: Identities, web: WebServer, inside: Role
) -> None:
    digest = web.add("file", KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    place = inside.address("listening on")
    bastion = start_bastion(processes, identities, f"inside={place}", allow=(target,))
    portal = start_portal(
        processes, identities, bastion.address("listening on"), "--forward", f"0={target}",
        peer="bastion",
    )  # fmt: skip
    assert curl(f"http://{portal.address('forward')}/file").sha256 == digest


def test_a_name_that_is_not_listed_leads_nowhere(
    processes: Processes, identities: Identities, inside: Role
) -> None:
    bastion = start_bastion(processes, identities, f"inside={inside.address('listening on')}")
    portal = start_portal(
        processes, identities, bastion.address("listening on"), "--server-name", "other",
        "--socks", "0",
        peer="inside", wait=False,
    )  # fmt: skip
    bastion.wait_for("no relay to other")
    portal.wait_for("unrecognized name.*trying again in")


def test_an_inside_gate_that_cannot_be_reached_is_told_in_the_log(
    processes: Processes, identities: Identities
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    bastion = start_bastion(processes, identities, f"inside={nobody}")
    portal = start_portal(
        processes, identities, bastion.address("listening on"), "--server-name", "inside",
        "--socks", "0", peer="inside", wait=False,
    )  # fmt: skip
    bastion.wait_for(f"Cannot relay to inside at {nobody}: .*refused")
    portal.wait_for("trying again in")


def test_a_bastion_does_not_relay_to_itself(processes: Processes, identities: Identities) -> None:
    place = f"127.0.0.1:{free_port()}"
    processes_of = ("--identity", identities("bastion"), "--peer", "client")
    bastion = processes.role(
        "usher-gate", "--listen", place, *processes_of, "--relay", f"inside={place}"
    )
    start_portal(
        processes, identities, place, "--server-name", "inside", "--socks", "0", peer="inside",
        wait=False,
    )  # fmt: skip
    bastion.wait_for("Cannot relay to inside at .*this gate itself")


def test_a_bastion_relays_to_a_gate_that_only_a_portal_can_reach(
    processes: Processes, identities: Identities, web: WebServer, inside: Role
) -> None:
    digest = web.add("file", 300 * KIB)
    place = inside.address("listening on")
    way_in = f"127.0.0.1:{free_port()}"
    bastion = processes.role(
        "usher-gate", "--listen", "127.0.0.1:0", "--identity", identities("bastion"),
        "--peer", "doorkeeper", "--forward", f"{way_in}=tcp:{place}", "--relay", f"inside={way_in}",
    )  # fmt: skip
    gate = bastion.address("listening on")
    start_portal(
        processes, identities, gate, "--allow", f"tcp:{place}", name="doorkeeper", peer="bastion"
    )
    portal = start_portal(
        processes, identities, gate, "--server-name", "inside",
        "--forward", f"0=tcp:127.0.0.1:{web.port}", peer="inside",
    )  # fmt: skip
    assert curl(f"http://{portal.address('forward')}/file").sha256 == digest


def test_what_is_not_tls_is_dropped_and_others_are_served(
    processes: Processes, identities: Identities, web: WebServer, inside: Role
) -> None:
    digest = web.add("file", KIB)
    bastion = start_bastion(processes, identities, f"inside={inside.address('listening on')}")
    silent = [socket.create_connection(host_port(bastion), timeout=10) for _ in range(20)]
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"):
        with socket.create_connection(host_port(bastion), timeout=10) as near:
            near.sendall(garbage)
            with pytest.raises(ConnectionResetError):
                near.recv(1)
    # 16 of the silent ones may stay at a time, minus those that the others displaced.
    dropped: set[socket.socket] = set()
    while len(dropped) < 4:
        readable, _, _ = select.select(set(silent) - dropped, [], [], 20)
        assert readable
        for sock in readable:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        dropped.update(readable)
    portal = start_portal(
        processes, identities, bastion.address("listening on"), "--server-name", "inside",
        "--forward", f"0=tcp:127.0.0.1:{web.port}", peer="inside",
    )  # fmt: skip
    assert curl(f"http://{portal.address('forward')}/file").sha256 == digest
    for sock in silent:
        sock.close()


def test_a_bastion_that_drains_lets_what_it_relays_finish(
    processes: Processes, identities: Identities, web: WebServer, inside: Role
) -> None:
    digest = web.add("file", KIB)
    bastion = start_bastion(processes, identities, f"inside={inside.address('listening on')}")
    portal = start_portal(
        processes, identities, bastion.address("listening on"), "--server-name", "inside",
        "--forward", f"0=tcp:127.0.0.1:{web.port}", peer="inside",
    )  # fmt: skip
    bastion.process.child.terminate()
    bastion.wait_for("Ending")
    assert curl(f"http://{portal.address('forward')}/file").sha256 == digest
    portal.process.stop()
    assert bastion.process.wait() == 0


class Stranger:
    """A TLS client that goes on when it is told to, as over a slow network."""

    def __init__(self, place: tuple[str, int], context: ssl.SSLContext, source: str) -> None:
        self.sock = socket.create_connection(place, timeout=20, source_address=(source, 0))
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="inside")
        self.go_on()

    def go_on(self) -> None:
        """The next flight of the handshake."""
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.sock.sendall(self._out.read())

    def read(self) -> bytes:
        """The next bytes inside TLS; nothing while the handshake lasts."""
        self._in.write(self.sock.recv(65536))
        try:
            return self._tls.read()
        except ssl.SSLWantReadError:
            return b""


def test_a_slow_portal_gets_in_through_a_bastion_under_a_flood(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    inside = start_gate(
        processes, identities, [f"tcp:127.0.0.1:{web.port}"], "--bastion", "127.0.0.1",
        name="inside",
    )  # fmt: skip
    bastion = start_bastion(processes, identities, f"inside={inside.address('listening on')}")
    identity = identities("client")
    context = ssl.create_default_context(cafile=str(identity))
    context.load_cert_chain(identity)
    context.set_alpn_protocols(["usher/1.1"])
    portal = Stranger(host_port(bastion), context, "127.0.0.1")
    portal.read()  # the gate has answered: the portal is one of those who prove who they are
    context = ssl.create_default_context()
    flood = []
    for _ in range(40):
        flood.append(Stranger(host_port(bastion), context, "127.0.0.2"))
        bastion.wait_for(f"Relaying 127.0.0.2:{flood[-1].sock.getsockname()[1]} to")
    portal.go_on()
    while not portal.read():
        pass
    for each in (portal, *flood):
        each.sock.close()
