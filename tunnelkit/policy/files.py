"""Reading files that keep secrets, and files that everybody may read (rows X13, X22, X31); writing
either whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable

LARGEST_FILE = 262_144

_ROOT = 0


class NotPrivate(ConfigError):
    """Others can read or replace a file that keeps a secret."""


def read_private_file(
    path: str | os.PathLike[str],
    where: str,
    largest: int = LARGEST_FILE,
    *,
    any_mode: bool = False,
) -> bytes:
    """A regular file that nobody else can read or replace, else `ConfigError` (X13, X22, X31).

    ``where`` begins the error's line, e.g. ``identity KEYS/a.pem``; ``largest`` is a number of
    bytes. It belongs to this process's user or to root and is closed to others, and so that nobody
    can put another in its place, its directory is theirs too and others cannot write there. That
    is not asked of credentials of systemd, nor with ``any_mode``: `NotPrivate` otherwise.
    """
    open_to_others = any_mode or is_credential(path)
    return _read(path, where, largest, private=not open_to_others)


def read_file(path: str | os.PathLike[str], where: str, largest: int = LARGEST_FILE) -> bytes:
    """A regular file that everybody may read, else `ConfigError`."""
    return _read(path, where, largest, private=False)


def demand_private(path: str | os.PathLike[str], status: os.stat_result, where: str) -> None:
    """Raise `NotPrivate` unless only its owner can read or replace the file ``path``."""
    shown = printable(os.fspath(path))
    if status.st_mode & 0o077:
        raise NotPrivate(
            f"{where}: others can reach it (mode {status.st_mode & 0o777:04o}): chmod 600 {shown}"
        )
    if status.st_uid not in (_ROOT, os.geteuid()):
        raise NotPrivate(
            f"{where}: belongs to {_user(status.st_uid)}, and this runs as "
            f"{_user(os.geteuid())}: expected a file of the same user or of root"
        )
    # Of the file itself: where a link leads decides nothing if the link can be replaced.
    for directory in {os.path.dirname(os.path.abspath(path)), str(Path(path).resolve().parent)}:
        _demand_safe(directory, where)


def _demand_safe(directory: str, where: str) -> None:
    status = os.stat(directory)
    shown = printable(directory)
    if status.st_uid not in (_ROOT, os.geteuid()):
        raise NotPrivate(
            f"{where}: its directory {shown} belongs to {_user(status.st_uid)}, who can put "
            "another file there: expected a directory of the same user or of root"
        )
    # In a sticky directory, /tmp, others cannot replace a file that is not theirs.
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise NotPrivate(
            f"{where}: others can put another file into its directory "
            f"(mode {status.st_mode & 0o777:04o}): expected chmod go-w {shown}"
        )


def is_credential(path: str | os.PathLike[str]) -> bool:
    """Whether systemd has put the file where only this service gets at it."""
    place = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(place) and Path(path).resolve().is_relative_to(Path(str(place)).resolve())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _read(path: str | os.PathLike[str], where: str, largest: int, private: bool) -> bytes:
    try:
        # Non-blocking: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: cannot be read: {reason(error)}") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"{where}: is a directory, expected a file")
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(
                f"{where}: is not a regular file: expected one, which can be read again"
            )
        if private:
            demand_private(path, status, where)
        if status.st_size > largest:
            raise ConfigError(f"{where}: is larger than {largest} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(largest)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {reason(error)}") from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def written_beside(path: Path, content: bytes) -> Iterator[str]:
    """``content`` in a new file (0600) in the directory of ``path``, on the disk, gone at the end;
    raises ``OSError``."""
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".new", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def make_durable(path: Path) -> None:
    """What ``path`` names now it still names after the power has failed."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: Exception) -> str:
    """An operating system's error in its own words, without number and path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
