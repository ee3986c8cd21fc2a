"""tunnelkit.pyz runs with nothing but Python (row O5), and the man pages are readable (O11)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.acceptance.processes import Process, Processes
from tests.packaging.bare import bare_python
from tunnelkit.cli.main import command_names
from tunnelkit.policy.identity import identity_pem
from tunnelkit.roles.registry import roles
from tunnelkit.testing.authority import throwaway_ca

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
BARE = [getattr(sys, "_base_executable", sys.executable), "-I", "-S"]
"""Python without what is installed beside it."""


def script(name: str, *words: object) -> str:
    command = [sys.executable, str(SCRIPTS / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pyz") / "tunnelkit.pyz"
    script("make-pyz", path)
    return path


def ended(*command: object, home: Path) -> tuple[int, str]:
    done = subprocess.run(
        [*BARE, *map(str, command)],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_it_runs_a_role_on_a_machine_with_nothing_but_python(
    one_file: Path, tmp_path: Path
) -> None:
    status, said = ended(one_file, "keys", "init", "--dir", tmp_path / "keys", home=tmp_path)
    assert status == 0, said
    (kept,) = (tmp_path / ".cache" / "tunnelkit").iterdir()
    began = kept.stat().st_mtime_ns
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    command = [*BARE, str(one_file), "middle", "--listen", "127.0.0.1:0"]
    role = Process("one file", command, tmp_path, environment)
    try:
        role.wait_for("READY lstp-middle")
    finally:
        assert role.stop() == 0
    assert kept.stat().st_mtime_ns == began


def test_a_portal_in_a_bare_root_runs_and_shows_its_status(one_file: Path, tmp_path: Path) -> None:
    processes = Processes(tmp_path / "outside")
    processes.directory.mkdir()
    work = tmp_path / "work"
    bare = bare_python(tmp_path)
    authority = throwaway_ca()
    for name in ("gate", "portal"):
        (work / f"{name}.pem").write_bytes(identity_pem(authority.identity(name)))
        (work / f"{name}.pem").chmod(0o600)
    shutil.copy(one_file, work / "tunnelkit.pyz")
    try:
        gate = processes.role(
            "usher-gate", "--listen", "127.0.0.1:0", "--identity", work / "gate.pem",
            "--peer", "portal", "--allow", "tcp:127.0.0.1:9",
        )  # fmt: skip
        portal = processes.start(
            "portal", *bare, "-I", "tunnelkit.pyz", "portal", "--identity", "portal.pem",
            "--gate", gate.address("listening on"), "--peer", "gate", "--socks", "0",
            "--status", "127.0.0.1:0", "--status-token-file", "token",
            ready="READY usher-portal",
        )  # fmt: skip
        where = portal.wait_for(r"Status at (http://\S+)/")[1]
        token = (work / "token").read_text().strip()
        asking = {"Authorization": f"Bearer {token}"}
        with urlopen(Request(f"{where}/status.json", headers=asking), timeout=20) as answer:
            status = json.load(answer)
        assert (status["role"], status["state"]) == ("usher-portal", "connected")
        with urlopen(Request(f"{where}/metrics", headers=asking), timeout=20) as answer:
            assert re.search(rb'tunnelkit_tunnel_up\{.*peer="gate"\} 1\n', answer.read())
        with urlopen(f"{where}/", timeout=20) as answer:
            assert b"<html" in answer.read()
        assert not any("Traceback" in line for line in portal.lines)
    finally:
        processes.end()
        print(processes.logs())


def test_with_another_python_one_line_says_so(one_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(one_file) as archive, zipfile.ZipFile(other, "w") as made:
        main = archive.read("__main__.py").decode()
        version = tuple(sys.version_info[:2])
        assert repr(version) in main
        made.writestr("__main__.py", main.replace(repr(version), "(3, 2)"))
    status, said = ended(other, "--version", home=tmp_path)
    assert status == 2
    version_text = ".".join(map(str, sys.version_info[:2]))
    expected = f"this is Python {version_text}: expected 3.2, for which the file was made"
    assert said == f"tunnelkit.pyz: {expected}\n"


def test_a_place_that_others_can_change_is_not_run_from(one_file: Path, tmp_path: Path) -> None:
    assert ended(one_file, "--version", home=tmp_path)[0] == 0
    (kept,) = (tmp_path / ".cache" / "tunnelkit").iterdir()
    kept.chmod(0o777)
    status, said = ended(one_file, "--version", home=tmp_path)
    assert status == 2
    assert "others can change it" in said
    assert said.count("\n") == 1


def test_there_is_a_man_page_for_each_command_and_role_without_a_warning(tmp_path: Path) -> None:
    script("make-man-pages", tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    wanted = [*command_names(), *roles()]
    assert names == {"tunnelkit.1", *(f"tunnelkit-{name}.1" for name in wanted)}
    pages = [str(tmp_path / name) for name in sorted(names)]
    command = ["groff", "-man", "-Tascii", "-ww", "-P-c", *pages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tunnelkit-usher-gate" in done.stdout
