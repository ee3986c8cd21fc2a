"""The file that twistd's ``--logfile`` names: cut into pieces, and opened anew for logrotate (O12).

Twisted's own `LogFile` writes at the place where it was, not at the end, so that a file cut
by somebody else (logrotate's ``copytruncate``) gets a hole; it keeps every piece for ever; and
nothing opens it anew when it was moved away.
"""

from __future__ import annotations

import contextlib
import os

PIECE = 10_000_000
"""Bytes in one file."""
KEPT = 9
"""Older files that stay, ``.1`` the newest."""


class LogFile:
    """Appends to the file at ``path``; raises OSError if it cannot."""

    def __init__(self, path: str, piece: int = PIECE) -> None:
        self._path = os.path.abspath(path)
        self._piece = piece
        self._descriptor = self._opened()

    def write(self, text: str) -> None:
        """Append ``text``, to a new file if this one has grown too large."""
        data = text.encode("utf-8", "backslashreplace")
        size = os.fstat(self._descriptor).st_size
        if size and size + len(data) > self._piece:
            self.rotate()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Nothing is held back."""

    def reopen(self) -> None:
        """Go on in a new file if this one was moved away (logrotate)."""
        if not self._is_there():
            self._exchange()

    def rotate(self) -> None:
        """Move this file away, unless somebody has, and go on in a new one."""
        if self._is_there():
            for number in range(KEPT, 0, -1):
                older = f"{self._path}.{number - 1}" if number > 1 else self._path
                # One that is missing, or cannot be moved, must not keep the rest from it.
                with contextlib.suppress(OSError):
                    os.replace(older, f"{self._path}.{number}")
        self._exchange()

    def close(self) -> None:
        """Write no more."""
        os.close(self._descriptor)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False

    def _exchange(self) -> None:
        # Where no file can be made any more the log goes on in the old one.
        with contextlib.suppress(OSError):
            descriptor = self._opened()
            os.close(self._descriptor)
            self._descriptor = descriptor

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
