"""Being display ``:N`` of this machine: what an X server does so that it is the only one (F3)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import tempfile
from pathlib import Path

from tunnelkit.errors import ConfigError
from tunnelkit.policy.files import reason

DIRECTORY = "/tmp"
SOCKETS = f"{DIRECTORY}/.X11-unix"


def socket_path(number: int) -> str:
    """Where clients look for the unix socket of display ``number``."""
    return f"{SOCKETS}/X{number}"


class DisplayClaim:
    """A display's number, taken as X servers take it: by the lock file ``/tmp/.XN-lock``.

    Raises `ConfigError` with one line if a server, or another tunnel, has it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._lock = f"{DIRECTORY}/.X{number}-lock"
        self._reserved: socket.socket | None = None
        self._pid = 0
        self._make_directory()
        self._take_lock()
        try:
            self._reserve()
        except ConfigError:
            self.release()
            raise

    def refresh(self) -> None:
        """Name this process in the lock file: it was another one before twistd forked."""
        if self._pid != os.getpid():
            name = self._lock_file()
            try:
                os.replace(name, self._lock)
            except OSError as error:
                os.unlink(name)
                raise self._cannot_lock(error) from None

    def release(self) -> None:
        """Give the number up. May be called twice."""
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        if self._pid:
            self._pid = 0
            with contextlib.suppress(OSError):
                os.unlink(self._lock)

    def _make_directory(self) -> None:
        try:
            os.mkdir(SOCKETS, 0o700)
            os.chmod(SOCKETS, 0o1777)  # as X servers make it: every user's displays are there
        except FileExistsError:
            pass
        except OSError as error:
            raise ConfigError(
                f"{SOCKETS} cannot be made ({reason(error)}): expected to be able to, "
                f"or that it exists"
            ) from None

    def _lock_file(self) -> str:
        """The path of a new file that says what the lock has to say."""
        name = ""
        try:
            descriptor, name = tempfile.mkstemp(prefix=f".tX{self.number}-", dir=DIRECTORY)
            with open(descriptor, "wb") as file:
                file.write(b"%10d\n" % os.getpid())
                os.fchmod(file.fileno(), 0o444)
        except OSError as error:
            if name:
                os.unlink(name)
            raise self._cannot_lock(error) from None
        self._pid = os.getpid()
        return name

    def _take_lock(self) -> None:
        name = self._lock_file()
        self._pid = 0  # nothing to give up before the link is there
        try:
            try:
                os.link(name, self._lock)
            except FileExistsError:
                self._drop_stale_lock()
                os.link(name, self._lock)
        except FileExistsError:
            raise self._in_use(f"{self._lock} is there") from None
        except OSError as error:
            raise self._cannot_lock(error) from None
        finally:
            os.unlink(name)
        self._pid = os.getpid()

    def _drop_stale_lock(self) -> None:
        """Remove a lock whose process is gone; raises `ConfigError` if it is there."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        with open(descriptor, "rb") as file:
            text = file.read(11).strip()
        if text.isdigit() and is_running(int(text)):
            raise self._in_use(f"by process {int(text)}, as {self._lock} says")
        os.unlink(self._lock)

    def _reserve(self) -> None:
        """Take the abstract socket of the same name, which clients on Linux try first.

        It does not listen, so that they go on to the socket file, which has
        permissions. Were it free, another user could take it and be sent our cookie.
        """
        if sys.platform != "linux":
            return
        self._reserved = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._reserved.bind(f"\0{socket_path(self.number)}")
        except OSError:
            raise self._in_use(f"by whoever has the socket @{socket_path(self.number)}") from None

    def _in_use(self, why: str) -> ConfigError:
        return ConfigError(f"display :{self.number} is in use ({why}): expected a free number")

    def _cannot_lock(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"display :{self.number} cannot be taken: {self._lock}: {reason(error)}: expected to "
            "be able to make that file"
        )


def is_given_up(number: int) -> bool:
    """Whether nobody is display ``number`` of this machine any more, by its lock and its socket."""
    try:
        text = Path(f"{DIRECTORY}/.X{number}-lock").read_text("ascii").strip()
        if not text.isdigit() or is_running(int(text)):
            return False
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(socket_path(number)) in (errno.ECONNREFUSED, errno.ENOENT)


def is_running(pid: int) -> bool:
    """Whether there is a process with that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # somebody else's, or no number that a process can have: not ours to remove
    return True
