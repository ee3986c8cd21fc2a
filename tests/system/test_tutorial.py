"""The tutorial, command by command, on the machines that it speaks of (rows Q4, Q10).

What is not as it would be at its readers': the three machines have one disk for programs, so that
it is installed once; the package comes from a wheel of this checkout, its libraries from this
environment; and `systemctl`, without a systemd that runs, is played by
`Units`; the unit is the tutorial's, and `systemd-analyze` judges it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.acceptance.processes import Process
from tests.packaging.fresh import ROOT, build_wheel
from tests.system.machines import Machines
from tests.system.places import Place, PlacedProcesses

PAGE = ROOT / "docs" / "tutorial" / "first-tunnel.md"
WHERE = {"relay": "on the relay", "office": "in the office", "laptop": "on the laptop"}
OWN = ("etc", "run")
"""What belongs to each machine, below /."""
SHARED = ("usr/local/bin", "opt")
"""What is the same on all three."""

_BLOCK = re.compile(r"(?:^|\n)([^\n]*):\n\n```\n(.*?)```", re.DOTALL)


def blocks(heading: str) -> list[tuple[str, str]]:
    """What the section says is to be typed: machine and commands."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = []
    for told, commands in _BLOCK.findall(section):
        machine = next((name for name, words in WHERE.items() if words in told.lower()), "all")
        found.append((machine, commands))
    assert found, heading
    return found


class Machine:
    """One machine, with /etc and such of its own."""

    def __init__(self, machines: Machines, place: Place, wheels: Path) -> None:
        self.place = place
        self.root = place.directory / "root"
        self.processes: PlacedProcesses = machines.processes(place)
        self._disk = machines.directory / "disk"
        disks = dict.fromkeys(OWN, self.root) | dict.fromkeys(SHARED, self._disk)
        for name, disk in disks.items():
            (disk / name).mkdir(parents=True, exist_ok=True)
        # As it is seen there: with that machine's hosts.
        place.run(["cp", "-a", "/etc/.", self.root / "etc"])
        place.run(["cp", "-a", "/usr/local/bin/.", self._disk / "usr/local/bin"])
        mounts = "".join(f"mount --bind {disk}/{name} /{name}\n" for name, disk in disks.items())
        self._enter = place.directory / "machine"
        self._enter.write_text(f'set -e\n{mounts}exec "$@"\n')
        self._env = {
            "PATH": f"/usr/local/bin:{sys.base_prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PYTHONUNBUFFERED": "1",
        }

    def _inside(self, *command: object) -> list[object]:
        return ["sh", self._enter, *command]

    def type(self, commands: str) -> str:
        """Run them to their end; what they print."""
        done = self.place.run(self._inside("bash", "-ec", commands), env=self._env)
        return done.stdout + done.stderr

    def add_libraries(self) -> None:
        """What pip would have fetched."""
        (here,) = (self._disk / "opt/tunnelkit/lib").glob("python*/site-packages")
        libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (here / "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n")

    def start(self, name: str, command: str) -> Process:
        """Run what goes on; ``command`` becomes the process that is started."""
        shell = self._inside("bash", "-ec", command)
        return self.processes.start(name, *shell, env=self._env)


class Units:
    """Plays systemd as far as the tutorial's unit needs it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.running: Process | None = None

    def control(self, command: str) -> None:
        """A line that begins with ``systemctl``."""
        verb, *options, name = shlex.split(command)[1:]
        assert (verb, options) in (("enable", ["--now"]), ("restart", []))
        if self.running is not None:
            assert self.running.stop() == 0
        root = self._machine.root
        unit = (root / f"etc/systemd/system/{name}.service").read_text().replace("\\\n", "")
        settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
        assert settings["WantedBy"] == "multi-user.target"
        credential, _, file = settings["LoadCredential"].partition(":")
        runtime, state = (f"/run/{settings[f'{kind}Directory']}" for kind in ("Runtime", "State"))
        prepare = (
            f"mkdir -p -m 700 {runtime} {state}.state /run/credentials\n"
            f"install -m 400 {file} /run/credentials/{credential}\n"
            f"export CREDENTIALS_DIRECTORY=/run/credentials\n"
            f"export RUNTIME_DIRECTORY={runtime} STATE_DIRECTORY={state}.state\n"
            f"exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "
        )
        self.running = self._machine.start(name, prepare + settings["ExecStart"])
        self.running.wait_for("READY")


@attrs.frozen
class Tutorial:
    """The reader, who has gone as far as the laptop's tunnel being used."""

    office: Machine
    laptop: Machine
    relay: Machine

    def at(self, machine: str) -> Machine:
        found: Machine = getattr(self, machine)
        return found


@pytest.fixture
def tutorial(tmp_path: Path) -> Iterator[Tutorial]:
    wheels = build_wheel(tmp_path)
    with Machines() as machines:
        found = Tutorial(
            *(
                Machine(machines, place, wheels)
                for place in (machines.office, machines.laptop, machines.relay)
            )
        )
        try:
            yield found
        finally:
            for machine in (found.relay, found.office, found.laptop):
                print(machine.processes.logs())


def start_sshd(machine: Machine) -> str:
    """The office's ssh server; the options with which the laptop gets in."""
    directory = machine.place.directory
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True
        )
    config = directory / "sshd_config"
    config.write_text(
        f"Port 22\nListenAddress 127.0.0.1\nHostKey {directory}/host_key\n"
        f"AuthorizedKeysFile {directory}/user_key.pub\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    sshd = machine.start("sshd", f"mkdir -m 755 /run/sshd; exec /usr/sbin/sshd -D -e -f {config}")
    sshd.wait_for("Server listening")
    return (
        f"-F none -i {directory}/user_key -o BatchMode=yes -o StrictHostKeyChecking=no "
        "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )


@pytest.mark.timeout(300)
def test_every_command_from_nothing_to_the_stolen_laptop(tutorial: Tutorial) -> None:
    began = time.monotonic()
    office, laptop = tutorial.office, tutorial.laptop

    ((machine, commands),) = blocks("0. Install")
    assert machine == "all"
    office.type(commands)
    office.add_libraries()
    installed = time.monotonic()

    ((machine, commands),) = blocks("1. The relay")
    tutorial.at(machine).start("relay", f"exec {commands}").wait_for("READY")

    ((machine, commands),) = blocks("2. The office shows a code")
    first, pair = commands.strip().split("\n")
    assert "made a CA" in tutorial.at(machine).type(first)
    inside = tutorial.at(machine).start("office", f"exec {pair}")
    code = inside.wait_for(r"The code is +(\S+)")[1]

    ((machine, commands),) = blocks("3. The laptop types it")
    joiner = tutorial.at(machine).start("laptop", f"exec {commands.strip()} <<< {code}")
    joiner.wait_for("Paired with office")
    inside.wait_for("Paired with laptop")
    told = joiner.wait_for("Open here: (.*)")[0]
    assert told in PAGE.read_text()
    joiner.wait_for("Tunnel office with office is up")

    (machine, commands), (back, again) = blocks("4. Use it")
    assert (machine, back) == ("laptop", "laptop")
    options = start_sshd(office)
    assert commands.startswith("ssh ")
    ssh = f"ssh {options} {commands[4:].strip()} 'hostname; echo $SSH_CONNECTION'"
    assert "127.0.0.1 22" in tutorial.at(machine).type(ssh)
    used = time.monotonic()

    assert joiner.stop() == 0
    client = tutorial.at(back).start("laptop again", f"exec {again}")
    client.wait_for("Tunnel office with office is up")
    assert "127.0.0.1 22" in laptop.type(ssh)

    assert inside.stop() == 0
    (machine, commands), (other, status) = blocks("5. The office starts at boot")
    units = Units(tutorial.at(machine))
    *lines, start = commands.strip().split("\n")
    assert tutorial.at(machine).type("\n".join(lines)) == "", "systemd-analyze has a word to say"
    units.control(start)
    served = units.running
    assert served is not None
    served.wait_for("Tunnel office with laptop is up", limit=60)
    assert "connected" in tutorial.at(other).type(status)
    assert "127.0.0.1 22" in laptop.type(ssh)

    (machine, revoke), (_, renew) = blocks("6. The laptop is stolen")
    since = len(client.lines)
    assert "revoked 1 certificate of laptop" in tutorial.at(machine).type(revoke)
    revoked = time.monotonic()
    served.wait_for("laptop.*revoked")
    client.wait_for("revoked", since=since)
    cut = time.monotonic()
    with pytest.raises(AssertionError):
        laptop.type(ssh)

    *lines, restart = renew.strip().split("\n")
    office.type("\n".join(lines))
    units.control(restart)
    again_served = units.running
    assert again_served is not None
    again_served.wait_for("Waiting at the middle")
    # Both wait at the same relay at the same time, and that is all that happens.
    deadline = time.monotonic() + 60
    while "Waiting at the middle" not in client.lines[-1]:
        assert time.monotonic() < deadline, client.log
        client.wait_for("Waiting at the middle", since=len(client.lines) - 1)
    assert not re.search("is up|No tunnel", again_served.log)
    print(
        f"installed in {installed - began:.1f} s, ssh works after {used - installed:.1f} s more, "
        f"cut {cut - revoked:.2f} s after the list was there"
    )
