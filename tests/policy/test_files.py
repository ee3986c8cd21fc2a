"""Where a file with a secret may be, and whose it may be (rule X31; U-12)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.policy.files import NotPrivate, read_file, read_private_file

SOMEBODY = 65_534
Place = Callable[[Path, pytest.MonkeyPatch], Path]


def secret(directory: Path, mode: int = 0o600) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "secret"
    path.write_bytes(b"hush")
    path.chmod(mode)
    return path


def give_away(path: Path, patch: pytest.MonkeyPatch) -> None:
    """Let ``path`` be another user's than the process's."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, SOMEBODY)
    else:
        patch.setattr(os, "geteuid", lambda: SOMEBODY)


def a_private_file(base: Path, patch: pytest.MonkeyPatch) -> Path:
    return secret(base / "keys")


def read_only(base: Path, patch: pytest.MonkeyPatch) -> Path:
    return secret(base / "keys", 0o400)


def a_link_to_it(base: Path, patch: pytest.MonkeyPatch) -> Path:
    (base / "links").mkdir(mode=0o755)
    (base / "links" / "secret").symlink_to(secret(base / "keys"))
    return base / "links" / "secret"


def in_a_sticky_directory(base: Path, patch: pytest.MonkeyPatch) -> Path:
    path = secret(base / "tmp")
    path.parent.chmod(0o1777)
    return path


def readable_by_a_group(base: Path, patch: pytest.MonkeyPatch) -> Path:
    return secret(base / "keys", 0o440)


def readable_by_all(base: Path, patch: pytest.MonkeyPatch) -> Path:
    return secret(base / "keys", 0o444)


def writable_by_a_group(base: Path, patch: pytest.MonkeyPatch) -> Path:
    return secret(base / "keys", 0o620)


def somebody_elses(base: Path, patch: pytest.MonkeyPatch) -> Path:
    path = secret(base / "keys")
    give_away(path, patch)
    return path


def in_somebody_elses_directory(base: Path, patch: pytest.MonkeyPatch) -> Path:
    path = secret(base / "keys")
    give_away(path.parent, patch)
    return path


def in_a_directory_of_a_group(base: Path, patch: pytest.MonkeyPatch) -> Path:
    path = secret(base / "keys")
    path.parent.chmod(0o770)
    return path


def in_a_directory_of_all(base: Path, patch: pytest.MonkeyPatch) -> Path:
    path = secret(base / "keys")
    path.parent.chmod(0o777)
    return path


def behind_a_link_that_others_can_replace(base: Path, patch: pytest.MonkeyPatch) -> Path:
    path = a_link_to_it(base, patch)
    path.parent.chmod(0o777)
    return path


GOOD: list[Place] = [a_private_file, read_only, a_link_to_it, in_a_sticky_directory]
BAD: list[Place] = [
    readable_by_a_group,
    readable_by_all,
    writable_by_a_group,
    somebody_elses,
    in_somebody_elses_directory,
    in_a_directory_of_a_group,
    in_a_directory_of_all,
    behind_a_link_that_others_can_replace,
]


@pytest.mark.parametrize("place", GOOD)
def test_a_secret_is_safe_there(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_private_file(place(tmp_path, monkeypatch), "secret") == b"hush"


@pytest.mark.parametrize("place", BAD)
def test_a_secret_is_not_safe_there(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(tmp_path, monkeypatch)
    with pytest.raises(NotPrivate, match=r"^secret: "):
        read_private_file(path, "secret")
    # What everybody may read anyway is not asked about.
    assert read_file(path, "secret") == b"hush"
    # Who runs this in a container says so.
    assert read_private_file(path, "secret", any_mode=True) == b"hush"
    # Nobody else sees the credentials of a service, whatever their mode is.
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.resolve().parent))
    assert read_private_file(path, "secret") == b"hush"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "else"))
    with pytest.raises(NotPrivate):
        read_private_file(path, "secret")


def test_a_pipe_is_no_key_file_even_then(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is not a regular file"):
        read_private_file(tmp_path / "pipe", "secret", any_mode=True)
