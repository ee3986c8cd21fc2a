"""Bytes from socket to socket through a pipe, without lifting them into Python.

splice(2) moves pages from one socket into a pipe and from the pipe into the
other socket; a pipe of 1 MiB makes that one pair of calls per mebibyte. It
needs Linux and Python 3.10. A user without privileges gets about 64 such
pipes from the kernel, so they are borrowed from a capped pool only while
bytes are in them.
"""

from __future__ import annotations

import fcntl
import os

PIPE_SIZE = 1 << 20
"""Bytes that one pipe holds."""
MOST_PIPES = 64
"""Pipes of one pool, in use and idle."""

MOVE_NONBLOCK = 1 | 2
"""SPLICE_F_MOVE and SPLICE_F_NONBLOCK (``os`` has the names from Python 3.12)."""

AVAILABLE = hasattr(os, "splice") and hasattr(fcntl, "F_GETFL")

_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)

Pipe = tuple[int, int]
"""Descriptor to read from, descriptor to write to."""


class PipePool:
    """Empty pipes of `PIPE_SIZE`, made on demand; none at all where there is no splice."""

    __slots__ = ("_idle", "_left", "_withheld")

    def __init__(self, most: int = MOST_PIPES) -> None:
        self._idle: list[Pipe] = []
        self._left = most if AVAILABLE else 0
        self._withheld = 0

    def take(self) -> Pipe | None:
        """An empty pipe, or None if there is none to be had: copy instead."""
        if self._idle:
            return self._idle.pop()
        if not self._left:
            return None
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # out of descriptors
            self.withhold()
            return None
        try:
            fcntl.fcntl(pipe[1], _F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:  # EPERM: the user's share of pipe memory is used up
            _close(pipe)
            self.withhold()
            return None
        self._left -= 1
        return pipe

    def withhold(self) -> None:
        """Make no more pipes for now: trying in vain for every chunk would cost more than it
        saves. `close_idle` lifts it; pipes that come back are given out again."""
        self._withheld += self._left
        self._left = 0

    def give_back(self, pipe: Pipe) -> None:
        """Return a pipe that is empty."""
        self._idle.append(pipe)

    def discard(self, pipe: Pipe) -> None:
        """Return a pipe with bytes in it that nobody wants."""
        _close(pipe)
        self._left += 1

    def close_idle(self) -> None:
        """Close the pipes that are not in use: nobody is left to use them."""
        self._left += self._withheld
        self._withheld = 0
        while self._idle:
            self.discard(self._idle.pop())


def _close(pipe: Pipe) -> None:
    os.close(pipe[0])
    os.close(pipe[1])
