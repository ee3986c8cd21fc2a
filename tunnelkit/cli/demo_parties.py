"""The programs that ``tunnelkit demo`` starts, and ways to fetch through them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Thread
from types import FrameType, TracebackType
from typing import Any

from tunnelkit.errors import TunnelkitError

START_LIMIT = 20.0
END_LIMIT = 8.0
CHUNK = 1 << 20

_RUN = {
    "tunnelkit": "from tunnelkit.cli.main import main; raise SystemExit(main())",
}


def runnable(command: Sequence[str]) -> list[str]:
    """The command with its program replaced by one that works in any environment."""
    program, *words = command
    if program in _RUN:
        return [sys.executable, "-c", _RUN[program], *words]
    return [sys.executable if program == "python3" else program, *words]


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Party:
    """One program in the background; its log is kept."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._lines: list[str] = []
        self._news = Condition()
        self._over = False
        # In a session of its own, so that Ctrl-C reaches the demo only, which ends it in order.
        self._child = subprocess.Popen(
            runnable(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def wait_for(self, pattern: str, limit: float = START_LIMIT) -> re.Match[str]:
        """The first line of the log that matches; raises `TunnelkitError` if none comes."""
        deadline = time.monotonic() + limit
        with self._news:
            while True:
                for line in self._lines:
                    if found := re.search(pattern, line):
                        return found
                left = deadline - time.monotonic()
                if self._over or left <= 0:
                    break
                self._news.wait(left)
            last = "; ".join(self._lines[-3:]) or "it said nothing"
        raise TunnelkitError(f"the {self.name} did not start as it should: {last}")

    def end(self) -> None:
        """Ask it to finish, and insist if it does not."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(END_LIMIT)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._reader.join(END_LIMIT)
        if self._child.stdout is not None:
            self._child.stdout.close()


class Parties:
    """All of them, and what they leave on the disk; a context manager that ends everything.

    Within it SIGINT and SIGTERM raise `KeyboardInterrupt`, but never while a party starts or
    ends: none is forgotten.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._parties: list[Party] = []
        self._held = False
        self._interrupted = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Parties:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._signalled)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held = True
        for party in reversed(self._parties):
            party.end()
        shutil.rmtree(self.directory, ignore_errors=True)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str]) -> Party:
        """Start one more."""
        self._held = True
        try:
            party = Party(name, command)
            self._parties.append(party)
        finally:
            self._held = False
        if self._interrupted:
            raise KeyboardInterrupt
        return party

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        if not self._held:
            raise KeyboardInterrupt


def run_command(command: Sequence[str]) -> str:
    """Run a command to its end; what it printed. Raises `TunnelkitError` if it fails."""
    done = subprocess.run(
        runnable(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        why = done.stderr.strip() or f"status {done.returncode}"
        raise TunnelkitError(f"{shlex.join(command)} failed: {why}")
    return done.stdout


# -- fetching -------------------------------------------------------------


def fetch_command(url: str, file: Path, socks: str = "") -> list[str]:
    """What to type to fetch ``url`` into ``file``, through a SOCKS server or not."""
    proxy = ["--socks5-hostname", socks] if socks else ["--noproxy", "*"]
    return ["curl", "--silent", "--show-error", "--fail", *proxy, "-o", str(file), url]


def fetch(url: str, file: Path, socks: str = "") -> float:
    """Fetch with curl where it is installed, otherwise with Python; the seconds it took."""
    began = time.monotonic()
    if shutil.which("curl"):
        run_command(fetch_command(url, file, socks))
    else:
        _fetch_with_python(url, file, socks)
    return time.monotonic() - began


def _fetch_with_python(url: str, file: Path, socks: str) -> None:
    host, _, rest = url.removeprefix("http://").partition("/")
    if not socks:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=60) as answer, file.open("wb") as out:
            shutil.copyfileobj(answer, out, CHUNK)
        return
    with _through_socks(socks, host) as sock, file.open("wb") as out:
        sock.sendall(f"GET /{rest} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        with sock.makefile("rb") as answer:
            if b" 200 " not in answer.readline():
                raise TunnelkitError(f"{url}: the web server did not send it")
            while answer.readline().strip():
                pass
            shutil.copyfileobj(answer, out, CHUNK)


def _through_socks(socks: str, target: str) -> socket.socket:
    """A connection to ``target`` through a SOCKS 5 server without password (RFC 1928)."""
    host, _, port = socks.rpartition(":")
    name, _, number = target.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=60)
    with sock.makefile("rb") as answers:
        sock.sendall(b"\x05\x01\x00")
        greeting = answers.read(2)
        # VER CMD RSV ATYP=name, then length, name and port (big-endian)
        far = name.encode("ascii")
        sock.sendall(b"\x05\x01\x00\x03" + bytes([len(far)]) + far + int(number).to_bytes(2, "big"))
        head = answers.read(4)
        if greeting != b"\x05\x00" or head[:2] != b"\x05\x00":
            sock.close()
            raise TunnelkitError(f"the SOCKS server at {socks} did not connect to {target}")
        answers.read({1: 4, 4: 16}[head[3]] + 2)
    return sock


def round_trip(address: tuple[str, int], times: int = 100) -> float:
    """Median seconds of a small request and its answer, each on a connection of its own."""
    request = b"GET /hello.txt HTTP/1.0\r\n\r\n"
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        with socket.create_connection(address, timeout=20) as sock:
            sock.sendall(request)
            while sock.recv(4096):
                pass
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[times // 2]
