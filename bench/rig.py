"""Systems that are up, with the applications at both sides, ready to be measured in turn."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from bench import loads, traffic
from bench.parties import Layout, Parties, PartyFailed
from bench.system import System

T = TypeVar("T")

GIB = float(1 << 30)


class Bulk(NamedTuple):
    """What a bulk load came to."""

    rate: float
    """Bytes per second that arrived."""
    cpu: float
    """CPU seconds of the system per GiB that arrived; nan without a system."""


class Rig:
    """One system that is up, its target and its loads."""

    def __init__(self, system: System, layout: Layout) -> None:
        self.system = system
        self.layout = layout
        self.parties = Parties()
        self._applications = Parties()
        self.entry: loads.Address = ("", 0)

    def start(self) -> None:
        """Start the target and the system, and check that content passes unchanged.

        Raises PartyFailed or LoadError.
        """
        server = self.layout.server
        port = server.free_port()
        counter = self._applications.directory / "received"
        self._counter = traffic.Counter(str(counter))
        host = "127.0.0.1" if server.namespace is None else "0.0.0.0"
        serve = ["serve", host, str(port), "--counter", str(counter)]
        self._applications.start("target", [sys.executable, traffic.__file__, *serve], server)
        self._applications.wait_for_answer(server, ("127.0.0.1", port))
        self.entry = self.system.start(self.parties, self.layout, port)
        self.parties.wait_for_answer(self.layout.client, self.entry)
        self.here(lambda: loads.check_content(self.entry, 1 << 20))

    def here(self, load: Callable[[], T]) -> T:
        """Run a load at the client's place; PartyFailed says so if the system has ended."""
        try:
            return self.layout.client.call(load)
        except OSError as error:
            self.parties.check()
            raise PartyFailed(f"{type(error).__name__}: {error}") from error

    @contextlib.contextmanager
    def sending(
        self, seconds: float, streams: int = 1, *, down: bool = False, text: bool = False
    ) -> Iterator[Callable[[], int]]:
        """Bulk streams in the background for at most ``seconds``; gives the count of bytes that
        arrived so far. Begins once data arrives."""
        counter = self._counter
        options = ["--seconds", str(seconds), "--streams", str(streams)]
        load = "send"
        if text:
            options.append("--text")
        if down:
            load = "fetch"
            path = Path(self._applications.directory, "fetched")
            counter = traffic.Counter(str(path))
            options += ["--counter", str(path)]
        before = counter.value()
        command = [sys.executable, traffic.__file__, load, self.entry[0], str(self.entry[1])]
        process = self.layout.client.call(
            lambda: subprocess.Popen([*command, *options], stderr=subprocess.PIPE)
        )
        try:
            deadline = time.monotonic() + 10
            while counter.value() == before:
                if process.poll() is not None or time.monotonic() > deadline:
                    self.parties.check()
                    raise PartyFailed("no bulk data arrives")
                time.sleep(0.005)
            yield counter.value
            if process.poll() not in (None, 0):
                raise PartyFailed("the bulk load failed")
        finally:
            process.kill()
            process.communicate()
            self._settle(counter)

    def _settle(self, counter: traffic.Counter) -> None:
        """Wait until what is still on its way has arrived, so that the next load starts alone.

        A system without flow control may need a while.
        """
        deadline = time.monotonic() + 20
        last = -1
        while counter.value() != last and time.monotonic() < deadline:
            last = counter.value()
            time.sleep(0.1)

    def bulk(
        self,
        seconds: float,
        streams: int = 1,
        *,
        warm: float = 1.0,
        down: bool = False,
        text: bool = False,
    ) -> Bulk:
        """Bytes per second over ``seconds``, after ``warm`` seconds, and the CPU they cost."""
        with self.sending(seconds + warm + 2, streams, down=down, text=text) as received:
            time.sleep(warm)
            return self.sample(received, lambda: time.sleep(seconds))[0]

    def sample(self, received: Callable[[], int], meanwhile: Callable[[], T]) -> tuple[Bulk, T]:
        """The bulk rate while ``meanwhile`` runs, and what that returned."""
        cpu, count, start = self.parties.cpu_seconds(), received(), time.monotonic()
        result = meanwhile()
        end, arrived = time.monotonic(), received() - count
        spent = self.parties.cpu_seconds() - cpu
        cost = spent / (arrived / GIB) if arrived and self.parties.running else float("nan")
        return Bulk(arrived / (end - start), cost), result

    def stop(self) -> None:
        """End the system and its applications."""
        self.parties.stop()
        self._applications.stop()


@contextlib.contextmanager
def rigs(
    systems: Sequence[System], layout: Layout, notes: list[str], *, quiet_if_missing: bool = False
) -> Iterator[list[Rig]]:
    """Start each system that can be; ``notes`` gets a line for each that cannot."""
    running: list[Rig] = []
    try:
        for system in systems:
            missing = system.missing()
            if missing:
                if not quiet_if_missing:
                    notes.append(f"{system.name}: not installed: {', '.join(missing)}")
                continue
            rig = Rig(system, layout)
            running.append(rig)
            try:
                rig.start()
            except (PartyFailed, loads.LoadError, OSError, subprocess.CalledProcessError) as error:
                notes.append(f"{system.name}: did not start: {describe(error)}")
                running.pop().stop()
        yield running
    finally:
        for rig in running:
            rig.stop()


def describe(error: Exception) -> str:
    """One line; of a program that failed, what it said."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr or b""
        lines = said.decode(errors="replace").strip().splitlines()
        program = Path(error.cmd[0]).name
        return f"{program} ended with status {error.returncode}" + (
            f": {lines[-1]}" if lines else ""
        )
    return str(error)
