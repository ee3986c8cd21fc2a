"""Installed in any of the usual ways, twistd knows tunnelkit's roles."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.fresh import build_wheel, copy_source, fresh_python, install, run

ROLES = (
    *("lstp-middle", "lstp-client-end", "lstp-server-end", "usher-gate", "usher-portal"),
    *("wtls-proxy", "wtls-domain-proxy"),
)
TWISTD = "from twisted.scripts.twistd import run; run()"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the checkout, so that building leaves nothing in it."""
    return copy_source(tmp_path)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A fresh environment that has this one's libraries, but not this one's tunnelkit."""
    return fresh_python(tmp_path)


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
    (wheel,) = build_wheel(tmp_path, source).iterdir()
    install(python, wheel, cwd=tmp_path)
    check(python, tmp_path)
