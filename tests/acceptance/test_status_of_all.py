"""``tunnelkit status`` without options, and ``tunnelkit check`` (row Q7)."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.processes import TUNNELKIT, Identities, Processes, Role, tunnelkit
from tests.acceptance.tunnels import start_client_end, start_server_end


class Machine:
    """Roles of one user, and what ``tunnelkit status`` says there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {"XDG_RUNTIME_DIR": str(directory)}

    def status(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [*TUNNELKIT, "status", *words],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    def roles(self) -> list[dict[str, Any]]:
        """Those of this directory: there may be others on the machine that runs the tests."""
        found = json.loads(self.status("--json")[1])
        return [one for one in found if one["control"].startswith(str(self.directory))]


@pytest.fixture
def machine(short_path: Path) -> Iterator[Machine]:
    yield Machine(short_path)
    # Whoever ends takes its socket along.
    assert list(short_path.glob("tunnelkit/*")) == []


def start(processes: Processes, identities: Identities, machine: Machine) -> tuple[Role, ...]:
    env = machine.environment
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0", env=env)
    control = machine.directory / "elsewhere"
    server = start_server_end(
        processes, identities, middle, ["tcp:127.0.0.1:9"], "--control", control, env=env
    )
    return middle, server, start_client_end(processes, identities, middle, "--socks", "0", env=env)


def test_all_roles_are_shown_with_what_matters(
    processes: Processes, identities: Identities, machine: Machine
) -> None:
    roles = start(processes, identities, machine)
    middle, server, _ = roles
    with socket.create_connection(("127.0.0.1", middle.port("listening on"))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        middle.wait_for("Sent away")
    assert "; as server; tunnel test at middle 127.0.0.1:" in server.ready
    assert server.ready.endswith("; allows tcp:127.0.0.1:9; revocation list: 0 entries")
    found = {one["role"]: one for one in machine.roles()}
    assert set(found) == {"lstp-middle", "lstp-server-end", "lstp-client-end"}
    _, text = machine.status()
    assert "lstp-server-end server: connected, up since 20" in text
    for line in ("allows        tcp:127.0.0.1:9", "connected to  client", "certificate   until 20"):
        assert line in text
    assert "revoked       " in text
    # A warning stays, also while all is well.
    assert re.search(r"^  last problem  20[^ ]+ [^ ]+ UTC: Sent away 127.0.0.1", text, re.M)
    assert "revoked.crl, 0 entries" in text
    for role in roles:
        assert role.process.stop() == 0


def test_who_was_killed_is_not_shown_and_leaves_nothing_for_long(
    processes: Processes, identities: Identities, machine: Machine
) -> None:
    middle, server, client = start(processes, identities, machine)
    middle.process.kill()
    server.process.kill()
    assert len(list(machine.directory.glob("tunnelkit/*"))) == 3
    assert [one["role"] for one in machine.roles()] == ["lstp-client-end"]
    assert machine.status("--check")[0] == 1
    assert client.process.stop() == 0


def test_where_nothing_runs_it_says_so(machine: Machine) -> None:
    assert machine.roles() == []


def check(*words: object) -> tuple[int, str]:
    done = subprocess.run(
        [*TUNNELKIT, "check", *map(str, words)], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_settings_are_checked_without_starting_anything(tmp_path: Path) -> None:
    tunnelkit("keys", "init", cwd=tmp_path)
    place = ("--middle", "relay.invalid:7000", "--tunnel", "work")
    tunnelkit(
        "keys", "issue", "office", *place, "--peer", "laptop", "--allow", "tcp:127.0.0.1:22",
        cwd=tmp_path,
    )  # fmt: skip
    file = tmp_path / "keys" / "office.toml"
    for words in (("--config", file), ("server", "--config", file)):
        status, said = check(*words)
        assert status == 0, said
        assert "ok       revocation list" in said
        assert "the other end may reach tcp:127.0.0.1:22" in said
        assert said.endswith("nothing is wrong\n")
    file.write_text(file.read_text() + 'alow = ["tcp:127.0.0.1:80"]\n')
    status, said = check("server", "--config", file)
    assert status == 1
    assert "office.toml:8: key alow: not known (did you mean 'allow'?)" in said
    status, said = check()
    assert status == 2
    assert said.count("\n") == 1
