"""twistd's pid file: none in the foreground, and one line where it cannot be had.

A role in the foreground is its supervisor's child, which knows its number. A file with it would
keep a container that was killed from starting again, where every process is number 1 each time,
and two roles from running in one directory.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from typing import Any

from tunnelkit.errors import ConfigError
from tunnelkit.policy.files import reason
from tunnelkit.policy.printable import printable

DEFAULT = "twistd.pid"
"""Where twistd puts it, relative to the directory it was started in."""


def settle_pid_file(options: MutableMapping[str, Any], words: Sequence[str]) -> None:
    """Take it out of twistd's ``options`` in the foreground, unless the command line, ``words``,
    asks for it; check that it can be had otherwise. Raises `ConfigError`."""
    path = options.get("pidfile")
    if not path:
        return
    foreground = options.get("nodaemon") or options.get("debug")
    if foreground and path == DEFAULT and not any(word.startswith("--pi") for word in words):
        options["pidfile"] = ""
        return
    path = os.path.abspath(path)
    where = f"--pidfile {printable(path)}"
    try:
        with open(path, "rb") as file:
            number = file.read(32).strip()
    except FileNotFoundError:
        if not os.access(os.path.dirname(path), os.W_OK):
            raise ConfigError(
                f"{where}: it cannot be made: expected one in a directory that this user can "
                "write to, or --pidfile= for none"
            ) from None
        return
    except OSError as error:
        raise ConfigError(f"{where}: {reason(error)}: expected a file") from None
    _check(path, where, number)


def _check(path: str, where: str, number: bytes) -> None:
    if not number.isdigit():
        raise ConfigError(f"{where}: there is no number in it: expected a pid file")
    if int(number) == os.getpid():
        # Of an earlier process with the number of this one, which has written none yet.
        os.unlink(path)
        return
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return  # twistd takes it over
    except PermissionError:
        pass
    raise ConfigError(
        f"{where}: process {int(number)} runs with it: expected another --pidfile for this one "
        "(and another --logfile)"
    )
