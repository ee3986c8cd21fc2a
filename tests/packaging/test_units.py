"""The systemd units in examples/: one for each role, sandboxed, with its options (rule X34)."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.processes import TUNNELKIT, Process
from tests.acceptance.processes import tunnelkit as tunnelkit_command
from tests.packaging.confined import confined
from tunnelkit.cli.role_command import SHORT
from tunnelkit.policy.identity import identity_pem
from tunnelkit.roles.registry import roles
from tunnelkit.services.options import options_for
from tunnelkit.testing.authority import throwaway_ca

UNITS = Path(__file__).resolve().parents[2] / "examples" / "systemd"
PROGRAM = "/opt/tunnelkit/bin/tunnelkit"
WITHOUT = {"tunnel-end"}
"""Needs plug-ins of somebody else."""
NAMES = sorted(path.name for path in UNITS.glob("*.service"))


def test_there_is_a_unit_for_each_role() -> None:
    assert sorted(f"tunnelkit-{name}.service" for name in roles().keys() - WITHOUT) == NAMES


def test_systemd_takes_them_without_a_word(tmp_path: Path) -> None:
    for name in NAMES:
        text = (UNITS / name).read_text()
        assert text.count(PROGRAM) == 1
        (tmp_path / name).write_text(text.replace(PROGRAM, "/bin/true"))
    units = [str(tmp_path / name) for name in NAMES]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_who_breaks_in_finds_little(name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(UNITS / name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    level = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert level is not None
    assert float(level[1]) <= 2.5
    text = (UNITS / name).read_text()
    assert "\nMemoryDenyWriteExecute" not in text
    assert "\nDynamicUser=yes\n" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_has_options_of_the_role(name: str) -> None:
    text = (UNITS / name).read_text()
    role = name.removeprefix("tunnelkit-").removesuffix(".service")
    command = re.search(rf"ExecStart={PROGRAM} (\S+)((?: \\\n.*)*)", text)
    assert command is not None
    assert SHORT.get(command[1], command[1]) == role
    declared = options_for(roles()[role]).declared
    assert set(re.findall(r"--([a-z-]+)", command[2])) <= declared.keys()
    assert ("LoadCredential=" in text) == ("identity" in declared)


POLICY = """
[clients.server]
publish = ["tunnel"]

[clients.client]
connect = ["server/tunnel"]
"""


class Confined:
    """Roles that run as their units say, with what they have in their configuration files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = throwaway_ca()
        self.running: list[Process] = []

    def start(self, role: str, name: str, **options: object) -> Process:
        """One that is told ``options`` in its file, with the identity ``name``."""
        unit = (UNITS / f"tunnelkit-{role}.service").read_text()
        home = self.directory / f"{role}-{name}"
        home.mkdir()
        credential = None
        if "LoadCredential=" in unit:
            credential = home / "credentials" / "identity.pem"
            credential.parent.mkdir()
            credential.write_bytes(identity_pem(self.authority.identity(name)))
            credential.chmod(0o440)
        start = confined(unit, home, credential)
        command = re.search(rf"ExecStart={PROGRAM} ((?:.*\\\n)*.*)", unit)
        assert command is not None
        words = command[1].replace("\\\n", " ").split()
        config = home / "own" / f"{role}.toml"
        config.write_text(
            "".join(
                f"{key.replace('_', '-')} = {json.dumps(value)}\n" for key, value in options.items()
            )
        )
        places = {
            f"/etc/tunnelkit/{role}.toml": f"/run/own/{role}.toml",
            "${RUNTIME_DIRECTORY}": "/run/own",
            "${CREDENTIALS_DIRECTORY}": "/run/credentials",
        }
        for old, new in places.items():
            words = [word.replace(old, new) for word in words]
        process = Process(role, [*start, *TUNNELKIT, *words], self.directory)
        self.running.append(process)
        process.wait_for(f"READY {role}")
        return process

    def place(self, process: Process) -> str:
        return process.wait_for(r"listening on ([0-9.]+:\d+)")[1]


def test_every_role_runs_as_its_unit_confines_it(tmp_path: Path) -> None:
    """Ends are ready once they have a tunnel, so that is under the restrictions, too."""
    world = Confined(tmp_path)
    anywhere, web = ["127.0.0.1:0"], ["tcp:127.0.0.1:9"]
    try:
        middle = world.place(world.start("lstp-middle", "middle", listen=anywhere))
        meeting = {"middle": middle, "tunnel": "test"}
        world.start("lstp-server-end", "server", **meeting, peer=["client"], allow=web)
        world.start("lstp-client-end", "client", **meeting, peer=["server"], socks=["0"])
        gate = world.place(
            world.start("usher-gate", "gate", listen=anywhere, peer=["portal"], allow=web)
        )
        world.start("usher-portal", "portal", gate=gate, peer=["gate"], socks=["0"])
        policy = tmp_path / "policy.toml"
        policy.write_text(POLICY)
        server = world.place(
            world.start("secure-proxy-server", "relay.example", listen=anywhere, policy=str(policy))
        )
        known = {"server": server, "server_name": "relay.example"}
        publishes = {"publish": ["tunnel"], "peer": ["client"], "allow": web}
        published = world.start("secure-proxy-client", "server", **known, **publishes)
        world.start("secure-proxy-client", "client", **known, target="server", socks=["0"])
        published.wait_for("with client is up")
        origins = ["bank.example=http://127.0.0.1:9"]
        world.start("wtls-domain-proxy", "door", listen=anywhere, origin=origins)
        world.start("wtls-proxy", "operator", listen=anywhere, allow=["tcp:*.example:80"])
        assert {process.name for process in world.running} == roles().keys() - WITHOUT
        inside = tmp_path / "usher-gate-gate" / "own"
        assert "usher-gate" in tunnelkit_command("status", "--control", "control", cwd=inside)
    finally:
        for process in reversed(world.running):
            process.kill()
        print("\n".join(process.log for process in world.running))
