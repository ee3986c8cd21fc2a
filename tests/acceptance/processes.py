"""Real processes for acceptance tests: started, listened to, and always ended.

Nothing here sleeps: a process is ready when its log says so.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
TUNNELKIT = (sys.executable, "-c", "from tunnelkit.cli.main import main; raise SystemExit(main())")
READY = r"READY (?P<role>\S+): (?P<what>.*)"
START_LIMIT = 20.0
"""Seconds; far more than anything takes to start on a busy machine."""
END_LIMIT = 15.0


class Process:
    """One running program; its output, both streams together, is kept line by line."""

    def __init__(
        self, name: str, command: Sequence[str], cwd: Path, env: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self.child = subprocess.Popen(
            self.command,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def lines(self) -> list[str]:
        """What it has written so far."""
        with self._news:
            return list(self._lines)

    @property
    def log(self) -> str:
        """The same in one piece, for messages."""
        return "\n".join([f"--- {self.name}: {' '.join(self.command)}", *self.lines, "---"])

    def wait_for(self, pattern: str, limit: float = START_LIMIT, since: int = 0) -> re.Match[str]:
        """The first line, from number ``since`` on, that matches; fails if none comes."""
        regex = re.compile(pattern)
        deadline = time.monotonic() + limit
        seen = since
        with self._news:
            while True:
                for line in self._lines[seen:]:
                    if match := regex.search(line):
                        return match
                seen = max(seen, len(self._lines))
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    break
                self._news.wait(left)
        why = "ended" if self._ended else f"did not within {limit:g} s"
        raise AssertionError(f"{self.name} should have written {pattern!r}, but {why}\n{self.log}")

    def wait(self, limit: float = END_LIMIT) -> int:
        """Its exit status, once it has ended by itself and all it wrote has been read."""
        try:
            status = self.child.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} did not end within {limit:g} s\n{self.log}"
            ) from None
        self._reader.join(limit)
        return status

    def stop(self, limit: float = END_LIMIT) -> int:
        """Ask it to end (SIGTERM); its exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        return self.wait(limit)

    def kill(self) -> None:
        """End it at once, unasked."""
        self.child.kill()
        self.wait()


class Processes:
    """All processes of one test, in a fresh directory; ended in reverse order, whatever happens.

    As a context it ends them, and prints what they wrote.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._all: list[Process] = []
        self._closers: list[Callable[[], object]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.end()
        finally:
            print(self.logs())

    def start(
        self,
        name: str,
        *command: object,
        ready: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start a program; with ``ready``, wait until it writes a line that matches."""
        process = Process(name, [str(word) for word in command], self.directory, env)
        self._all.append(process)
        if ready is not None:
            process.wait_for(ready)
        return process

    def role(
        self, role: str, *options: object, wait: bool = True, env: dict[str, str] | None = None
    ) -> Role:
        """Start a twistd role in the foreground; by default until it says that it is ready."""
        command = (*TWISTD, "-n", role, *options)
        process = self.start(role, *command, env=env)
        return Role(process) if wait else Role(process, waits=False)

    def named(self, name: str) -> Process:
        """The first that was started under that name."""
        return next(process for process in self._all if process.name == name)

    def on_end(self, close: Callable[[], object]) -> None:
        """Call ``close`` when the test is over."""
        self._closers.append(close)

    def end(self) -> None:
        """End everything: first politely, then not, and that is a failure."""
        late = []
        for process in reversed(self._all):
            if process.child.poll() is None:
                process.child.terminate()
        deadline = time.monotonic() + 5
        for process in reversed(self._all):
            try:
                process.child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(process.name)
                process.child.kill()
                process.child.wait()
            if process.child.stdout is not None:
                process._reader.join(5)
                process.child.stdout.close()
        for close in reversed(self._closers):
            close()
        assert not late, f"had to be killed: {late}"

    def logs(self) -> str:
        """What all of them wrote."""
        return "\n".join(process.log for process in self._all)


class Role:
    """A running twistd role, and the addresses that its ready line names."""

    def __init__(self, process: Process, waits: bool = True) -> None:
        self.process = process
        self.ready = process.wait_for(READY)["what"] if waits else ""

    def address(self, what: str, number: int = 0) -> str:
        """``HOST:PORT`` of the nth thing of that kind in the ready line, e.g. ``socks``."""
        found = re.findall(rf"\b{what} (\[[0-9a-f:]+\]:\d+|[0-9.]+:\d+)", self.ready)
        assert len(found) > number, f"no {what} in {self.ready!r}"
        return str(found[number])

    def port(self, what: str, number: int = 0) -> int:
        """The port of the same."""
        return int(self.address(what, number).rpartition(":")[2])

    def wait_for(self, pattern: str, limit: float = START_LIMIT, since: int = 0) -> re.Match[str]:
        """See `Process.wait_for`."""
        return self.process.wait_for(pattern, limit, since)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, for programs that cannot choose one.

    Below those that the system gives to connections: until the program listens, none of them
    can be there by chance.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@attrs.frozen
class Identities:
    """The keys of one throw-away CA; of one that others use too nobody is revoked."""

    directory: Path
    shared: bool = False

    @classmethod
    def create(cls, directory: Path, *, shared: bool = False) -> Identities:
        """With a CA made for it in ``directory``."""
        tunnelkit("keys", "init", "--dir", directory)
        return cls(directory, shared)

    def __call__(self, name: str) -> Path:
        """The identity file of ``name``, issued when first asked for."""
        file = self.directory / f"{name}.pem"
        if not file.exists():
            tunnelkit("keys", "issue", name, "--dir", self.directory)
        return file

    @property
    def revoked(self) -> Path:
        """The revocation list."""
        return self.directory / "revoked.crl"

    def revoke(self, name: str) -> None:
        """Put ``name`` on the list, in a test whose CA nobody else goes by."""
        assert not self.shared, "others go by this list: take Identities.create(tmp_path / ...)"
        tunnelkit("keys", "revoke", name, "--dir", self.directory)


def tunnelkit(*words: object, cwd: Path | None = None) -> str:
    """Run the companion command to its end; what it printed."""
    done = subprocess.run(
        [*TUNNELKIT, *map(str, words)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- a web server, and its client -----------------------------------------


class _Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        """Tests say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, directory: Path) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, 0), functools.partial(_Files, directory=str(directory)))

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves early is no error here."""


class WebServer:
    """Serves the files of a directory on a free port of an address of this machine."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self.directory = directory
        self._server = _Server(host, directory)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @classmethod
    def among(cls, processes: Processes, name: str = "www", host: str = "127.0.0.1") -> WebServer:
        """One of a new directory there, ended with the others."""
        directory = processes.directory / name
        directory.mkdir()
        server = cls(directory, host)
        processes.on_end(server.close)
        return server

    def add(self, name: str, size: int) -> str:
        """Make a file of ``size`` bytes that look random; its SHA-256."""
        block = hashlib.shake_128(name.encode()).digest(1 << 20)
        digest = hashlib.sha256()
        with (self.directory / name).open("wb") as file:
            left = size
            number = 0
            while left:
                piece = (number.to_bytes(8, "big") + block)[: min(left, 1 << 20)]
                file.write(piece)
                digest.update(piece)
                left -= len(piece)
                number += 1
        return digest.hexdigest()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@attrs.frozen
class Fetched:
    """What curl did."""

    status: int
    """Its exit status; 0 is success, 97 a refusal by the proxy."""
    sha256: str
    size: int
    said: str
    """Its own words."""
    seconds: float


def curl(*options: object, limit: float = 60) -> Fetched:
    """Fetch with curl; the body is hashed as it comes and not kept."""
    command = ["curl", "--silent", "--show-error", "--fail", *map(str, options)]
    began = time.monotonic()
    digest = hashlib.sha256()
    size = 0
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    with subprocess.Popen(
        [*command, "--max-time", str(limit)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        while piece := child.stdout.read(1 << 18):
            digest.update(piece)
            size += len(piece)
        said = child.stderr.read().decode(errors="backslashreplace").strip()
    seconds = time.monotonic() - began
    return Fetched(child.returncode, digest.hexdigest(), size, said, seconds)


def fetches(end: Role, sha256: str) -> bool:
    """Whether ``file`` arrives through the end's forward to a `WebServer`."""
    fetched = curl(f"http://{end.address('forward')}/file")
    return (fetched.status, fetched.sha256) == (0, sha256)
