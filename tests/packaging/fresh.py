"""A wheel of this checkout, and what else it takes to install it as others do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE")
PACKAGES = ("tunnelkit", "twisted")
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "dropin.cache")


def run(*command: object, cwd: Path) -> str:
    """Run a program that must succeed, without the settings of this Python; what it prints."""
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


def copy_source(directory: Path) -> Path:
    """A copy of the checkout, so that building leaves nothing in it."""
    copy = directory / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=LEFT_OUT)
    for name in SOURCE:
        shutil.copy(ROOT / name, copy)
    return copy


def build_wheel(directory: Path, source: Path | None = None) -> Path:
    """The directory with the wheel, and nothing else."""
    wheels = directory / "wheels"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", wheels,
        source or copy_source(directory), cwd=directory,
    )  # fmt: skip
    return wheels


def fresh_python(directory: Path) -> Path:
    """Of an environment that has this one's libraries, but not this one's tunnelkit."""
    home = directory / "fresh"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=directory)
    fresh = home / "bin" / "python"
    purelib = run(
        fresh, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=directory
    ).strip()
    # Only the folder itself: what its own .pth files add (an editable tunnelkit) stays out.
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(purelib, "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n")
    return fresh


def install(python: Path, what: object, *options: str, cwd: Path) -> None:
    """Into the environment of ``python``."""
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", *options, what, cwd=cwd)
