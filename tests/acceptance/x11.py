"""A real X server, and tunnels that show a display on it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from tests.acceptance.processes import Process, Processes, Role
from tests.acceptance.tunnels import Transport

PACKAGES = Path(__file__).resolve().parents[2] / "scripts" / "test-packages"
CHANNEL_IN = "channel in "
"""In the access log of the end at the X server: it has been connected to."""


def program(name: str) -> str:
    """The path of an installed program; fails with the name of its Debian package."""
    found = shutil.which(name)
    if found is None:
        rows = [line.split() for line in PACKAGES.read_text().splitlines()]
        package = next(row[1] for row in rows if row[:1] == [name])
        raise AssertionError(f"{name} is not installed: apt-get install {package}")
    return found


def free_display() -> int:
    """A display of this machine that nobody has."""
    for number in range(1000 + os.getpid() % 1000, 9000):
        if os.path.exists(f"/tmp/.X{number}-lock"):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", 6000 + number)) == 0:
                continue
            try:
                probe.bind(("127.0.0.1", 6000 + number))
            except OSError:
                continue
        return number
    raise AssertionError("there is no free display")


@attrs.frozen
class Display:
    """A display, and the authority file by which it is entered."""

    name: str
    authority: Path
    directory: Path

    @property
    def number(self) -> int:
        """The part behind the colon."""
        return int(self.name.rpartition(":")[2])

    @property
    def environment(self) -> dict[str, str]:
        """For X programs."""
        return {"DISPLAY": self.name, "XAUTHORITY": str(self.authority)}

    def via(self, host: str) -> Display:
        """The same by TCP."""
        return attrs.evolve(self, name=f"{host}:{self.number}")

    def run(self, *words: object, status: int = 0) -> str:
        """What an X program printed that came to its end; its stderr if ``status`` is not 0."""
        done = subprocess.run(
            [program(str(words[0])), *map(str, words[1:])],
            env={**os.environ, **self.environment},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
        )
        said = done.stderr.decode(errors="replace")
        assert done.returncode == status, said
        return said if status else done.stdout.decode(errors="replace")

    def screenshot(self, name: str) -> Path:
        """The whole screen, as an XWD file."""
        file = self.directory / f"{name}.xwd"
        self.run("xwd", "-root", "-silent", "-out", file)
        return file

    def wait_for_windows(self, *titles: str) -> None:
        """Until exactly these windows are shown (none: until nothing is)."""
        deadline = time.monotonic() + 20
        while True:
            tree = self.run("xwininfo", "-root", "-tree")
            shown = all(f'"{title}": (' in tree for title in titles)
            if shown if titles else "0 children" in tree:
                return
            assert time.monotonic() < deadline, tree


class XServer:
    """Xvfb on a display of its own choice, with a cookie; listens on TCP, too."""

    def __init__(self, processes: Processes, *options: str) -> None:
        directory = processes.directory
        authority = directory / "real"
        authority.touch(0o600)
        cookie = os.urandom(16).hex()
        server = program("Xvfb")
        words = ["-screen", "0", "640x480x24", "-listen", "tcp", "-auth", authority, *options]
        # Any entry's cookie lets in: the display's number is known only afterwards.
        _xauth(authority, "add", ":0", ".", cookie)
        swapped = subprocess.run([server, "-help"], capture_output=True, text=True, timeout=20)
        if "byteswappedclients" in swapped.stderr + swapped.stdout:
            words.append("+byteswappedclients")
        self.process: Process = processes.start("Xvfb", server, *words, "-displayfd", "1")
        number = self.process.wait_for(r"^(\d+)$")[1]
        _xauth(authority, "add", f":{number}", ".", cookie)
        self.cookie = bytes.fromhex(cookie)
        self.display = Display(f":{number}", authority, directory)


def _xauth(file: Path, *words: str) -> None:
    done = subprocess.run(
        [program("xauth"), "-q", "-f", str(file), *words], capture_output=True, timeout=20
    )
    assert done.returncode == 0, done.stderr


@attrs.frozen
class ShownDisplay:
    """A display that a tunnel shows."""

    display: Display
    near: Role
    """The end that is the display."""
    far: Role
    """The end at the X server."""

    def channels(self) -> int:
        """How often the X server has been connected to, of those connections that are over."""
        return sum(CHANNEL_IN in line for line in self.far.process.lines)


Show = Callable[..., ShownDisplay]
"""See `show_display`; the first three arguments are given."""


def show_display(
    processes: Processes,
    transport: Transport,
    allow: str,
    *,
    to: str = "",
    reverse: bool = False,
    far: dict[str, str],
) -> ShownDisplay:
    """A display that a tunnel shows where the rule ``allow`` and the environment ``far`` are.

    The client is the display, and with ``reverse`` the server; ``to`` stands behind its number.
    """
    display = Display(f":{free_display()}", processes.directory / "near", processes.directory)
    options = ("--x11", f"{display.number}{to}")
    here = {"XAUTHORITY": str(display.authority)}
    if reverse:
        # A server does not start without a rule, needed or not.
        tunnel = transport(
            ["tcp:127.0.0.1:1"],
            *("--allow", allow),
            server=options,
            client_env=far,
            server_env=here,
        )
        return ShownDisplay(display, tunnel.server, tunnel.client)
    tunnel = transport([allow], *options, client_env=here, server_env=far)
    return ShownDisplay(display, tunnel.client, tunnel.server)
