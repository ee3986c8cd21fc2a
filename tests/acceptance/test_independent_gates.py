"""What ``usher/1.1`` has beyond sessions, beside a party written from its document: gates in a row
(U18) and the checkpoints of audit files (O8)."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.acceptance.processes import Identities, Processes, Role
from tests.acceptance.test_usher_onward import onward
from tests.acceptance.tunnels import start_gate
from tests.peers.usher_1_1 import (
    CHECKPOINT,
    NAME,
    OPEN,
    OPEN_REPLY,
    SEND,
    TCP,
    Onward,
    Party,
    onward_body,
    read_checkpoint,
    read_onward,
)
from tests.peers.usher_records import text

WANTED = "web.b.example"
TO = f"tcp:{WANTED}:80"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Where the next gate is to be."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def between(processes: Processes, identities: Identities, listening: socket.socket) -> Role:
    """A gate that asks the next one for ``TO``."""
    place = f"127.0.0.1:{listening.getsockname()[1]}"
    return start_gate(
        processes, identities, [], *onward(place, "next", TO), "--allow", "tcp:192.0.2.1:9"
    )


def test_a_wish_goes_on_with_the_name_of_the_gate_and_bytes_pass(
    between: Role, identities: Identities, listening: socket.socket
) -> None:
    following = Party.take(listening, identities("next"))
    portal = Party.dial(between.address("listening on"), identities("client"))
    portal.send(OPEN, 1, struct.pack(">hhH", TCP, NAME, 80) + text(WANTED))
    _, theirs, body = following.expect(OPEN)
    assert read_onward(body) == Onward(("server",), TO)
    following.send(OPEN_REPLY, theirs, struct.pack(">h", 7) + text("tcp:192.0.2.9:40000"))
    _, to, body = portal.expect(OPEN_REPLY)
    (number,) = struct.unpack(">h", body[:2])
    assert (to, number > 0) == (1, True)
    portal.send(SEND, number, b"there")
    _, to, body = following.expect(SEND)
    assert (to, body) == (7, b"there")
    following.send(SEND, theirs, b"and back")
    assert portal.expect(SEND) == (SEND, 1, b"and back")
    portal.close()
    following.close()


def test_who_came_by_gates_stays_named_and_a_ring_is_refused(
    between: Role, identities: Identities, listening: socket.socket
) -> None:
    following = Party.take(listening, identities("next"))
    portal = Party.dial(between.address("listening on"), identities("client"))
    portal.send(OPEN, 1, onward_body(TO, "first", "client"))
    _, theirs, body = following.expect(OPEN)
    assert read_onward(body) == Onward(("first", "client", "server"), TO)
    following.send(OPEN_REPLY, theirs, b"\xff\xff" + text("not-allowed: no rule"))
    assert portal.refusal(1).startswith("not-allowed")
    portal.send(OPEN, 2, onward_body(TO, "server", "client"))
    assert portal.refusal(2) == "refused: ring"
    portal.send(OPEN, 3, onward_body(TO, *(f"gate-{number}" for number in range(7)), "client"))
    assert portal.refusal(3).startswith("limit")
    portal.close()
    following.close()


def test_checkpoints_are_told_and_kept(processes: Processes, identities: Identities) -> None:
    audit, kept = processes.directory / "audit", processes.directory / "kept"
    gate = start_gate(
        processes, identities, ["tcp:192.0.2.1:9"], "--audit", audit, "--checkpoints", kept
    )
    portal = Party.dial(gate.address("listening on"), identities("client"))
    told = read_checkpoint(portal.expect(CHECKPOINT)[2])
    lines = audit.read_bytes().splitlines()
    assert json.loads(lines[0])["chain"] == told.chain.hex()
    assert hashlib.sha256(lines[told.seq - 1]).digest() == told.hash
    mine = bytes(range(48))
    portal.send(CHECKPOINT, 0, (1000).to_bytes(8, "big") + mine)
    # What is answered shows that the record before it has been read.
    portal.send(OPEN, 1, struct.pack(">hhH", TCP, NAME, 80) + text(WANTED))
    portal.refusal(1)
    (line,) = kept.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["peer"], entry["seq"]) == ("client", 1000)
    assert (entry["chain"], entry["hash"]) == (mine[:16].hex(), mine[16:].hex())
    portal.close()
