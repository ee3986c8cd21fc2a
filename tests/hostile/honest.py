"""The honest user beside an attack, and what must hold for him."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from tests.acceptance.processes import Process, Processes

SECONDS = float(os.environ.get("TUNNELKIT_HOSTILE_SECONDS", "1"))
"""How long each attack lasts."""
LIMIT = 1.0
"""Seconds within which 95 of 100 requests are answered, see README.md."""
SLACK = 20
BUDGET = 256 << 20
"""Bytes by which an attacked role may grow (rule X8)."""
LEAST = 40
"""Requests that are made at least."""
ATTACKER = "127.0.0.66"
_PATIENCE = 20.0
_REQUEST = b"are you there?" * 60

Place = tuple[str, int]


def place_of(address: str) -> Place:
    """``HOST:PORT`` in two."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def ask(place: Place) -> None:
    """One request: a connection of its own, an echo."""
    with socket.create_connection(place, _PATIENCE) as sock:
        sock.sendall(_REQUEST)
        got = b""
        while len(got) < len(_REQUEST):
            piece = sock.recv(len(_REQUEST))
            assert piece, f"the connection ended after {len(got)} bytes"
            got += piece
        assert got == _REQUEST


def timed(request: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.monotonic()
    request()
    return time.monotonic() - began


def p95(seconds: list[float]) -> float:
    """What 95 of 100 stay below."""
    return sorted(seconds)[int(len(seconds) * 0.95)]


@attrs.define
class Experience:
    """How it went."""

    through: list[float] = attrs.field(factory=list)
    """Seconds of each request through the tunnel."""
    direct: list[float] = attrs.field(factory=list)
    """Seconds of the same without it, in turn with these: how busy the machine is."""

    def was_good(self) -> None:
        """Asserts it; that nothing failed has been asserted before."""
        assert len(self.through) >= LEAST
        allowed = LIMIT + SLACK * p95(self.direct)
        assert p95(self.through) < allowed, (
            f"95 of 100 within {p95(self.through):.3f} s, allowed are {allowed:.3f}"
        )


def use(
    tunnel: Callable[[], object], direct: Callable[[], object], while_: Callable[[], bool]
) -> Experience:
    """Make requests as long as ``while_`` says, and `LEAST` at least."""
    experience = Experience()
    while while_() or len(experience.through) < LEAST:
        experience.through.append(timed(tunnel))
        experience.direct.append(timed(direct))
        time.sleep(0.01)
    return experience


def peak(process: Process) -> int:
    """The most memory that it has ever had, in bytes."""
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def attack(
    processes: Processes, kind: str, place: Place, env: dict[str, str] | None = None
) -> Process:
    """Begin an attack; it ends by itself after `SECONDS`."""
    program = Path(__file__).with_name("attacks.py")
    words = (kind, *place, SECONDS, ATTACKER)
    return processes.start(
        f"attacker ({kind})", sys.executable, program, *words, ready="attacking", env=env
    )


def going_on(attacker: Process) -> Callable[[], bool]:
    """Whether it has not ended."""
    return lambda: attacker.child.poll() is None


def struck(attacker: Process, least: int = 10) -> None:
    """Asserts that there was an attack at all."""
    assert attacker.wait(60 + SECONDS) == 0
    assert int(attacker.wait_for(r"struck (\d+) times")[1]) >= least
