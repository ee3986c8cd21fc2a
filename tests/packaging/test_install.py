"""Installed in any of the usual ways, twistd knows tunnelkit's roles."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROLES = (
    *("lstp-middle", "lstp-client-end", "lstp-server-end", "usher-gate", "usher-portal"),
    *("wtls-proxy", "wtls-domain-proxy"),
)
TWISTD = "from twisted.scripts.twistd import run; run()"
SOURCE = ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE")
PACKAGES = ("tunnelkit", "twisted")
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "dropin.cache")


def run(*command: object, cwd: Path) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COVERAGE"))
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the checkout, so that building leaves nothing in it."""
    copy = tmp_path / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=LEFT_OUT)
    for name in SOURCE:
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A fresh environment that has this one's libraries, but not this one's tunnelkit."""
    home = tmp_path / "fresh"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    fresh = home / "bin" / "python"
    purelib = run(
        fresh, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    ).strip()
    # Only the folder itself: what its own .pth files add (an editable tunnelkit) stays out.
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(purelib, "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n")
    return fresh


def install(python: Path, what: object, *options: str, cwd: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", *options, what, cwd=cwd)


def check(python: Path, tmp_path: Path) -> None:
    shown = run(python, "-c", TWISTD, "--help", cwd=tmp_path)
    for role in ROLES:
        assert role in shown
    assert "usage" in run(python.parent / "tunnelkit", "--help", cwd=tmp_path).lower()


def test_installed_from_the_source(source: Path, python: Path, tmp_path: Path) -> None:
    install(python, source, cwd=tmp_path)
    check(python, tmp_path)


def test_installed_editable(source: Path, python: Path, tmp_path: Path) -> None:
    install(python, source, "--editable", cwd=tmp_path)
    check(python, tmp_path)


def test_installed_from_a_wheel(source: Path, python: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", wheels, source,
        cwd=tmp_path,
    )  # fmt: skip
    (wheel,) = wheels.iterdir()
    install(python, wheel, cwd=tmp_path)
    check(python, tmp_path)
