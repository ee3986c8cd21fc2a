"""From a bare environment to ssh through two firewalls, by a code (row Q2)."""

from __future__ import annotations

import time
from pathlib import Path

from tests.acceptance.processes import Role
from tests.packaging.fresh import build_wheel, fresh_python, install
from tests.system.crossings import Running, middle_at, through_the_firewall
from tests.system.laboratory import Laboratory
from tests.system.places import Place
from tests.system.services import SSH, Services
from tests.system.test_programs import ssh_options


def test_ssh_through_two_firewalls_by_two_commands_and_a_code(
    lab: Laboratory, running: Running, services: Services, tmp_path: Path
) -> None:
    python = fresh_python(tmp_path)
    (wheel,) = build_wheel(tmp_path).iterdir()
    install(python, wheel, cwd=tmp_path)
    program = python.parent / "tunnelkit"
    dropped = lab.counters()
    relay = running.at(lab.internet)
    relay.start("middle", program, "middle", "--listen", middle_at(0), ready="READY")

    def pair(place: Place, name: str, *words: object) -> Role:
        process = running.at(place).start(
            name,
            *(program, "pair", "--middle", middle_at(0), "--name", name),
            *("--dir", tmp_path / f"{name}-keys", *through_the_firewall(running, place), *words),
        )
        return Role(process, waits=False)

    began = time.monotonic()
    office = pair(lab.company_a, "office", "--allow", SSH)
    code = office.wait_for(r"The code is +(\S+)")[1]
    shown = time.monotonic()
    laptop = Role(pair(lab.company_b, "laptop", code).process)
    port = laptop.port("forward")
    into = [*ssh_options(services, "-p", str(port)), "root@127.0.0.1", "echo $SSH_CONNECTION"]
    assert lab.company_b.run(into).stdout.split()[2:] == SSH.split(":")[1:]
    ended = time.monotonic()
    print(
        f"code shown after {shown - began:.1f} s, ssh answers {ended - shown:.1f} s after it was "
        f"typed, {ended - began:.1f} s in all"
    )
    assert lab.counters() == dropped, "nobody has tried another way than the proxies"
    # Both start again by what they have written, without a code.
    for role in (office, laptop):
        role.process.stop()
    for name, place, what in (
        ("office", lab.company_a, "server"),
        ("laptop", lab.company_b, "client"),
    ):
        settings = tmp_path / f"{name}-keys" / f"{name}.toml"
        role = Role(running.at(place).start(name, program, what, "--config", settings))
    assert role.port("forward") == port
    assert lab.company_b.run(into).stdout.split()[2:] == SSH.split(":")[1:]
