"""Pinned keys are replaced in a settings file, and nothing else in it (row Q2)."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.policy.pinned_file import replace_pins, with_pins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OLD, NEW, OTHER = bytes(32), bytes([1]) * 32, bytes([2]) * 32


def entry(pin: bytes, name: str = "laptop") -> str:
    return f"{name}=sha256:{pin.hex()}"


WRITTEN = f"""# Ours.
tunnel = "work"  # the same at both ends
peer-pin = [
    "{entry(OTHER, "tablet")}",
    "{entry(OLD)}",
]
allow = ["tcp:127.0.0.1:22"]
"""


def test_the_new_key_comes_behind_the_old_one_and_then_takes_its_place() -> None:
    both = with_pins(WRITTEN, "laptop", [OLD, NEW])
    assert both == WRITTEN.replace(
        f'    "{entry(OLD)}",\n', f'    "{entry(OLD)}",\n    "{entry(NEW)}",\n'
    )
    assert with_pins(both, "laptop", [OLD, NEW]) == both
    assert with_pins(both, "laptop", [NEW]) == WRITTEN.replace(entry(OLD), entry(NEW))
    # Another new key takes the place of one that was never in force.
    third = with_pins(both, "laptop", [OLD, OTHER[::-1][:31] + b"\3"])
    assert entry(NEW) not in third


@pytest.mark.parametrize(
    "text",
    [
        f'peer-pin = ["{entry(OLD)}"]',
        f"peer-pin = ['{entry(OLD)}', \"{entry(OTHER, 'tablet')}\"]  # two\n",
        f'peer-pin = [\n\t"{entry(OLD)}"  # the new laptop\n]\n',
        f'peer-pin = ["{entry(OTHER, "tablet")}",\n "{entry(OLD)}" , ]\n',
    ],
    ids=["inline", "quotes", "comment", "blanks"],
)
def test_however_people_write_it(text: str) -> None:
    before = tomllib.loads(text)["peer-pin"]
    place = before.index(entry(OLD))
    both = with_pins(text, "laptop", [OLD, NEW])
    assert tomllib.loads(both)["peer-pin"] == [
        *before[: place + 1], entry(NEW), *before[place + 1 :]
    ]  # fmt: skip
    after = tomllib.loads(with_pins(both, "laptop", [NEW]))["peer-pin"]
    assert after == [*before[:place], entry(NEW), *before[place + 1 :]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        f'peer-pin = "{entry(OLD)}"',
        f'peer-pin = ["sha256:{OLD.hex()}"]',
        f'peer-pin = ["{entry(OTHER)}"]',
        f'peer-pin = ["{entry(OLD)}"]\n# "{entry(OLD)}"',
        f'peer-pin = ["""{entry(OLD)}"""]',
        f'peer-pin = ["\\u006captop=sha256:{OLD.hex()}"]',
    ],
    ids=["none", "single", "unnamed", "another", "twice", "long", "escaped"],
)
def test_what_it_cannot_be_sure_of_stays_and_is_told(text: str, tmp_path: Path) -> None:
    file = tmp_path / "end.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"end\.toml: "):
        replace_pins(str(file), "laptop", [OLD, NEW])
    assert file.read_text() == text


def test_the_file_is_its_owners_and_a_link_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "end.toml", tmp_path / "link.toml"
    file.write_text(WRITTEN)
    file.chmod(0o644)
    link.symlink_to(file)
    replace_pins(str(link), "laptop", [OLD, NEW])
    assert link.is_symlink()
    assert entry(NEW) in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        replace_pins(str(tmp_path / "gone.toml"), "laptop", [OLD])
