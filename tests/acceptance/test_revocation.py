"""A revocation list that changes: who is on it is cut, nobody else notices (K2; X17)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.applications import Application, echo, receive
from tests.acceptance.processes import Identities, Processes, Role
from tests.acceptance.tunnels import (
    LstpTunnel,
    RunningTunnel,
    SessionTunnel,
    Transport,
    start_portal,
    start_tunnel,
)

REFUSED_WITHIN = 2.0
CUT_WITHIN = 5.0


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    """A CA for this test alone: what it revokes would be missed by others."""
    return Identities.create(tmp_path / "keys")


@pytest.fixture
def server() -> Iterator[Application]:
    with Application(echo) as running:
        yield running


class World:
    """A far side that takes in ``client`` and ``other``, and goes by a revocation list."""

    def __init__(
        self,
        processes: Processes,
        transport: Transport,
        identities: Identities,
        server: Application,
    ) -> None:
        self._processes = processes
        self._identities = identities
        # The list is on the far machine only.
        self._forward = ("--forward", f"0={server.destination}", "--no-crl")
        self.list = identities.revoked
        self.tunnel: RunningTunnel = transport(
            [server.destination], *self._forward, server=("--peer", "other", "--crl", self.list)
        )

    def start_other(self, wait: bool = True) -> Role:
        """The second client, in a process of its own."""
        if isinstance(self.tunnel, LstpTunnel):
            return self._processes.role(
                "lstp-client-end", *self.tunnel.meeting, "--identity", self._identities("other"),
                "--peer", "server", *self._forward, wait=wait,
            )  # fmt: skip
        if isinstance(self.tunnel, SessionTunnel):
            return self._processes.role(
                "secure-proxy-client", *self.tunnel.place, "--identity",
                self._identities("other"), "--target", "server", *self._forward, wait=wait,
            )  # fmt: skip
        place = self.tunnel.server.address("listening on")
        return start_portal(
            self._processes, self._identities, place, *self._forward, name="other", wait=wait
        )

    def revoke(self, name: str) -> None:
        """Put a name on the list."""
        self._identities.revoke(name)


@pytest.fixture
def world(
    processes: Processes, transport: Transport, identities: Identities, server: Application
) -> World:
    return World(processes, transport, identities, server)


def connect(end: Role) -> socket.socket:
    """A connection through an end's forward."""
    return socket.create_connection(("127.0.0.1", end.port("forward")), timeout=20)


def echoes(sock: socket.socket) -> bool:
    sock.sendall(b"are you there?")
    return receive(sock, 14) == b"are you there?"


def seconds_to_the_end(sock: socket.socket) -> float:
    """How long it takes until the connection is reset or closed."""
    began = time.monotonic()
    try:
        assert sock.recv(1) == b""
    except ConnectionError:
        pass
    return time.monotonic() - began


def test_the_revoked_are_cut_and_kept_out_and_others_go_on(world: World) -> None:
    other = world.start_other()
    with connect(world.tunnel.client) as cut, connect(other) as stays:
        assert echoes(cut)
        assert echoes(stays)
        far = world.tunnel.server
        since = len(far.process.lines)
        world.revoke("client")
        assert seconds_to_the_end(cut) < CUT_WITHIN
        far.wait_for("client has been revoked: cut", since=since)
        # The client comes again by itself.
        far.wait_for("certificate of client has been revoked", since=since)
        assert not any("with client is up" in line for line in far.process.lines[since:])
        assert echoes(stays)
        with connect(other) as new:
            assert echoes(new)


def test_who_is_revoked_is_refused_soon(world: World) -> None:
    world.start_other().process.stop()
    far = world.tunnel.server
    since = len(far.process.lines)
    world.revoke("other")
    far.wait_for("revoked.crl: read again", since=since, limit=REFUSED_WITHIN)
    world.start_other(wait=False)
    far.wait_for("certificate of other has been revoked", since=since)
    with connect(world.tunnel.client) as stays:
        assert echoes(stays)


def test_an_unreadable_list_lets_nobody_in_until_it_is_readable(world: World) -> None:
    far = world.tunnel.server
    good = world.list.read_bytes()
    with connect(world.tunnel.client) as stays:
        assert echoes(stays)
        since = len(far.process.lines)
        world.list.write_bytes(b"this is no list\n")
        far.wait_for("nobody gets in", since=since, limit=REFUSED_WITHIN)
        other = world.start_other(wait=False)
        far.wait_for("the revocation list here is not usable", since=since)
        assert echoes(stays)
        world.list.write_bytes(good)
        other.wait_for("with server is up")
        assert echoes(stays)


def test_the_list_beside_the_identity_needs_no_option(
    processes: Processes, identities: Identities, server: Application
) -> None:
    tunnel = start_tunnel(
        processes, identities, [server.destination], "--forward", f"0={server.destination}"
    )
    tunnel.server.wait_for(r"Revocation list: \S*/revoked.crl, 0 entries")
    with connect(tunnel.client) as cut:
        assert echoes(cut)
        identities.revoke("client")
        tunnel.server.wait_for("revoked.crl: read again, 1 entry")
        tunnel.server.wait_for("client has been revoked: cut")
        assert seconds_to_the_end(cut) < CUT_WITHIN


def test_a_list_that_appears_beside_the_identity_is_in_force_and_must_stay(
    processes: Processes, identities: Identities, server: Application
) -> None:
    revoked = identities.revoked
    revoked.unlink()
    tunnel = start_tunnel(
        processes, identities, [server.destination], "--forward", f"0={server.destination}"
    )
    tunnel.server.wait_for("Revocation list: none")
    with connect(tunnel.client) as cut:
        assert echoes(cut)
        identities.revoke("client")
        tunnel.server.wait_for("client has been revoked: cut")
        assert seconds_to_the_end(cut) < CUT_WITHIN
    revoked.unlink()
    tunnel.server.wait_for("revoked.crl: there is no such file: nobody gets in")


def test_an_older_list_put_back_lets_nobody_in(world: World) -> None:
    far = world.tunnel.server
    older = world.list.read_bytes()
    since = len(far.process.lines)
    world.revoke("client")
    far.wait_for("client has been revoked: cut", since=since)
    since = len(far.process.lines)
    world.list.write_bytes(older)
    far.wait_for("is number 1, and number 2 was seen before.*: nobody gets in", since=since)
    far.wait_for("the revocation list here is not usable", since=since)
    assert not any("with client is up" in line for line in far.process.lines[since:])


def test_the_end_with_the_newer_list_hands_it_over(
    processes: Processes, transport: Transport, identities: Identities, server: Application
) -> None:
    older = processes.directory / "copy.crl"
    older.write_bytes(identities.revoked.read_bytes())
    older.chmod(0o640)
    identities("other")
    forward = ("--forward", f"0={server.destination}")
    tunnel = transport([server.destination], *forward, "--crl", older)
    identities.revoke("other")
    tunnel.client.wait_for("server has a newer revocation list: it is in .*/copy.crl now")
    tunnel.client.wait_for("copy.crl: read again, 1 entry")
    assert older.read_bytes() == identities.revoked.read_bytes()
    assert older.stat().st_mode & 0o777 == 0o640
    with connect(tunnel.client) as stays:
        assert echoes(stays)
