"""``--audit``, ``--checkpoint-to`` and ``--checkpoints``: who used what, in files (row O8).

The access log's events and those of the role's life go to the audit file as well, each at once: a
process that is killed leaves what it has done. Checkpoints of it go to the other end, which keeps
them if it was told to, and to where ``--checkpoint-to`` says.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from hashlib import sha256
from time import time
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from zope.interface import implementer

from tunnelkit.core.mux.contract import CheckpointCame, VouchingMux
from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import ITunnel
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import Connection
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.audit_chain import resumed
from tunnelkit.policy.printable import printable
from tunnelkit.version import __version__
from tunnelkit.wire.checkpoint import Checkpoint

_log = Logger()

INTERVAL = 60.0
"""Seconds between checkpoints, if there is anything new."""
LINES = 1000
"""So many lines make one due at once."""
KEPT_EVERY = 10.0
"""Seconds between checkpoints that are written down of one peer."""
_LOOK = 1.0
"""Seconds between looks whether the file has been moved away."""
UNIX = "unix:"
_END = 1 << 20
"""More bytes than a few lines have."""


def open_private(path: str, option: str) -> int:
    """A file to append to, that only its owner can read and no other role writes (rules X13, X27).

    Raises `ConfigError`.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    where = f"{option} {printable(path)}"
    try:
        number = os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}: expected a file") from None
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{where}: it is not a regular file: expected one, or a new name")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise ConfigError(f"{where}: others may use it (mode {mode:04o}): expected chmod 600")
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        raise ConfigError(f"{where}: another role writes it: expected a file for each") from None
    except ConfigError:
        os.close(number)
        raise
    return number


@implementer(ILogObserver)
class AuditFile:
    """Writes the log events that have a field ``event`` to a chain of lines.

    ``due`` is called when a checkpoint is.
    """

    def __init__(self, path: str) -> None:
        """Go on with the file, or begin it; raises `ConfigError`."""
        self._path = path
        self._file = open_private(path, "--audit")
        self.due: Callable[[], object] = lambda: None
        self._lost = 0
        self._first = False
        self._looked = time()
        try:
            content = _content(self._file)
            self.chain, torn = resumed(content)
        except ConfigError as error:
            os.close(self._file)
            raise ConfigError(f"--audit {printable(path)}: {error}") from None
        self._first = not self.chain.seq
        self._vouched = self.chain.seq
        self._begin(content, torn)

    def _begin(self, content: bytes, torn: bytes) -> None:
        if content and not content.endswith(b"\n"):
            self._put(b"\n")
        if torn:
            _log.warn("The last line of {path} was torn off", path=printable(self._path))
        entry: dict[str, object] = {"event": "started", "version": __version__}
        if torn:
            entry["torn"] = sha256(torn).hexdigest()
        self.write(entry)

    def __call__(self, event: LogEvent) -> None:
        """One log event."""
        if "event" in event:
            self.write({name: _shown(value) for name, value in event.items() if _tells(name)})

    def write(self, entry: dict[str, object]) -> None:
        """One line, now. What cannot be written is counted, and told once it can be."""
        now = time()
        if abs(now - self._looked) >= _LOOK:
            self._looked = now
            self.reopen()
        if self._lost:
            lost: dict[str, object] = {"event": "lost", "count": self._lost}
            if not self._put_line(lost, now):
                self._lost += 1
                return
            self._lost = 0
        if not self._put_line(entry, now):
            self._lost += 1
        elif self.chain.seq - self._vouched >= LINES:
            self.due()

    def checkpoint(self) -> Checkpoint | None:
        """Where it has come to; None: nothing is new since the last time."""
        if self.chain.seq == self._vouched:
            return None
        self._vouched = self.chain.seq
        return self.chain.checkpoint()

    def reopen(self) -> None:
        """Go on in a new file if the old one has been moved away."""
        try:
            there, mine = os.stat(self._path), os.fstat(self._file)
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                return
        except OSError:
            pass
        try:
            number = open_private(self._path, "--audit")
        except ConfigError as error:
            _log.error("{why}", why=str(error))
            return
        os.close(self._file)
        self._file = number
        self._first = True

    def close(self) -> None:
        """The role ends in order."""
        self.write({"event": "stopped"})
        os.close(self._file)

    def _put_line(self, entry: dict[str, object], now: float) -> bool:
        moment = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds")
        line = self.chain.line({"time": moment.replace("+00:00", "Z"), **entry}, self._first)
        if not self._put(line + b"\n"):
            return False
        self.chain.took(line)
        self._first = False
        return True

    def _put(self, data: bytes) -> bool:
        begun = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) == len(data):
                return True
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as problem:
            error = problem
        try:
            os.ftruncate(self._file, begun)
        except OSError:
            pass
        if not self._lost:
            where = printable(self._path)
            _log.critical("{path} cannot be written: {why}", path=where, why=error.strerror)
        return False


class CheckpointFile:
    """Keeps what other ends say of their audit files, at most one in 10 s of each."""

    def __init__(self, reactor: Any, path: str, option: str = "--checkpoints") -> None:
        """Raises `ConfigError`."""
        self._reactor = reactor
        self._path = path
        self._option = option
        self._file = open_private(path, option)
        self._last: dict[str, float] = {}
        self._waiting: dict[str, tuple[Checkpoint, Timer]] = {}

    def take(self, peer: str, checkpoint: Checkpoint) -> None:
        """``peer`` says it: write it down, now or when the peer's 10 s are over."""
        now: float = self._reactor.seconds()
        waiting = self._waiting.get(peer)
        due = self._last.get(peer, now - KEPT_EVERY) + KEPT_EVERY
        if waiting is not None:
            self._waiting[peer] = (checkpoint, waiting[1])
        elif now >= due:
            self.keep(peer, checkpoint)
        else:
            timer = Timer(self._reactor, partial(self._due, peer))
            self._waiting[peer] = (checkpoint, timer)
            timer.start_at(due)

    def keep(self, peer: str, checkpoint: Checkpoint) -> None:
        """Write it down."""
        self._last[peer] = self._reactor.seconds()
        line = checkpoint_line(peer, checkpoint)
        try:
            os.write(self._file, line)
        except OSError as error:
            where = printable(self._path)
            _log.error("{path} cannot be written: {why}", path=where, why=error.strerror)

    def close(self) -> None:
        """Write down what waits."""
        for peer in list(self._waiting):
            self._due(peer)
        os.close(self._file)

    def _due(self, peer: str) -> None:
        checkpoint, timer = self._waiting.pop(peer)
        timer.stop()
        self.keep(peer, checkpoint)


def checkpoint_line(peer: str, checkpoint: Checkpoint) -> bytes:
    """How a checkpoint is written down."""
    moment = datetime.fromtimestamp(time(), timezone.utc).isoformat(timespec="seconds")
    entry = {"time": moment.replace("+00:00", "Z"), "peer": peer, **attrs.asdict(checkpoint)}
    return json.dumps(entry).encode("ascii") + b"\n"


class Audit(Service):
    """Brings checkpoints of ``file`` to the other ends of ``tunnel`` and to ``place``, and keeps
    those of other ends in ``kept``; each may be missing."""

    def __init__(
        self,
        reactor: Any,
        file: AuditFile | None,
        tunnel: ITunnel | None,
        place: str,
        kept: CheckpointFile | None,
    ) -> None:
        """``place``: ``unix:PATH``, a file, or empty. Raises `ConfigError`."""
        self._reactor = reactor
        self._file = file
        self._tunnel = tunnel
        self._place = place.removeprefix(UNIX) if place.startswith(UNIX) else ""
        self._own = None
        if place and not self._place:
            self._own = CheckpointFile(reactor, place, "--checkpoint-to")
        self._kept = kept
        self._failed = False
        self._loop = LoopingCall(self._say)
        self._loop.clock = reactor
        if file is not None:
            file.due = self._say
            globalLogPublisher.addObserver(file)

    def startService(self) -> None:
        """From now on."""
        Service.startService(self)
        if self._tunnel is not None:
            self._tunnel.watch(self._came)
        self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        """A last time, while there is somebody to tell."""
        Service.stopService(self)
        self._loop.stop()
        self._say()

    def over(self) -> None:
        """The role has ended."""
        if self._file is not None:
            globalLogPublisher.removeObserver(self._file)
            self._file.close()
            checkpoint = self._file.checkpoint()
            if checkpoint is not None:
                self._say_here(checkpoint)
        for file in (self._own, self._kept):
            if file is not None:
                file.close()

    def reopen(self) -> None:
        """Files that were moved away are begun anew."""
        if self._file is not None:
            self._file.reopen()

    def _came(self, connection: Connection) -> None:
        if not isinstance(connection, TunnelConnection):
            return
        if self._kept is not None:
            connection.handle(CheckpointCame, partial(self._vouch, connection.peer))
        if self._file is not None:
            # What was written while nobody could be told.
            _say_to(connection, self._file.chain.checkpoint())

    def _vouch(self, peer: str, event: CheckpointCame) -> None:
        if self._kept is not None:
            self._kept.take(peer, event.checkpoint)

    def _say(self) -> None:
        checkpoint = None if self._file is None else self._file.checkpoint()
        if checkpoint is None:
            return
        if self._tunnel is not None:
            for connection in self._tunnel.connections:
                if isinstance(connection, TunnelConnection):
                    _say_to(connection, checkpoint)
        self._say_here(checkpoint)

    def _say_here(self, checkpoint: Checkpoint) -> None:
        if self._own is not None:
            self._own.keep("", checkpoint)
        if not self._place:
            return
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                sock.connect(self._place)
                sock.send(checkpoint_line("", checkpoint))
            self._failed = False
        except OSError as error:
            if not self._failed:
                where = printable(self._place)
                _log.error("No checkpoint to {path}: {why}", path=where, why=error.strerror)
            self._failed = True


def _say_to(connection: TunnelConnection, checkpoint: Checkpoint) -> None:
    mux = connection.mux
    if isinstance(mux, VouchingMux):
        mux.say_checkpoint(checkpoint, connection.clock())
        connection.pump()


def _content(number: int) -> bytes:
    """All of a file, or its first line and its end."""
    size = os.fstat(number).st_size
    if size <= 2 * _END:
        return os.pread(number, size, 0)
    head, _, _ = os.pread(number, _END, 0).partition(b"\n")
    _, _, tail = os.pread(number, _END, size - _END).partition(b"\n")
    return head + b"\n" + tail


def _tells(name: str) -> bool:
    return not name.startswith("log_") and name not in ("time", "seq", "prev", "chain", "torn")


def _shown(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return printable(str(value))
