"""The systemd units in examples/: one for each role, sandboxed, with its options (rule X34)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.processes import TWISTD, Process
from tests.acceptance.processes import tunnelkit as tunnelkit_command
from tunnelkit.policy.identity import identity_pem
from tunnelkit.roles.registry import roles
from tunnelkit.services.options import options_for
from tunnelkit.testing.authority import throwaway_ca

UNITS = Path(__file__).resolve().parents[2] / "examples" / "systemd"
PROGRAM = "/opt/tunnelkit/bin/twistd"
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
    command = re.search(rf"ExecStart={PROGRAM} -n (\S+)((?: \\\n.*)*)", text)
    assert command is not None
    assert command[1] == role
    declared = options_for(roles()[role]).declared
    assert set(re.findall(r"--([a-z-]+)", command[2])) <= declared.keys()
    assert ("LoadCredential=" in text) == ("identity" in declared)


def test_a_gate_runs_without_any_capability_with_a_credential(
    tmp_path: Path,
) -> None:
    credential = tmp_path / "credentials" / "identity.pem"
    credential.parent.mkdir()
    credential.write_bytes(identity_pem(throwaway_ca().identity("gate")))
    credential.chmod(0o440)
    control = tmp_path / "control"
    gate = Process(
        "gate",
        [
            *("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
            *(*TWISTD, "-n", "usher-gate", "--listen", "127.0.0.1:0", "--peer", "portal"),
            *("--identity", str(credential), "--allow", "tcp:127.0.0.1:9"),
            *("--control", str(control)),
        ],
        tmp_path,
        {"CREDENTIALS_DIRECTORY": str(credential.parent)},
    )
    try:
        gate.wait_for("READY usher-gate")
        assert "usher-gate" in tunnelkit_command("status", "--control", control)
    finally:
        assert gate.stop() == 0
