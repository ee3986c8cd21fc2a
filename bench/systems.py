"""The systems that are compared, by the names of ``--only``."""

from __future__ import annotations

from bench.own import Lstp, Usher
from bench.peers import Chisel, Frp, GsNetcat, SshLeg, SshPair, Stunnel
from bench.system import NoTunnel, System
from bench.wormhole_forwards import Fowl

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        *(NoTunnel(), SshPair(), SshLeg(), Stunnel(), Chisel(), GsNetcat(), Frp(), Fowl()),
        *(Lstp(), Usher()),
    )
}


def choose(only: str, default: tuple[str, ...] = tuple(SYSTEMS)) -> list[System]:
    """The systems named in ``only`` (comma-separated; empty: ``default``).

    Raises SystemExit for an unknown name.
    """
    names = only.split(",") if only else default
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise SystemExit(f"no system {unknown[0]!r}; known: {', '.join(SYSTEMS)}")
    return [SYSTEMS[name] for name in names]
