"""What a system under comparison is, and where its programs are found.

The job: an application near the client end reaches a target near the server end through a middle,
encrypted. Neither end accepts connections from the other, except where ``legs`` says so.
"""

from __future__ import annotations

import abc
import shutil
import sys
from pathlib import Path

from bench.loads import Address
from bench.parties import Layout, Parties


class System(abc.ABC):
    """One way to do the job."""

    name: str
    """Short name for ``--only`` and the tables."""
    legs: str
    """What it does, for the explanation under the tables."""
    programs: tuple[str, ...] = ()
    """What must be installed."""

    def missing(self) -> list[str]:
        """The programs that are not on PATH."""
        return [program for program in self.programs if find(program) is None]

    @abc.abstractmethod
    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Start it; returns where the client application connects, seen from its place.

        The target listens on port ``target`` of 127.0.0.1 at the server's place. The system is
        ready when the target answers through it. Raises PartyFailed.
        """


def find(program: str) -> str | None:
    """Path of a program: beside the running Python first, then on PATH, then in sbin."""
    beside = Path(sys.executable).with_name(program)
    if beside.exists():
        return str(beside)
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def path_of(program: str) -> str:
    """Like ``find`` for a program that has been found before."""
    return find(program) or program


class NoTunnel(System):
    """The applications connected directly: what the loads and the kernel can do."""

    name = "none"
    legs = "the applications connected directly"

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Nothing to start."""
        return layout.server.address, target
