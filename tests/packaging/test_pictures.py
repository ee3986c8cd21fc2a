"""The pictures of the documentation are those that their script draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_pictures_are_what_the_script_draws(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts/draw-pictures", tmp_path], check=True)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == ["blind-middle-dark.svg", "blind-middle.svg"]
    for name in drawn:
        assert (ROOT / "docs/images" / name).read_bytes() == (tmp_path / name).read_bytes()
