"""A front end in one file of somebody else's: `examples/own_front_end.py`, as its page says."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.applications import Application
from tests.acceptance.processes import TWISTD, Identities
from tests.acceptance.tunnels import Transport

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_front_end.py"


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that has the front end."""
    plug_ins = tmp_path / "mine" / "twisted" / "plugins"
    plug_ins.mkdir(parents=True)
    shutil.copy(EXAMPLE, plug_ins / "spread.py")
    return {"PYTHONPATH": str(tmp_path / "mine")}


def twistd(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [*TWISTD, "-n", *map(str, words)],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def says(word: bytes) -> Application:
    """An application that says ``word`` and ends."""
    return Application(lambda sock: sock.sendall(word))


def heard(address: str) -> bytes:
    """What somebody hears who connects there."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 20) as sock:
        received = b""
        while data := sock.recv(100):
            received += data
        return received


@pytest.mark.parametrize("role", ["lstp-client-end", "lstp-server-end", "usher-gate"])
def test_its_option_is_in_the_help_of_every_end(mine: dict[str, str], role: str) -> None:
    shown = " ".join(twistd(mine, role, "--help").stdout.split())
    assert (
        "--spread [HOST:]PORT=DESTINATION,... a port here whose connections go to these in "
        "turn; repeatable" in shown
    )
    assert "--spread" not in twistd({}, role, "--help").stdout


def test_its_mistakes_are_one_line_with_their_place(
    mine: dict[str, str], identities: Identities, tmp_path: Path
) -> None:
    common = ("--gate", "127.0.0.1:1", "--identity", identities("client"), "--peer", "server")
    done = twistd(mine, "usher-portal", *common, "--spread", "8080")
    expected = "'8080' has no '=': expected [HOST:]PORT=DESTINATION,DESTINATION"
    assert (done.returncode, done.stderr) == (
        2,
        f"twistd usher-portal: --spread: {expected}\n",
    )
    file = tmp_path / "portal.toml"
    file.write_text('# \nspread = ["0=tcp:a:1", "8080"]\n')
    done = twistd(mine, "usher-portal", *common, "--config", file)
    assert (done.returncode, done.stderr) == (
        2,
        f"twistd usher-portal: {file}:2: key spread, entry 2: {expected}\n",
    )


def test_it_carries_bytes_follows_a_reload_and_is_in_the_access_log(
    transport: Transport, mine: dict[str, str], tmp_path: Path
) -> None:
    with says(b"one") as one, says(b"two") as two:
        both = f"{one.destination},{two.destination}"
        file = tmp_path / "near.toml"
        file.write_text(f'spread = "127.0.0.1:0={both}"\n')
        tunnel = transport([one.destination, two.destination], "--config", file, client_env=mine)
        address = tunnel.client.address("spread")
        assert [heard(address) for _ in range(3)] == [b"one", b"two", b"one"]
        tunnel.client.wait_for(f"channel out peer=server destination={two.destination} .*=done")
        file.write_text(f'spread = ["127.0.0.1:0={both}", "127.0.0.1:0={two.destination}"]\n')
        found = tunnel.client.wait_for(r"Reloaded: opened spread (\S+) to ")
        assert heard(found[1]) == b"two"
        # The other port is still the same one, in the middle of its round.
        assert heard(address) == b"two"
