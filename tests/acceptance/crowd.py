"""Many tunnels at once: all their client ends in one process, all their server ends in another."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

import attrs

from tests.acceptance.processes import Identities, Process, Processes


@attrs.frozen
class Crowd:
    """Tunnel number N is called ``tN``, and has a forward to the target."""

    client: Process
    server: Process

    @property
    def processes(self) -> tuple[Process, Process]:
        """Both."""
        return self.client, self.server

    def up(self) -> set[int]:
        """Numbers of the tunnels that have been up, at either end."""
        lines = [*self.client.lines, *self.server.lines]
        found = (re.search(r"Tunnel t(\d+) with \S+ is up", line) for line in lines)
        return {int(match[1]) for match in found if match}

    def forward(self, number: int) -> tuple[str, int]:
        """Where the forward of tunnel ``number`` is entered, once that has been up."""
        place = self.client.wait_for(rf"forward (\S+):(\d+) to .*; tunnel t{number} at ")
        return place[1], int(place[2])


def start_crowd(
    processes: Processes,
    identities: Identities,
    middles: Sequence[str],
    target: str,
    server_identity: str = "server",
) -> Crowd:
    """A tunnel to ``target`` through each of the middles (``HOST:PORT``); waits for nothing."""
    lines: dict[str, list[list[str]]] = {"client": [], "server": []}
    for number, middle in enumerate(middles):
        common = ["--middle", middle, "--tunnel", f"t{number}"]
        lines["client"].append(
            [
                *("lstp-client-end", *common, "--identity", str(identities("client"))),
                *("--peer", "server", "--forward", f"0={target}"),
            ]
        )
        lines["server"].append(
            [
                *("lstp-server-end", *common, "--identity", str(identities(server_identity))),
                *("--peer", "client" if server_identity != "client" else "server"),
                *("--allow", target),
            ]
        )
    started = []
    for name, ends in lines.items():
        file = processes.directory / f"{name}-ends.json"
        file.write_text(json.dumps(ends))
        command = (sys.executable, "-m", "tests.acceptance.many_ends", file)
        started.append(processes.start(f"{name} ends", *command))
    return Crowd(*started)
