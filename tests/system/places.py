"""One network of the laboratory: a namespace, and programs that run inside."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from bench.link import Namespace
from tests.acceptance.processes import Process, Processes
from tests.system.keeper import MARK

T = TypeVar("T")

LIMIT = 60.0
"""Seconds that a program may take by default."""

_ENTER = """#!/bin/sh
unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
unset DISPLAY XAUTHORITY
export HOME={home} {mark}={laboratory}
{mounts}
exec "$@"
"""
"""How programs enter a place. Files such as /etc/resolv.conf belong to the place, not to the
machine: each program gets a mount namespace in which they hide the machine's."""


class Place:
    """A network namespace with its own host names and home directory.

    ``files`` maps absolute paths, of files that the machine has, to what they contain here.
    """

    def __init__(self, name: str, laboratory: Path, files: Mapping[str, str]) -> None:
        self.name = name
        self.namespace = Namespace()
        self.directory = laboratory / name
        """For what programs here need, readable by every user."""
        self.directory.mkdir(mode=0o755)
        mounts = []
        for path, content in {"/etc/hosts": f"127.0.0.1 localhost {name}\n", **files}.items():
            here = self.directory / Path(path).name
            here.write_text(content)
            here.chmod(0o640 if path == "/etc/shadow" else 0o644)
            mounts.append(f"mount --bind {here} {Path(path).resolve()} || exit 125")
        self._enter = self.directory / "enter"
        self._enter.write_text(
            _ENTER.format(
                home=self.directory, mark=MARK, laboratory=laboratory, mounts="\n".join(mounts)
            )
        )
        self.set("net/ipv6/conf/all/disable_ipv6", 1)  # or the kernel's own packets are counted
        self.set("net/ipv6/conf/default/disable_ipv6", 1)

    @property
    def path(self) -> str:
        """The namespace as a file."""
        return self.namespace.path

    def set(self, setting: str, value: object) -> None:
        """Write one of the kernel's settings of this namespace, below /proc/sys."""
        self.call(lambda: Path("/proc/sys", setting).write_text(str(value)))

    def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` here, in a thread; sockets that it makes stay here."""
        return self.namespace.call(function)

    def inside(self, command: Sequence[object], env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs ``command`` here, in the process that starts it.

        ``env`` is added to its environment.
        """
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        return [
            *("nsenter", f"--net={self.path}", "--"),
            *("unshare", "--mount", "--propagation", "private", "--"),
            *("sh", str(self._enter)),
            *("env", *settings),
            *map(str, command),
        ]

    def run(
        self,
        command: Sequence[object],
        *,
        given: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        limit: float = LIMIT,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end, ``given`` as its input; with ``check`` it must succeed."""
        done = subprocess.run(
            self.inside(command, env),
            input=given or "",
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=limit,
            cwd=cwd or self.directory,
        )
        if check:
            assert done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done


class PlacedProcesses(Processes):
    """Processes of a test or of the laboratory that run at one place."""

    def __init__(self, directory: Path, place: Place) -> None:
        super().__init__(directory)
        self.place = place

    def start(
        self,
        name: str,
        *command: object,
        ready: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start a program there; see `Processes.start`."""
        return super().start(name, *self.place.inside(command, env), ready=ready)
