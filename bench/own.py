"""tunnelkit's own ways to do the job."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench import role as role_program
from bench.loads import Address
from bench.parties import Layout, Parties, Place
from bench.system import System, path_of

CONTROL = "control"
"""The socket of a role that was started from a source tree, in the directory of its process."""


def issue_identities(parties: Parties) -> None:
    """Make ``keys/client.pem`` and ``keys/server.pem`` in the parties' directory."""
    keys = str(parties.directory / "keys")
    for arguments in (["init"], ["issue", "client"], ["issue", "server"]):
        subprocess.run(
            [path_of("tunnelkit"), "keys", *arguments, "--dir", keys],
            check=True,
            capture_output=True,
        )


def start_role(
    parties: Parties,
    place: Place,
    role: str,
    options: list[str],
    environment: Mapping[str, str] = {},
    *,
    tree: Path | None = None,
) -> None:
    """Start a tunnelkit role under twistd: the installed one, or that of a source tree, which
    listens for the commands of ``bench/role.py`` at ``control`` in its directory."""
    if tree is None:
        command = [path_of("twistd"), "-n", "--pidfile=", role, *options]
    else:
        program = [sys.executable, role_program.__file__, str(tree), CONTROL]
        command = [*program, role, *options]
    parties.start(role, command, place, environment)


def start_lstp_middle(parties: Parties, place: Place, *, tree: Path | None = None) -> Address:
    """Start an LSTP middle and wait until it listens."""
    address = place.address, place.free_port()
    listen = ["--listen", f"{address[0]}:{address[1]}"]
    start_role(parties, place, "lstp-middle", listen, tree=tree)
    parties.wait_for_answer(place, address, tunnel=False)
    return address


class Own(System):
    """What is installed here, or what is in another source tree."""

    programs = ("tunnelkit", "twistd")

    def __init__(self, revision: str = "", tree: Path | None = None) -> None:
        """``revision`` is said in the name of what runs from ``tree``."""
        self.tree = tree
        if revision:
            self.name = f"{self.name}@{revision}"
            self.legs = f"{self.legs}; revision {revision}"


class Lstp(Own):
    """tunnelkit's LSTP: encrypted end to end, the middle passes bytes through."""

    name = "lstp"
    legs = "tunnelkit over LSTP: client end, middle, server end; TLS 1.3 end to end"
    options: tuple[str, ...] = ()
    """For both ends."""

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Keys, the middle, the server end, the client end."""
        issue_identities(parties)
        host, port = start_lstp_middle(parties, layout.middle, tree=self.tree)
        common = ["--middle", f"{host}:{port}", "--tunnel", "bench", *self.options]
        inside = f"tcp:127.0.0.1:{target}"
        entry = layout.client.free_port()
        server = ["--identity", f"{parties.directory}/keys/server.pem", "--peer", "client"]
        server += ["--allow", inside]
        start_role(parties, layout.server, "lstp-server-end", [*common, *server], tree=self.tree)
        client = ["--identity", f"{parties.directory}/keys/client.pem", "--peer", "server"]
        client += ["--forward", f"127.0.0.1:{entry}={inside}"]
        start_role(parties, layout.client, "lstp-client-end", [*common, *client], tree=self.tree)
        return "127.0.0.1", entry


class CompressedLstp(Lstp):
    """The same, with what the channels carry compressed."""

    name = "lstp-compress"
    legs = f"{Lstp.legs}; --compress at both ends"
    options = ("--compress",)


class Usher(Own):
    """tunnelkit's Usher: a gate that listens, a portal that dials it; no middle."""

    name = "usher"
    legs = "tunnelkit over Usher: portal and gate, TLS 1.3, one leg (no middle)"

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Keys, the gate at the client's place, the portal at the server's."""
        issue_identities(parties)
        gate = layout.client.address, layout.client.free_port()
        inside = f"tcp:127.0.0.1:{target}"
        entry = layout.client.free_port()
        client = ["--listen", f"{gate[0]}:{gate[1]}", "--peer", "server"]
        client += ["--identity", f"{parties.directory}/keys/client.pem"]
        client += ["--forward", f"127.0.0.1:{entry}={inside}"]
        start_role(parties, layout.client, "usher-gate", client, tree=self.tree)
        parties.wait_for_answer(layout.client, gate, tunnel=False)
        server = ["--gate", f"{gate[0]}:{gate[1]}", "--peer", "client", "--allow", inside]
        server += ["--identity", f"{parties.directory}/keys/server.pem"]
        start_role(parties, layout.server, "usher-portal", server, tree=self.tree)
        return "127.0.0.1", entry
